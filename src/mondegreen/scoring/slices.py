"""Where two models differ: rates by condition, speaker, duration, SNR, confidence and word class, with intervals.

The names of the slices that a number or a word falls in, in the order in which people read them.

Everything that `mondegreen compare` says of two models, neither of which is the candidate: tests are two-sided.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict

from mondegreen.config import Params
from mondegreen.records import SliceMetrics
from mondegreen.scoring.comparison import Comparison, cluster_name, cluster_sums, gather
from mondegreen.scoring.evidence import Evidence, IntervalMethod, Unit
from mondegreen.scoring.significance import (
    EXACT_CLUSTERS,
    Counts,
    block_bootstrap,
    holm,
    minimum_detectable_effect,
    signed_rank_test,
    two_sided,
)
from mondegreen.scoring.wer import Scored, align_words, confusions, score

DURATIONS = (2.0, 5.0, 10.0, 20.0)  # seconds
SNRS = (5.0, 10.0, 20.0, 30.0)  # dB
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95)
WORD_CLASSES = ("numbers", "letters", "function words", "content words")

_NUMBERS = """
zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion
first second third fourth fifth sixth seventh eighth ninth tenth
"""
# The closed classes of English: articles, pronouns, prepositions, conjunctions, auxiliaries and their contractions.
_FUNCTION_WORDS = """
a an the this that these those i you he she it we they me him her us them my your his its our their mine yours hers
ours theirs myself yourself himself herself itself ourselves themselves who whom whose which what where when why how
and or but nor so yet if because although though while until unless since than as whether of in on at by for with
about against between into through during before after above below to from up down out off over under again then
once here there not no am is are was were be been being have has had having do does did doing will would shall
should can could may might must ought i'm you're he's she's it's we're they're i've you've we've they've i'd you'd
he'd she'd we'd they'd i'll you'll he'll she'll it'll we'll they'll isn't aren't wasn't weren't hasn't haven't
hadn't doesn't don't didn't won't wouldn't shan't shouldn't can't cannot couldn't mustn't that's what's who's
there's here's let's
"""
_CLASSES = {
    **dict.fromkeys(_FUNCTION_WORDS.split(), "function words"),
    **dict.fromkeys(_NUMBERS.split(), "numbers"),
}


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


def word_class(word: str) -> str:
    """One of WORD_CLASSES, for a normalised English word; "a" and "i" are function words, not letters."""
    if word.isdecimal():
        return "numbers"
    return _CLASSES.get(word) or ("letters" if len(word) == 1 else "content words")


Kind = Literal["condition", "speaker", "duration", "snr", "confidence", "word class"]
PERMUTATIONS = 10_000  # a slice is looked at, it does not decide
_UNITS: tuple[Unit, ...] = get_args(Unit)
_ORDER = {
    name: rank
    for rank, name in enumerate([*bands(DURATIONS, "s"), *bands(SNRS, "dB"), *bands(CONFIDENCES), *WORD_CLASSES])
}


@dataclass(frozen=True)
class Estimate:
    """A rate or a difference of rates, as a fraction. The interval is None where one cluster is all there is."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Slice:
    """A part of the utterances, or of the words, under both models."""

    kind: Kind
    name: str
    utterances: int
    words: int  # of the references
    unit: Unit  # that the intervals resample: the comparison's, or a narrower one where the slice has only one of those
    clusters: int
    baseline: Estimate
    candidate: Estimate
    improvement: Estimate  # baseline - candidate
    p_value: float | None  # sign-flip, two-sided, Holm over the slices of the kind; None with one cluster


@dataclass(frozen=True)
class Confusion:
    """How often a word was heard as another by each model. None: nothing was said, or nothing was heard."""

    said: str | None
    heard: str | None
    baseline: int
    candidate: int


