"""The label filter: may a language model's suggestion become a label? Rules decide, none of which asks the LLM again.

The rules are the guards of params.yaml, in the order of GUARDS. Every one that is switched on looks at every
suggestion, so that the log tells what each would say alone; the first that rejects gives the reason.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import jellyfish
from pydantic import BaseModel, ConfigDict, Field

from mondegreen.config import GUARDS, GuardName, LabelParams
from mondegreen.records import Writer
from mondegreen.scoring.normalizer import words_of
from mondegreen.scoring.wer import align_words

LabelOutcome = Literal["accepted", "rejected", "unanswered", "unavailable"]


@dataclass(frozen=True)
class Span:
    """Neighbouring words that were changed. `start` is the position of the first in the hypothesis."""

    start: int
    hypothesis: tuple[str, ...]
    suggested: tuple[str, ...]

    @property
    def edits(self) -> int:
        """Words changed, added or taken away."""
        return max(len(self.hypothesis), len(self.suggested))


@dataclass(frozen=True)
class LabelEvidence:
    """A hypothesis, what an LLM suggests in its place, and what is known of both.

    Texts are normalised: words between single spaces.

    Args:
        hypothesis: what the recogniser wrote.
        suggested: the LLM's text.
        word_confidences: one for each word of `hypothesis`; () when nobody knows.
        confidence: of the whole hypothesis.
        nbest: the recogniser's other texts.
        unwritable: why the tokenizer cannot write the suggestion, "" when it can.
        fall: log probability for each frame that the suggestion loses against the hypothesis on the same audio, None
            when it could not be scored.
        margin: how much it may lose, None when nothing says so.
        others: what the other models that were asked wrote.
    """

    hypothesis: str
    suggested: str
    word_confidences: tuple[float, ...] = ()
    confidence: float = 0.0
    nbest: tuple[str, ...] = ()
    unwritable: str = ""
    fall: float | None = None
    margin: float | None = None
    others: tuple[str, ...] = ()

    @cached_property
    def changes(self) -> list[Span]:
        """What was changed, from left to right."""
        return list(spans(self.hypothesis, self.suggested))

    @property
    def is_unchanged(self) -> bool:
        return self.hypothesis == self.suggested


@dataclass(frozen=True)
class FilterDecision:
    """What the filter says of a suggestion. `checks`: what every guard that was on said, "" for yes."""

    accepted: bool
    guard: GuardName | None  # the one that decided; None where every guard let it pass
    reason: str
    checks: Mapping[GuardName, str]


class LabelDecision(BaseModel):
    """A row of build/label/guards.jsonl and review.jsonl: what became of one hypothesis.

    `unanswered`: the LLM's answer was no transcript; `unavailable`: there was no LLM to answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    path: str
    heard: str  # the hypothesis
    confidence: float = 0.0
    suggested: str = ""
    outcome: LabelOutcome
    guard: str = ""  # the one that decided, "" when all let it pass or there was nothing to decide on
    reason: str
    checks: dict[str, str] = Field(default_factory=dict)  # what every guard said, "" for yes
    fall: float | None = None  # log probability for each frame that the suggestion loses against the hypothesis
    writer: Writer | None = None
    evidence: LabelEvidence | None = Field(None, exclude=True, repr=False)  # what the filter saw; in no file

    @property
    def is_accepted(self) -> bool:
        return self.outcome == "accepted"


def filter_label(evidence: LabelEvidence, params: LabelParams) -> FilterDecision:
    """Runs the guards of `params.guards`. A pure function: the same evidence and limits give the same decision."""
    checks = {name: RULES[name](evidence, params) for name in GUARDS if name in params.guards}
    kept = evidence.is_unchanged and evidence.hypothesis and evidence.confidence >= params.keep_text
    if "confident" in checks and kept and not evidence.unwritable:
        return FilterDecision(True, "confident", "confident, and left as it was", checks)
    for name, reason in checks.items():
        if reason:
            return FilterDecision(False, name, reason, checks)
    return FilterDecision(True, None, "", checks)


def confident(evidence: LabelEvidence, params: LabelParams) -> str:
    """Sure words stay; a doubtful transcript, or word, that was left as it is has nobody to vouch for it."""
    if evidence.is_unchanged and evidence.confidence < params.keep_text:
        return f"left as it is, though its confidence is only {evidence.confidence:.2f}"
    if len(evidence.word_confidences) != len(words_of(evidence.hypothesis)):
        return "" if evidence.is_unchanged else "the confidence of its words is not known"
    for span in evidence.changes:
        for word, sure in zip(span.hypothesis, evidence.word_confidences[span.start :], strict=False):
            if sure >= params.keep_word:
                return f"changes {word!r}, which is sure ({sure:.2f})"
    return "" if evidence.is_unchanged else _left_doubtful(evidence, params.doubtful_below)


