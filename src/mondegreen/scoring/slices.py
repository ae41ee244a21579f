"""Where two models differ: rates by condition, speaker, duration, SNR, confidence and word class, with intervals.

Of any two models, also of other recognisers: everything that `mondegreen compare` says of them.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import Params
from mondegreen.delimited import Notice
from mondegreen.records import SliceMetrics, Utterance
from mondegreen.scoring.comparison import Comparison, gather
from mondegreen.scoring.metrics import Scored, cluster_name, cluster_sums, score, with_words
from mondegreen.scoring.normalizer import Measure, measure_of, words_of
from mondegreen.scoring.significance import (
    EXACT_CLUSTERS,
    block_bootstrap,
    holm,
    minimum_detectable_effect,
    signed_rank_test,
    two_sided,
)
from mondegreen.scoring.verdict import Evidence, IntervalMethod, TermScore, Unit
from mondegreen.scoring.wer import Counts, align_words, confusions
from mondegreen.scoring.word_classes import WORD_CLASSES, names_in, word_class
from mondegreen.scoring.wording import many, reach

SliceKind = Literal["condition", "speaker", "duration", "snr", "confidence", "word class"]
PERMUTATIONS = 10_000  # a slice is looked at, it does not decide
FEWEST = 5  # utterances from which on a rate has an interval and a p-value
DURATIONS = (2.0, 5.0, 10.0, 20.0)  # seconds
SNRS = (5.0, 10.0, 20.0, 30.0)  # dB
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95)


def band(value: float, edges: tuple[float, ...], unit: str = "") -> str:
    """The band between two edges: "under 2 s", "2 to 5 s", "20 s and more"; the lower edge belongs to it."""
    place, tail = bisect_right(edges, value), f" {unit}" if unit else ""
    if place == 0:
        return f"under {edges[0]:g}{tail}"
    if place == len(edges):
        return f"{edges[-1]:g}{tail} and more"
    return f"{edges[place - 1]:g} to {edges[place]:g}{tail}"


def bands(edges: tuple[float, ...], unit: str = "") -> list[str]:
    """All names that `band` gives, the lowest first."""
    return [band(value, edges, unit) for value in (edges[0] - 1, *edges)]


_ORDER = {
    name: rank
    for rank, name in enumerate([*bands(DURATIONS, "s"), *bands(SNRS, "dB"), *bands(CONFIDENCES), *WORD_CLASSES])
}


class CompareModel(BaseModel):
    """In the JSON of `mondegreen compare` the models are called a and b, and words were said and heard."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Estimate(CompareModel):
    """A rate or a difference of rates, as a fraction; no bounds of one cluster, or of fewer than five utterances."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both bounds, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class Slice(CompareModel):
    """A part of the utterances, or of the words, under both models."""

    kind: SliceKind
    name: str
    utterances: int
    words: int  # of the references
    unit: Unit  # that the intervals resample: the comparison's, or a narrower one where the slice has only one of those
    clusters: int
    baseline: Estimate = Field(serialization_alias="a")
    candidate: Estimate = Field(serialization_alias="b")
    improvement: Estimate = Field(serialization_alias="difference")  # baseline - candidate
    p_value: float | None  # sign-flip, two-sided, Holm over the slices of the kind; None with few utterances


class Confusion(CompareModel):
    """How often each model took one word for another. None: nothing was said, or the hypothesis has no word there."""

    reference: str | None = Field(serialization_alias="said")
    hypothesis: str | None = Field(serialization_alias="heard")
    counts: tuple[int, int]  # baseline, candidate


class _Part(NamedTuple):
    """What one utterance adds to a slice: errors of either model, and words of the reference."""

    utterance: Utterance
    baseline: int
    candidate: int
    words: int


def slices(
    comparison: Comparison,
    snr: Mapping[str, float] | None = None,
    level: float = 0.95,
    samples: int = 2_000,
    seed: int = 0,
) -> list[Slice]:
    """Every slice that is not the whole: a kind with one member, such as an unknown duration, is left out.

    The rate is corpus WER; for a word class it is the share of its words in the references that were not recognised
    (an inserted word stands in no reference, and counts in no class). Confidence is the baseline's, so that both models
    are seen on the same utterances.

    Args:
        snr: dB by utterance ID, where it is known; the manifest does not hold it.
        level: of the intervals, two-sided, from a block bootstrap of `samples` draws.
    """
    parts_of: dict[tuple[SliceKind, str], list[_Part]] = defaultdict(list)
    for kind, name, part in [*_by_utterance(comparison, snr or {}), *_by_word(comparison)]:
        parts_of[kind, name].append(part)
    members = {key: parts for key, parts in parts_of.items() if any(part.words for part in parts)}
    kinds = Counter(kind for kind, _ in members)
    found: list[Slice] = []
    for kind in get_args(SliceKind):
        names = [name for its, name in members if its == kind and kinds[kind] > 1]
        names.sort(key=lambda name: (_ORDER.get(name, 0), name))
        found += _adjusted(
            [_slice(comparison.unit, kind, name, members[kind, name], level, samples, seed) for name in names]
        )
    return found


def confusion_changes(comparison: Comparison, limit: int = 20) -> list[Confusion]:
    """The most frequent confusions of either model, by the larger count, ties in alphabetical order."""
    sides = comparison.baseline, comparison.candidate
    old, new = (confusions((pair.reference, pair.text) for pair in side) for side in sides)
    rows = [
        Confusion(reference=said, hypothesis=found, counts=(old[said, found], new[said, found]))
        for said, found in old.keys() | new.keys()
    ]
    rows.sort(key=lambda row: (-max(row.counts), row.reference or "", row.hypothesis or ""))
    return rows[:limit]


def _by_utterance(comparison: Comparison, snr: Mapping[str, float]) -> Iterator[tuple[SliceKind, str, _Part]]:
    for old, new in comparison.pairs:
        utterance = old.utterance
        part = _Part(utterance, old.words.errors, new.words.errors, old.words.reference_length)
        yield "condition", utterance.condition, part
        yield "duration", band(utterance.duration, DURATIONS, "s"), part
        yield "confidence", band(old.hypothesis.confidence, CONFIDENCES), part
        if utterance.speaker:
            yield "speaker", utterance.speaker, part
        if not np.isnan(known := snr.get(utterance.id, np.nan)):
            yield "snr", band(known, SNRS, "dB"), part


def _by_word(comparison: Comparison) -> Iterator[tuple[SliceKind, str, _Part]]:
    for old, new in comparison.pairs:
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])  # wrong by each model, all
        names = names_in(old.utterance.reference)
        for model, pair in enumerate((old, new)):
            for operation, word, _ in align_words(pair.reference, pair.text):
                if word is not None:
                    counts[word_class(word, names)][model] += operation != "equal"
        for word in words_of(old.reference):
            counts[word_class(word, names)][2] += 1
        for name, (before, after, words) in counts.items():
            yield "word class", name, _Part(old.utterance, before, after, words)


def _adjusted(rows: list[Slice]) -> list[Slice]:
    """The slices of one kind with their p-values adjusted for being several."""
    adjusted = iter(holm([row.p_value for row in rows if row.p_value is not None]))
    return [row if row.p_value is None else row.model_copy(update={"p_value": next(adjusted)}) for row in rows]


def _slice(
    unit: Unit, kind: SliceKind, name: str, parts: Sequence[_Part], level: float, samples: int, seed: int
) -> Slice:
    unit, clusters = _clusters(unit, parts)
    old = cluster_sums(clusters, [part.baseline for part in parts])
    new = cluster_sums(clusters, [part.candidate for part in parts])
    words = cluster_sums(clusters, [part.words for part in parts])
    nothing, enough = np.zeros_like(words), len(words) > 1 and _spoken(parts) >= FEWEST

    def estimate(first: Counts, second: Counts) -> Estimate:
        value = int((first - second).sum()) / int(words.sum())
        if not enough:
            return Estimate(value=value)
        low, high = block_bootstrap(first, second, words, samples, seed).interval(level)
        return Estimate(value=value, low=low, high=high)

    return Slice(
        kind=kind,
        name=name,
        utterances=len(parts),
        words=int(words.sum()),
        unit=unit,
        clusters=len(words),
        baseline=estimate(old, nothing),
        candidate=estimate(new, nothing),
        improvement=estimate(old, new),
        p_value=two_sided(old - new, PERMUTATIONS, seed) if enough else None,
    )


def _spoken(parts: Sequence[_Part]) -> int:
    """Utterances that a slice has words of."""
    return len({part.utterance.id for part in parts if part.words})


def _clusters(unit: Unit, parts: Sequence[_Part]) -> tuple[Unit, list[str]]:
    """The cluster of each utterance, by the widest unit from `unit` on of which there are two."""
    units: tuple[Unit, ...] = get_args(Unit)
    for narrower in units[units.index(unit) :]:
        names = [cluster_name(part.utterance, narrower) for part in parts]
        names = with_words(names, [part.words for part in parts])
        if len(set(names)) > 1:
            break
    return narrower, names


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


class Spellings(CompareModel):
    """The rates under the normaliser that was not chosen, and why they differ."""

    normalizer: str
    a: float
    b: float
    warning: str = ""  # "": they say the same
    causes: tuple[str, ...] = ()


class TermRow(CompareModel):
    """One term in all utterances."""

    term: str
    said: int
    missed: tuple[int, int]  # by A, by B
    invented: tuple[int, int]


class TermRates(CompareModel):
    """The error rate of terms: those missed and those invented, for each that was said."""

    file: str
    said: int
    rates: tuple[float, float]  # of A, of B
    difference: float  # A - B
    interval: tuple[float, float] | None  # None: too little to say one
    rows: tuple[TermRow, ...]  # those that were said or heard, the most errors first
    never: int  # terms of the file that nobody said or heard
    scores: tuple[TermScore, TermScore]  # of A, of B


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