@dataclass(frozen=True)
class _Counted:
    position: int  # of the utterance in the comparison
    baseline: int  # errors
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

    The rate is corpus WER; for a word class it is the share of its words in the references that were not heard as they
    were said (an inserted word stands in no reference, and counts in no class). Confidence is the baseline's, so that
    both models are seen on the same utterances.

    Args:
        snr: dB by utterance ID, where it is known; the manifest does not hold it.
        level: of the intervals, two-sided, from a block bootstrap of `samples` draws.
    """
    members: dict[tuple[Kind, str], list[_Counted]] = defaultdict(list)
    for kind, name, counted in [*_by_utterance(comparison, snr or {}), *_by_word(comparison)]:
        members[kind, name].append(counted)
    kinds = Counter(kind for kind, _ in members)
    found: list[Slice] = []
    for kind in get_args(Kind):
        parts = [(name, rows) for (its, name), rows in members.items() if its == kind and kinds[kind] > 1]
        parts.sort(key=lambda part: (_ORDER.get(part[0], 0), part[0]))
        found += _adjusted([_slice(comparison, kind, name, rows, level, samples, seed) for name, rows in parts])
    return found


def confusion_changes(comparison: Comparison, limit: int = 20) -> list[Confusion]:
    """The most frequent confusions of either model, by the larger count, ties in alphabetical order."""
    old, new = (
        {(said, heard): count for said, heard, count in confusions(((p.reference, p.heard) for p in pairs), limit=None)}
        for pairs in (comparison.baseline, comparison.candidate)
    )
    rows = [Confusion(*key, old.get(key, 0), new.get(key, 0)) for key in old.keys() | new.keys()]
    rows.sort(key=lambda row: (-max(row.baseline, row.candidate), row.said or "", row.heard or ""))
    return rows[:limit]


def _by_utterance(comparison: Comparison, snr: Mapping[str, float]) -> Iterator[tuple[Kind, str, _Counted]]:
    for position, (old, new) in enumerate(zip(comparison.baseline, comparison.candidate, strict=True)):
        utterance = old.utterance
        counted = _Counted(position, old.words.errors, new.words.errors, old.words.reference_length)
        yield "condition", utterance.condition, counted
        yield "duration", band(utterance.duration, DURATIONS, "s"), counted
        yield "confidence", band(old.hypothesis.confidence, CONFIDENCES), counted
        if utterance.speaker:
            yield "speaker", utterance.speaker, counted
        if not np.isnan(known := snr.get(utterance.id, np.nan)):
            yield "snr", band(known, SNRS, "dB"), counted


def _by_word(comparison: Comparison) -> Iterator[tuple[Kind, str, _Counted]]:
    for position, (old, new) in enumerate(zip(comparison.baseline, comparison.candidate, strict=True)):
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for model, pair in enumerate((old, new)):
            for operation, said, _ in align_words(pair.reference, pair.heard):
                if said is not None:
                    counts[word_class(said)][model] += operation != "equal"
        for word in old.reference.split():
            counts[word_class(word)][2] += 1
        for name, (before, after, words) in counts.items():
            yield "word class", name, _Counted(position, before, after, words)


def _adjusted(rows: list[Slice]) -> list[Slice]:
    """The slices of one kind with their p-values adjusted for being several."""
    tested = [row.p_value for row in rows if row.p_value is not None]
    adjusted = iter(holm(tested))
    return [row if row.p_value is None else replace(row, p_value=next(adjusted)) for row in rows]


def _slice(
    comparison: Comparison, kind: Kind, name: str, rows: list[_Counted], level: float, samples: int, seed: int
) -> Slice:
    unit, clusters = _clusters(comparison, rows)
    old = cluster_sums(clusters, [row.baseline for row in rows])
    new = cluster_sums(clusters, [row.candidate for row in rows])
    words = cluster_sums(clusters, [row.words for row in rows])
    nothing = np.zeros_like(words)

    def estimate(first: Counts, second: Counts) -> Estimate:
        value = int((first - second).sum()) / int(words.sum())
        if len(words) < 2:
            return Estimate(value, None)
        return Estimate(value, block_bootstrap(first, second, words, samples, seed).interval(level))

    return Slice(
        kind=kind,
        name=name,
        utterances=len(rows),
        words=int(words.sum()),
        unit=unit,
        clusters=len(words),
        baseline=estimate(old, nothing),
        candidate=estimate(new, nothing),
        improvement=estimate(old, new),
        p_value=two_sided(old - new, PERMUTATIONS, seed) if len(words) > 1 else None,
    )


def _clusters(comparison: Comparison, rows: list[_Counted]) -> tuple[Unit, list[str]]:
    """The cluster of each row, by the widest unit of which there are two."""
    utterances = [comparison.baseline[row.position].utterance for row in rows]
    for unit in _UNITS[_UNITS.index(comparison.unit) :]:
        names = [cluster_name(utterance, unit) for utterance in utterances]
        if len(set(names)) > 1:
            break
    return unit, names


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