def _left_doubtful(evidence: LabelEvidence, below: float) -> str:
    changed = {span.start + place for span in evidence.changes for place in range(len(span.hypothesis))}
    for place, (word, sure) in enumerate(zip(words_of(evidence.hypothesis), evidence.word_confidences, strict=True)):
        if sure < below and place not in changed:
            return f"leaves {word!r} as it is, though its confidence is only {sure:.2f}"
    return ""


def edits(evidence: LabelEvidence, params: LabelParams) -> str:
    """A correction is small: the rest of the transcript is evidence, and a rewriting throws it away."""
    words, letters = len(words_of(evidence.hypothesis)), len(evidence.hypothesis)
    changed = sum(span.edits for span in evidence.changes)
    if changed > params.max_word_edits * words:
        return f"changes {changed} of {words} words"
    distance = jellyfish.levenshtein_distance(evidence.hypothesis, evidence.suggested)
    if distance > params.max_character_edits * letters:
        return f"changes {distance} of {letters} characters"
    ratio = max(letters, len(evidence.suggested)) / max(1, min(letters, len(evidence.suggested)))
    return f"{ratio:.1f} times as long or short" if ratio > params.max_length_ratio else ""


def vocabulary(evidence: LabelEvidence, params: LabelParams) -> str:
    """What the tokenizer cannot write cannot be trained on; what has no words says nothing."""
    return evidence.unwritable or ("" if evidence.suggested else "it has no words")


def sound(evidence: LabelEvidence, params: LabelParams) -> str:
    """New words stand so in the recogniser's N-best, or sound like what it wrote."""
    in_nbest = {span for text in evidence.nbest for span in spans(evidence.hypothesis, text)}
    for span in evidence.changes:
        hypothesis, suggested = " ".join(span.hypothesis), " ".join(span.suggested)
        distance = phonetic_distance(hypothesis, suggested)
        if span not in in_nbest and distance > params.max_sound_distance:
            return f"{suggested!r} does not sound like {hypothesis!r} ({distance:.2f})"
    return ""


def acoustic(evidence: LabelEvidence, params: LabelParams) -> str:
    """The audio itself, through the same model: the words must not fit it much worse than the hypothesis."""
    if evidence.is_unchanged:
        return ""
    if evidence.margin is None:
        return "no margin: too few human references to calibrate it on"
    if evidence.fall is None or not math.isfinite(evidence.fall):
        return "it cannot be scored on this audio"
    if evidence.fall > evidence.margin:
        return f"fits the audio worse by {evidence.fall:.3f} a frame, {evidence.margin:.3f} is allowed"
    return ""


def agreement(evidence: LabelEvidence, params: LabelParams) -> str:
    """Other models and further samples of this one, when they are configured, write the same words.

    Agreement of samples: Wang et al., "Self-consistency improves chain of thought reasoning in language models", ICLR
    2023. One that gave no answer does not agree.
    """
    asked = len(params.also_ask) + params.samples
    same = sum(text == evidence.suggested for text in evidence.others)
    return f"{same} of {asked} other answers agree" if same < params.min_agreement * asked else ""


# A rule says why it rejects, or "".
RULES: Mapping[GuardName, Callable[[LabelEvidence, LabelParams], str]] = {
    "confident": confident,
    "edits": edits,
    "vocabulary": vocabulary,
    "sound": sound,
    "acoustic": acoustic,
    "agreement": agreement,
}


def phonetic_distance(hypothesis: str, suggested: str) -> float:
    """From 0 (the same) to 1 (nothing in common), over spans of normalised words; word boundaries do not count.

    The mean of two edit distances, each divided by the longer length: over the letters, and over the Metaphone keys
    (Philips, "Hanging on the Metaphone", 1990; jellyfish's). A small CTC model spells by ear, so that letters carry
    sound too; docs/labels.md compares the measures.
    """
    texts = (hypothesis, suggested)
    keys = [jellyfish.metaphone(text).replace(" ", "") for text in texts]
    letters = [text.replace(" ", "") for text in texts]
    return (_relative(*keys) + _relative(*letters)) / 2


def _relative(left: str, right: str) -> float:
    return jellyfish.levenshtein_distance(left, right) / max(len(left), len(right), 1)


def spans(hypothesis: str, suggested: str) -> Iterator[Span]:
    """Runs of unequal words of the least-edits alignment."""
    left: list[str] = []
    right: list[str] = []
    position = start = 0
    for operation, word, written in [*align_words(hypothesis, suggested), ("equal", None, None)]:
        if operation == "equal":
            if left or right:
                yield Span(start, tuple(left), tuple(right))
            left, right, position = [], [], position + 1
            start = position
            continue
        left += [word] if word is not None else []
        right += [written] if written is not None else []
        position += word is not None
