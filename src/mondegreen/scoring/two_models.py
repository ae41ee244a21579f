"""What `mondegreen compare` says of any two models, also of other recognisers: rates, tests, and where they differ."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from mondegreen.config import Params
from mondegreen.delimited import Notice
from mondegreen.records import SliceMetrics
from mondegreen.scoring.comparison import Comparison, gather
from mondegreen.scoring.metrics import Scored, score
from mondegreen.scoring.normalizer import Measure, measure_of
from mondegreen.scoring.significance import EXACT_CLUSTERS, block_bootstrap, minimum_detectable_effect, signed_rank_test
from mondegreen.scoring.slices import FEWEST, CompareModel, Confusion, Estimate, Slice, confusion_changes, slices
from mondegreen.scoring.spellings import Spellings
from mondegreen.scoring.terms import TermRates
from mondegreen.scoring.verdict import Evidence, IntervalMethod, Unit
from mondegreen.scoring.wer import Counts
from mondegreen.scoring.wording import many, reach


class Side(CompareModel):
    """One model on all utterances."""

    name: str
    metrics: SliceMetrics
    wer: Estimate
    failed: int  # utterances with an error in place of a transcript; they count as fully wrong


class TwoSidedTest(CompareModel):
    """A test of no difference. `p_value` is None where nothing varies, or the utterances are too few for one."""

    name: str
    over: str  # what it takes as independent, and how many
    p_value: float | None


class ChangedUtterance(CompareModel):
    """An utterance in which one model makes fewer word errors than the other."""

    id: str
    errors: tuple[int, int]  # a, b
    reference: str
    texts: tuple[str, str] = Field(serialization_alias="heard")


class TwoModels(CompareModel):
    """Rates are fractions; a difference is a - b, so positive where b makes fewer errors."""

    a: Side
    b: Side
    difference: Estimate
    level: float
    interval_method: IntervalMethod
    unit: Unit
    clusters: int
    utterances: int
    words: int
    speakers: int
    without_reference: int
    silent: int = 0  # references in which nothing was said
    machine_references: int  # written by a machine: they do not judge, they only show agreement with it
    normalizer: str

    @property
    def measure(self) -> Measure:
        """What the rates under `wer` are: CER where the texts part no words by blanks."""
        return measure_of(self.normalizer)

    tests: tuple[TwoSidedTest, ...]
    effect_size: float | None  # Hedges' g over clusters
    clusters_better: tuple[int, int]  # with fewer errors by a, by b
    minimum_detectable_effect: float | None  # two-sided at 1 - level, power 0.8
    slices: tuple[Slice, ...]
    better_by_b: tuple[ChangedUtterance, ...]
    better_by_a: tuple[ChangedUtterance, ...]
    confusions: tuple[Confusion, ...]
    few_clusters: str = ""  # how far the intervals reach, where the clusters are few or no speakers
    spellings: Spellings | None = None  # the same under the other normaliser; None: there is none for these scripts
    terms: TermRates | None = None
    sclite: bool = False  # words are counted by its alignment
    notices: tuple[Notice, ...] = ()  # of the files that were read


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
    alpha, bounded = params.validate_.alpha, _bounded(comparison)
    bounds = evidence.interval if bounded else (None, None)
    detectable = minimum_detectable_effect(comparison.differences, comparison.words, alpha / 2)
    return TwoModels(
        a=_side(names[0], comparison, comparison.baseline, comparison.baseline_errors, params),
        b=_side(names[1], comparison, comparison.candidate, comparison.candidate_errors, params),
        difference=Estimate(value=evidence.improvement, low=bounds[0], high=bounds[1]),
        level=evidence.level,
        interval_method=evidence.interval_method,
        **comparison.size(),
        silent=sum(not pair.words.reference_length for pair in comparison.baseline),
        machine_references=sum(pair.utterance.reference_source != "human" for pair in comparison.baseline),
        normalizer=normalizer,
        few_clusters=_few(comparison, params),
        tests=_tests(comparison, evidence, params),
        effect_size=evidence.effect_size.hedges_g if bounded else None,
        clusters_better=(evidence.effect_size.worse, evidence.effect_size.better),
        minimum_detectable_effect=detectable if bounded else None,
        slices=tuple(slices(comparison, snr, 1 - alpha, seed=params.seed)),
        better_by_b=_changed(comparison, 1, limit),
        better_by_a=_changed(comparison, -1, limit),
        confusions=tuple(confusion_changes(comparison, limit)),
    )


def _bounded(comparison: Comparison) -> bool:
    """Whether there is enough to say an interval."""
    return comparison.clusters > 1 and sum(bool(pair.reference) for pair in comparison.baseline) >= FEWEST


def _few(comparison: Comparison, params: Params) -> str:
    least, found = params.validate_.min_clusters, many(comparison.clusters, comparison.unit)
    said = f"{found} are fewer than the {least} that a verdict needs: intervals are too narrow and tests see little"
    if comparison.clusters < least:
        return said
    return reach(comparison.unit, comparison.speakers)


def _side(name: str, comparison: Comparison, pairs: Sequence[Scored], errors: Counts, params: Params) -> Side:
    metrics, rules = score(pairs), params.validate_
    low, high = None, None
    if _bounded(comparison):
        sample = block_bootstrap(errors, np.zeros_like(errors), comparison.words, rules.bootstrap_samples, params.seed)
        low, high = sample.interval(1 - rules.alpha)
    return Side(
        name=name,
        metrics=metrics,
        wer=Estimate(value=metrics.wer.rate, low=low, high=high),
        failed=sum(bool(pair.hypothesis.error) for pair in pairs),
    )


def _tests(comparison: Comparison, evidence: Evidence, params: Params) -> tuple[TwoSidedTest, ...]:
    over = f"{comparison.clusters} {comparison.unit}s"
    flips = "exact" if comparison.clusters <= EXACT_CLUSTERS else f"{params.validate_.permutations:,} flips"
    t, z = evidence.cluster_t.p_value, evidence.segments.p_value
    better, worse = (signed_rank_test(sign * comparison.differences, comparison.words).p_value for sign in (1, -1))
    one_sided: tuple[tuple[str, str, float | None, float | None], ...] = (
        ("sign-flip permutation", f"{over}, {flips}", evidence.p_better, evidence.p_worse),
        ("cluster-robust t", over, t, None if t is None else 1 - t),
        ("Wilcoxon signed rank", over, better, worse),
        ("MAPSSWE", f"{evidence.segments.segments} segments", z, None if z is None else 1 - z),
    )
    known = _bounded(comparison)
    return tuple(
        TwoSidedTest(name=name, over=what, p_value=_two_sided(b, a) if known else None)
        for name, what, b, a in one_sided
    )


def _two_sided(better: float | None, worse: float | None) -> float | None:
    return None if better is None or worse is None else min(1.0, 2 * min(better, worse))


def _changed(comparison: Comparison, sign: Literal[1, -1], limit: int) -> tuple[ChangedUtterance, ...]:
    """The utterances with the largest difference of word errors in one direction."""
    return tuple(
        ChangedUtterance(
            id=old.utterance.id,
            errors=(old.words.errors, new.words.errors),
            reference=old.reference,
            texts=(old.text, new.text),
        )
        for old, new in comparison.most_changed(sign, limit, ties="id")
    )
