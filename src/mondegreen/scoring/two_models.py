"""Everything that `mondegreen compare` says of two models, neither of which is the candidate: tests are two-sided."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.records import SliceMetrics
from mondegreen.scoring.bootstrap import IntervalMethod, block_bootstrap
from mondegreen.scoring.cluster_tests import signed_rank_test
from mondegreen.scoring.comparison import Comparison, Unit
from mondegreen.scoring.evidence import Evidence, gather
from mondegreen.scoring.metrics import Scored, score
from mondegreen.scoring.significance import EXACT_CLUSTERS, minimum_detectable_effect
from mondegreen.scoring.slices import Estimate, Slice, confusion_changes, slices


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Model):
    """A rate, or a difference of rates, as a fraction; no bounds where one cluster is all there is."""

    value: float
    low: float | None
    high: float | None


class Side(_Model):
    """One model on all utterances."""

    name: str
    metrics: SliceMetrics
    wer: Range
    failed: int  # utterances with an error in place of a transcript; they count as fully wrong


class Test(_Model):
    """A test of no difference, two-sided. `p_value` is None where nothing varies."""

    __test__ = False  # none of pytest's

    name: str
    over: str  # what it takes as independent, and how many
    p_value: float | None


class SliceRow(_Model):
    """A slice under both models; `p_value` is Holm's over the slices of its kind."""

    kind: str
    name: str
    utterances: int
    words: int
    unit: Unit
    clusters: int
    a: Range
    b: Range
    difference: Range
    p_value: float | None


class Change(_Model):
    """An utterance in which one model makes fewer word errors than the other."""

    id: str
    errors: tuple[int, int]  # a, b
    reference: str
    heard: tuple[str, str]


class ConfusionRow(_Model):
    """How often each model heard a word as another; None where nothing was said or heard."""

    said: str | None
    heard: str | None
    counts: tuple[int, int]  # a, b


class TwoModels(_Model):
    """Rates are fractions; a difference is a - b, so positive where b makes fewer errors."""

    a: Side
    b: Side
    difference: Range
    level: float
    interval_method: IntervalMethod
    unit: Unit
    clusters: int
    utterances: int
    words: int
    speakers: int
    without_reference: int
    machine_references: int  # written by a machine: they do not judge, they only show agreement with it
    normalizer: str
    tests: tuple[Test, ...]
    effect_size: float | None  # Hedges' g over clusters
    clusters_better: tuple[int, int]  # with fewer errors by a, by b
    minimum_detectable_effect: float | None  # two-sided at 1 - level, power 0.8
    slices: tuple[SliceRow, ...]
    better_by_b: tuple[Change, ...]
    better_by_a: tuple[Change, ...]
    confusions: tuple[ConfusionRow, ...]


def two_models(
    comparison: Comparison,
    names: tuple[str, str],
    params: Params,
    normalizer: str,
    limit: int,
    snr: Mapping[str, float] | None = None,
) -> TwoModels:
    """The whole comparison; ValueError when no utterance has a reference.

    Args:
        names: of the baseline side (a) and the candidate side (b).
        params: `validate` and `seed` are read.
        normalizer: its name and version, for the record.
        limit: of utterances and confusions in each list.
        snr: dB by utterance ID, where it is known.
    """
    evidence = gather(comparison, params)
    alpha = params.validate_.alpha
    return TwoModels(
        a=_side(comparison, names, "a", params),
        b=_side(comparison, names, "b", params),
        difference=Range(value=evidence.improvement, low=evidence.interval[0], high=evidence.interval[1])
        if comparison.clusters > 1
        else Range(value=evidence.improvement, low=None, high=None),
        level=evidence.level,
        interval_method=evidence.interval_method,
        unit=comparison.unit,
        clusters=comparison.clusters,
        utterances=len(comparison.baseline),
        words=int(comparison.words.sum()),
        speakers=comparison.speakers,
        without_reference=comparison.without_reference,
        machine_references=sum(pair.utterance.reference_source != "human" for pair in comparison.baseline),
        normalizer=normalizer,
        tests=_tests(comparison, evidence, params),
        effect_size=evidence.effect_size.hedges_g,
        clusters_better=(evidence.effect_size.worse, evidence.effect_size.better),
        minimum_detectable_effect=minimum_detectable_effect(comparison.differences, comparison.words, alpha / 2),
        slices=tuple(_slice_row(row) for row in slices(comparison, snr, 1 - alpha, seed=params.seed)),
        better_by_b=_changes(comparison, 1, limit),
        better_by_a=_changes(comparison, -1, limit),
        confusions=tuple(
            ConfusionRow(said=row.said, heard=row.heard, counts=(row.baseline, row.candidate))
            for row in confusion_changes(comparison, limit)
        ),
    )


