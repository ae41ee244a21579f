"""Where two models differ: rates by condition, speaker, duration, SNR, confidence and word class, with intervals."""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mondegreen.records import Utterance
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.metrics import cluster_name, cluster_sums, with_words
from mondegreen.scoring.normalizer import words_of
from mondegreen.scoring.significance import block_bootstrap, holm, two_sided
from mondegreen.scoring.verdict import Unit
from mondegreen.scoring.wer import Counts, align_words, confusions

SliceKind = Literal["condition", "speaker", "duration", "snr", "confidence", "word class"]
PERMUTATIONS = 10_000  # a slice is looked at, it does not decide
FEWEST = 5  # utterances from which on a rate has an interval and a p-value
DURATIONS = (2.0, 5.0, 10.0, 20.0)  # seconds
SNRS = (5.0, 10.0, 20.0, 30.0)  # dB
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95)
WORD_CLASSES = ("numbers", "letters", "names", "function words", "content words")


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
_SENTENCE = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)[.!?:]\s+")
_WORD = re.compile(r"\w(?:[\w']*\w)?")


def word_class(word: str, names: Container[str] = ()) -> str:
    """One of WORD_CLASSES, for a normalised English word; "a" and "i" are function words, not letters.

    Args:
        names: what `names_in` finds in its text.
    """
    if word.isdecimal():
        return "numbers"
    return _CLASSES.get(word) or ("letters" if len(word) == 1 else "names" if word in names else "content words")


def names_in(reference: str) -> frozenset[str]:
    """Normalised words that a text writes with a capital within a sentence, as English writes names.

    None where it has no small letters, or words in capitals alone: such a text does not tell.
    """
    found = set[str]()
    for sentence in _SENTENCE.split(reference.replace("\u2019", "'")):
        words = _WORD.findall(sentence)
        if any(word[0].islower() for word in words):
            found.update(word for word in words[1:] if word[0].isupper() and not word.isupper())
    return frozenset(word.lower().removesuffix("'s") for word in found) | frozenset(map(str.lower, found))


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
