"""Word and character errors: counted, summed and aligned.

Errors have one type, `ErrorCounts`. It adds and has no mean, so a mean of utterance WERs cannot be written.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from rapidfuzz.distance import Levenshtein

from mondegreen.errors import UsageError
from mondegreen.records import Hypothesis, Metrics, Rate, SliceMetrics, Utterance
from mondegreen.scoring.normalizer import NormalizerName, normalize, normalizer_id
from mondegreen.scoring.wording import some

Operation = Literal["equal", "substitute", "delete", "insert"]
AlignedWord = tuple[Operation, str | None, str | None]
_OPERATIONS: dict[str, Operation] = {
    "equal": "equal", "replace": "substitute", "delete": "delete", "insert": "insert",
}  # fmt: skip
_SLICE_ORDER = {name: rank for rank, name in enumerate(["test", "retention", "dev", "train"])}


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one alignment, or of the sum of many; words or characters, never both in one sum.

    The corpus rate is `sum(counts, ErrorCounts.zero()).rate`: the sum of errors over the sum of reference lengths.
    After meeteval's ErrorRate (https://github.com/fgnt/meeteval).
    """

    substitutions: int
    deletions: int
    insertions: int
    reference_length: int

    def __post_init__(self) -> None:
        if min(self.substitutions, self.deletions, self.insertions, self.reference_length) < 0:
            raise ValueError(f"Counts cannot be negative: {self}.")
        if self.substitutions + self.deletions > self.reference_length:
            raise ValueError(f"More substitutions and deletions than the reference is long: {self}.")

    @classmethod
    def zero(cls) -> "ErrorCounts":
        """The neutral element of `+`."""
        return cls(substitutions=0, deletions=0, insertions=0, reference_length=0)

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        if not isinstance(other, ErrorCounts):
            return NotImplemented
        return ErrorCounts(**{name: count + vars(other)[name] for name, count in vars(self).items()})

    @property
    def hits(self) -> int:
        """Reference tokens that were recognised."""
        return self.reference_length - self.substitutions - self.deletions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors for each reference token; above 1 when much was inserted.

        Raises:
            ValueError: nothing was said, so there is nothing to divide by.
        """
        if self.reference_length == 0:
            raise ValueError("An error rate needs a reference with at least one token; this one is empty.")
        return self.errors / self.reference_length

    def to_rate(self) -> Rate:
        """The record for metrics files; raises ValueError like `rate`."""
        return Rate(errors=self.errors, rate=self.rate, **vars(self))


def count_words(reference: str, hypothesis: str) -> ErrorCounts:
    """Word errors of the least-edits alignment of two normalised texts; either may be empty.

    rapidfuzz does the work, as it does for jiwer, which gives the same counts.
    """
    return _counts(*as_numbers(reference.split(), hypothesis.split()))


def count_characters(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors, spaces included, of two normalised texts; either may be empty."""
    return _counts(reference, hypothesis)