def _side(comparison: Comparison, names: tuple[str, str], side: Literal["a", "b"], params: Params) -> Side:
    pairs, errors, name = (
        (comparison.baseline, comparison.baseline_errors, names[0])
        if side == "a"
        else (comparison.candidate, comparison.candidate_errors, names[1])
    )
    metrics = score(pairs)
    rules = params.validate_
    low, high = None, None
    if comparison.clusters > 1:
        sample = block_bootstrap(errors, np.zeros_like(errors), comparison.words, rules.bootstrap_samples, params.seed)
        low, high = sample.interval(1 - rules.alpha)
    return Side(
        name=name,
        metrics=metrics,
        wer=Range(value=metrics.wer.rate, low=low, high=high),
        failed=sum(bool(pair.hypothesis.error) for pair in pairs),
    )


def _tests(comparison: Comparison, evidence: Evidence, params: Params) -> tuple[Test, ...]:
    over = f"{comparison.clusters} {comparison.unit}s"
    flips = "exact" if comparison.clusters <= EXACT_CLUSTERS else f"{params.validate_.permutations:,} flips"
    other_rank = signed_rank_test(-comparison.differences, comparison.words)
    found = (
        ("sign-flip permutation", f"{over}, {flips}", evidence.p_better, evidence.p_worse),
        ("cluster-robust t", over, evidence.cluster_t.p_value, _rest(evidence.cluster_t.p_value)),
        ("Wilcoxon signed rank", over, evidence.wilcoxon.p_value, other_rank.p_value),
        (
            "MAPSSWE",
            f"{evidence.segments.segments} segments",
            evidence.segments.p_value,
            _rest(evidence.segments.p_value),
        ),
    )
    return tuple(
        Test(name=name, over=what, p_value=None if one is None or other is None else min(1.0, 2 * min(one, other)))
        for name, what, one, other in found
    )


def _rest(p_value: float | None) -> float | None:
    return None if p_value is None else 1 - p_value


def _range(estimate: Estimate) -> Range:
    low, high = estimate.interval or (None, None)
    return Range(value=estimate.value, low=low, high=high)


def _slice_row(row: Slice) -> SliceRow:
    return SliceRow(
        kind=row.kind,
        name=row.name,
        utterances=row.utterances,
        words=row.words,
        unit=row.unit,
        clusters=row.clusters,
        a=_range(row.baseline),
        b=_range(row.candidate),
        difference=_range(row.improvement),
        p_value=row.p_value,
    )


def _changes(comparison: Comparison, sign: int, limit: int) -> tuple[Change, ...]:
    """The utterances with the largest difference of word errors in one direction, ties by ID."""

    def gain(pair: tuple[Scored, Scored]) -> int:
        return sign * (pair[0].words.errors - pair[1].words.errors)

    pairs = [pair for pair in zip(comparison.baseline, comparison.candidate, strict=True) if gain(pair) > 0]
    pairs.sort(key=lambda pair: (-gain(pair), pair[0].utterance.id))
    return tuple(
        Change(
            id=old.utterance.id,
            errors=(old.words.errors, new.words.errors),
            reference=old.reference,
            heard=(old.heard, new.heard),
        )
        for old, new in pairs[:limit]
    )
