"""Where two models differ: rates by condition, speaker, duration, SNR, confidence and word class, with intervals."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from mondegreen.scoring.alignment import align_words, confusions
from mondegreen.scoring.bands import CONFIDENCES, DURATIONS, SNRS, WORD_CLASSES, band, bands, word_class
from mondegreen.scoring.bootstrap import Counts, block_bootstrap
from mondegreen.scoring.comparison import Comparison, Unit, cluster_name, cluster_sums
from mondegreen.scoring.significance import holm, two_sided

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