def as_numbers(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[list[int], list[int]]:
    """Both texts with a number in the place of each word; equal words have equal numbers."""
    numbers: dict[str, int] = {}
    first = [numbers.setdefault(word, len(numbers)) for word in reference]
    return first, [numbers.setdefault(word, len(numbers)) for word in hypothesis]


def _counts(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> ErrorCounts:
    tags = [edit.tag for edit in Levenshtein.editops(reference, hypothesis)]
    return ErrorCounts(
        substitutions=tags.count("replace"),
        deletions=tags.count("delete"),
        insertions=tags.count("insert"),
        reference_length=len(reference),
    )


@dataclass(frozen=True)
class Scored:
    """An utterance beside a model's hypothesis. One with an error counts as empty."""

    utterance: Utterance
    hypothesis: Hypothesis
    reference: str  # normalised
    text: str  # of the hypothesis, normalised
    words: ErrorCounts
    characters: ErrorCounts


@dataclass(frozen=True)
class Joined:
    """What can be scored, in the order of the utterances, and how many utterances nobody wrote a reference for."""

    scored: tuple[Scored, ...]
    without_reference: int


def join(
    utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis], normalizer: NormalizerName = "spoken"
) -> Joined:
    """Pairs every utterance with its one hypothesis and counts the errors.

    An utterance whose reference is empty, or holds nothing but punctuation, is left out and counted.

    Raises:
        UsageError: an ID is missing on one side, or stands twice.
    """
    by_id = {hypothesis.id: hypothesis for hypothesis in hypotheses}
    check_ids([utterance.id for utterance in utterances], [hypothesis.id for hypothesis in hypotheses])
    scored = []
    for utterance in utterances:
        reference = normalize(utterance.reference, normalizer)
        if reference:
            scored.append(_score_one(utterance, by_id[utterance.id], reference, normalizer))
    return Joined(scored=tuple(scored), without_reference=len(utterances) - len(scored))


def _score_one(utterance: Utterance, hypothesis: Hypothesis, reference: str, normalizer: NormalizerName) -> Scored:
    text = "" if hypothesis.error else normalize(hypothesis.text, normalizer)
    return Scored(
        utterance, hypothesis, reference, text, count_words(reference, text), count_characters(reference, text)
    )


def check_ids(utterances: list[str], hypotheses: list[str]) -> None:
    """UsageError when an ID is missing on one side, or stands twice."""
    for kind, ids in (("utterance", utterances), ("hypothesis", hypotheses)):
        if doubles := [key for key, count in Counter(ids).items() if count > 1]:
            raise UsageError(
                f"{len(doubles)} {kind} ID(s) stand more than once: {some(sorted(doubles))}.",
                "Rerun `dvc repro`: a stage wrote a file twice over.",
            )
    if missing := set(utterances) - set(hypotheses):
        raise UsageError(
            f"{len(missing)} utterance(s) have no hypothesis: {some(sorted(missing))}.",
            "Transcribe the same manifest with this model (`dvc repro`); a missing hypothesis is never skipped.",
        )
    if strangers := set(hypotheses) - set(utterances):
        raise UsageError(
            f"{len(strangers)} hypothesis ID(s) are not in the manifest: {some(sorted(strangers))}.",
            "The hypotheses belong to another manifest: rerun `dvc repro`.",
        )


def score(pairs: Sequence[Scored]) -> SliceMetrics:
    """Corpus WER and CER.

    Raises:
        ValueError: there are no pairs, so there is no rate.
    """
    return SliceMetrics(
        utterances=len(pairs),
        wer=sum((pair.words for pair in pairs), ErrorCounts.zero()).to_rate(),
        cer=sum((pair.characters for pair in pairs), ErrorCounts.zero()).to_rate(),
    )


def slice_names(utterance: Utterance) -> tuple[str, ...]:
    """The slices an utterance counts in: "test" and "test/noisy", or "retention" and "retention/test".

    What the model knew before is never mixed into "dev" or "test".
    """
    if utterance.domain == "retention":
        return ("retention", f"retention/{utterance.split}")
    return (utterance.split, f"{utterance.split}/{utterance.condition}")


def slice_metrics(pairs: Sequence[Scored]) -> dict[str, SliceMetrics]:
    """Rates of every slice that has a reference, the test slices first."""
    members: dict[str, list[Scored]] = defaultdict(list)
    for pair in pairs:
        for name in slice_names(pair.utterance):
            members[name].append(pair)
    names = sorted(members, key=lambda name: (_SLICE_ORDER[name.split("/")[0]], name))
    return {name: score(members[name]) for name in names}


def metrics_file(
    utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis], normalizer: NormalizerName = "spoken"
) -> Metrics:
    """metrics.json of transcribe and evaluate; `model` is the digest that the hypotheses carry.

    Raises:
        UsageError: like `join`, or the hypotheses come from more than one model.
    """
    return Metrics(
        model=model_of(hypotheses),
        normalizer=normalizer_id(normalizer),
        slices=slice_metrics(join(utterances, hypotheses, normalizer).scored),
    )


def model_of(hypotheses: Sequence[Hypothesis]) -> str:
    """The digest of the one model that wrote all hypotheses, "" when there are none; UsageError on a mixture."""
    digests = sorted({hypothesis.model for hypothesis in hypotheses})
    if len(digests) > 1:
        raise UsageError(
            f"The hypotheses come from {len(digests)} models: {', '.join(digest[:12] for digest in digests)}.",
            "Rerun the stage that writes them, so that one model transcribes every file.",
        )
    return digests[0] if digests else ""


def align_words(reference: str, hypothesis: str) -> list[AlignedWord]:
    """The least-edits alignment of two normalised texts, a row a word.

    Returns:
        `(operation, reference word, hypothesis word)`; None stands where one side has no word.
    """
    said, found = reference.split(), hypothesis.split()
    rows: list[AlignedWord] = []
    for run in Levenshtein.opcodes(*as_numbers(said, found)):
        # One operation over a run of words; an insertion has no left side, a deletion no right side.
        pairs = zip_longest(said[run.src_start : run.src_end], found[run.dest_start : run.dest_end])
        rows.extend((_OPERATIONS[run.tag], *pair) for pair in pairs)
    return rows


def confusions(pairs: Iterable[tuple[str, str]]) -> Counter[tuple[str | None, str | None]]:
    """How often which reference word became which hypothesis word, over normalised (reference, hypothesis) pairs."""
    rows = (row for pair in pairs for row in align_words(*pair))
    return Counter((said, found) for operation, said, found in rows if operation != "equal")
