"""The utterances that changed most."""

from dataclasses import dataclass

from mondegreen.records import Utterance
from mondegreen.scoring.alignment import AlignedWord, align_words
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.metrics import Scored


@dataclass(frozen=True)
class Change:
    """An utterance under both models: errors lost (negative) or gained, and which word was heard as which."""

    utterance: Utterance
    reference: str
    before: list[AlignedWord]
    after: list[AlignedWord]
    change: int
    errors: tuple[int, int]  # words wrong: baseline, candidate
    words: int  # of the reference


def changed_most(compared: Comparison, limit: int = 10) -> tuple[list[Change], list[Change]]:
    """The utterances that lost and that gained the most word errors, the largest change first, ties by path."""
    pairs = [
        (new.words.errors - old.words.errors, old, new)
        for old, new in zip(compared.baseline, compared.candidate, strict=True)
    ]
    pairs.sort(key=lambda item: (-abs(item[0]), item[1].utterance.path))
    better = [_change(*item) for item in [pair for pair in pairs if pair[0] < 0][:limit]]
    worse = [_change(*item) for item in [pair for pair in pairs if pair[0] > 0][:limit]]
    return better, worse


def _change(change: int, old: Scored, new: Scored) -> Change:
    return Change(
        utterance=old.utterance,
        reference=old.reference,
        before=align_words(old.reference, old.heard),
        after=align_words(new.reference, new.heard),
        change=change,
        errors=(old.words.errors, new.words.errors),
        words=old.words.reference_length,
    )
