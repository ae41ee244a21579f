"""May a language model's suggestion become a label? Guards decide, one after the other, each of them without the LLM.

The order is that of GUARDS: confident, edits, vocabulary, sound, acoustic, agreement. Every guard that is switched on
looks at every case, so that the log tells what each would say alone; the first that rejects gives the reason.

How alike two spellings sound: a misheard word is close to what was said, an invented one is not.

The rules of the guards: pure functions from a case and limits to the reason of a reject, "" for none.

Did an edit help? Each is taken back alone, and the errors against the reference are counted again.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import jellyfish
from pydantic import BaseModel, ConfigDict

from mondegreen.config import GUARDS, GuardName, LabelParams
from mondegreen.labels.gold import EditCounts
from mondegreen.records import Writer
from mondegreen.scoring.wer import align_words, count_words


def phonetic_distance(heard: str, written: str) -> float:
    """From 0 (the same) to 1 (nothing in common), over spans of normalised words; word boundaries do not count.

    The mean of two edit distances, each divided by the longer length: over the letters, and over the Metaphone keys
    (Philips, "Hanging on the Metaphone", 1990; jellyfish's). A small CTC model spells by ear, so that letters carry
    sound too; docs/labels.md compares the measures.
    """
    keys = [jellyfish.metaphone(text).replace(" ", "") for text in (heard, written)]
    letters = [text.replace(" ", "") for text in (heard, written)]
    return (_relative(*keys) + _relative(*letters)) / 2


def _relative(left: str, right: str) -> float:
    longer = max(len(left), len(right))
    return jellyfish.levenshtein_distance(left, right) / longer if longer else 0.0


@dataclass(frozen=True)
class LabelEvidence:
    """A transcript and what an LLM suggests in its place. Texts are normalised: words between single spaces.

    Args:
        heard: the hypothesis.
        suggested: the LLM's text.
        word_confidences: one for each word of `heard`; () when nobody knows.
        confidence: of the whole hypothesis.
        nbest: the recogniser's other texts.
        unwritable: why the tokenizer cannot write the suggestion, "" when it can.
        fall: log probability for each frame that the suggestion loses against the hypothesis on the same audio, None
            when it could not be scored.
        margin: how much it may lose, None when nothing says so.
        others: what the other models that were asked wrote.
    """

    heard: str
    suggested: str
    word_confidences: tuple[float, ...] = ()
    confidence: float = 0.0
    nbest: tuple[str, ...] = ()
    unwritable: str = ""
    fall: float | None = None
    margin: float | None = None
    others: tuple[str, ...] = ()

    @cached_property
    def changes(self) -> list["Span"]:
        """What was changed, from left to right."""
        return list(spans(self.heard, self.suggested))

    @property
    def is_unchanged(self) -> bool:
        return self.heard == self.suggested


@dataclass(frozen=True)
class Span:
    """Neighbouring words that were changed. `start` is the position of the first in the hypothesis."""

    start: int
    heard: tuple[str, ...]
    written: tuple[str, ...]

    @property
    def edits(self) -> int:
        """Words changed, added or taken away."""
        return max(len(self.heard), len(self.written))


def is_kept(case: LabelEvidence, params: LabelParams) -> bool:
    """A confident transcript that the LLM left as it is."""
    return case.is_unchanged and bool(case.heard) and case.confidence >= params.keep_text and not case.unwritable


def confident(case: LabelEvidence, params: LabelParams) -> str:
    """Sure words stay; a doubtful transcript that was left as it is has nobody to vouch for it."""
    if case.is_unchanged and case.confidence < params.keep_text:
        return f"left as it is, though its confidence is only {case.confidence:.2f}"
    if len(case.word_confidences) != len(case.heard.split()):
        return "" if case.is_unchanged else "the confidence of its words is not known"
    for span in case.changes:
        for word, sure in zip(span.heard, case.word_confidences[span.start :], strict=False):
            if sure >= params.keep_word:
                return f"changes {word!r}, which is sure ({sure:.2f})"
    return ""


def edits(case: LabelEvidence, params: LabelParams) -> str:
    """A correction is small: the rest of the transcript is evidence, and a rewriting throws it away."""
    words, letters = len(case.heard.split()), len(case.heard)
    changed = sum(span.edits for span in case.changes)
    if changed > params.max_word_edits * words:
        return f"changes {changed} of {words} words"
    distance = jellyfish.levenshtein_distance(case.heard, case.suggested)
    if distance > params.max_character_edits * letters:
        return f"changes {distance} of {letters} characters"
    ratio = max(letters, len(case.suggested)) / max(1, min(letters, len(case.suggested)))
    return f"{ratio:.1f} times as long or short" if ratio > params.max_length_ratio else ""


def vocabulary(case: LabelEvidence, params: LabelParams) -> str:
    """What the tokenizer cannot write cannot be trained on; what has no words says nothing."""
    return case.unwritable or ("" if case.suggested else "it has no words")


def sound(case: LabelEvidence, params: LabelParams) -> str:
    """New words were heard by the recogniser (N-best), or sound like what it wrote."""
    for span in case.changes:
        if any(_holds(text.split(), span, case.heard) for text in case.nbest):
            continue
        heard, written = " ".join(span.heard), " ".join(span.written)
        distance = phonetic_distance(heard, written)
        if distance > params.max_sound_distance:
            return f"{written!r} does not sound like {heard!r} ({distance:.2f})"
    return ""


def acoustic(case: LabelEvidence, params: LabelParams) -> str:
    """The audio itself, through the same model: the words must not fit it much worse than what was heard."""
    if case.is_unchanged:
        return ""
    if case.margin is None:
        return "no margin: too few human references to calibrate it on"
    if case.fall is None or not math.isfinite(case.fall):
        return "it cannot be scored on this audio"
    if case.fall > case.margin:
        return f"fits the audio worse by {case.fall:.3f} a frame, {case.margin:.3f} is allowed"
    return ""


def agreement(case: LabelEvidence, params: LabelParams) -> str:
    """Other models and further samples of this one, when they are configured, write the same words.

    Agreement of samples: Wang et al., "Self-consistency improves chain of thought reasoning in language models", ICLR
    2023. One that gave no answer does not agree.
    """
    asked = len(params.also_ask) + params.samples
    same = sum(text == case.suggested for text in case.others)
    return f"{same} of {asked} other answers agree" if same < params.min_agreement * asked else ""


def spans(heard: str, suggested: str) -> Iterator[Span]:
    """Runs of unequal words of the least-edits alignment."""
    left: list[str] = []
    right: list[str] = []
    position = start = 0
    for operation, word, written in [*align_words(heard, suggested), ("equal", None, None)]:
        if operation == "equal":
            if left or right:
                yield Span(start, tuple(left), tuple(right))
            left, right, position = [], [], position + 1
            start = position
            continue
        left += [word] if word is not None else []
        right += [written] if written is not None else []
        position += word is not None


def _holds(alternative: Sequence[str], span: Span, heard: str) -> bool:
    """Whether an alternative has the written words in the place of those heard."""
    return any(
        other.written == span.written and other.start == span.start and other.heard == span.heard
        for other in spans(heard, " ".join(alternative))
    )


# A rule says why it rejects, or "".
RULES: Mapping[GuardName, Callable[[LabelEvidence, LabelParams], str]] = {
    "confident": confident,
    "edits": edits,
    "vocabulary": vocabulary,
    "sound": sound,
    "acoustic": acoustic,
    "agreement": agreement,
}


@dataclass(frozen=True)
class FilterDecision:
    """What became of a suggestion. `checks`: what every guard that was on said, "" for yes."""

    accepted: bool
    guard: GuardName | None  # the one that decided; None where every guard let it pass
    reason: str
    checks: Mapping[GuardName, str]


def filter_label(case: LabelEvidence, params: LabelParams) -> FilterDecision:
    """Runs the guards of `params.guards`. A pure function: the same case and limits give the same decision."""
    checks = {name: RULES[name](case, params) for name in GUARDS if name in params.guards}
    if "confident" in checks and is_kept(case, params):
        return FilterDecision(True, "confident", "confident, and left as it was", checks)
    for name, reason in checks.items():
        if reason:
            return FilterDecision(False, name, reason, checks)
    return FilterDecision(True, None, "", checks)


LabelOutcome = Literal["accepted", "rejected", "unanswered", "unavailable"]


class LabelDecision(BaseModel):
    """A row of build/label/guards.jsonl and review.jsonl: what became of one hypothesis.

    `unanswered`: the LLM's answer was no transcript; `unavailable`: there was no LLM to answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    path: str
    heard: str
    confidence: float
    suggested: str  # "" without a suggestion
    outcome: LabelOutcome
    guard: str  # the one that decided, "" when all let it pass or there was nothing to decide on
    reason: str
    checks: dict[str, str]  # what every guard said, "" for yes
    fall: float | None  # log probability for each frame that the suggestion loses against what was heard
    writer: Writer | None

    @property
    def is_accepted(self) -> bool:
        return self.outcome == "accepted"


def count_edits(reference: str, heard: str, suggested: str) -> EditCounts:
    """Edits from `heard` to `suggested` by what taking each of them back alone does to the word errors.

    Args:
        reference: normalised, as the others.
    """
    words = suggested.split()
    errors = count_words(reference, suggested).errors
    counts = EditCounts()
    shift = 0  # from a position in `heard` to the one in `suggested`
    for span in spans(heard, suggested):
        restored = _restored(words, span, shift)
        shift += len(span.written) - len(span.heard)
        change = count_words(reference, " ".join(restored)).errors - errors
        counts += EditCounts(better=int(change > 0), worse=int(change < 0), same=int(change == 0))
    return counts


def _restored(words: list[str], span: Span, shift: int) -> list[str]:
    start = span.start + shift
    return [*words[:start], *span.heard, *words[start + len(span.written) :]]
