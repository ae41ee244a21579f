"""From hypotheses to judged suggestions: the LLM is asked, the audio is asked, the guards decide, one record a case."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from mondegreen.config import LabelParams
from mondegreen.errors import MondegreenError
from mondegreen.labels.guards import Case, Decision, decide
from mondegreen.labels.suggestion import FailureReason, NoSuggestion, Question, Suggestion
from mondegreen.records import Hypothesis, Writer
from mondegreen.scoring.normalizer import normalize

if TYPE_CHECKING:
    from mondegreen.labels.acoustic import Claim, Ear

Outcome = Literal["accepted", "rejected", "unanswered", "unavailable"]
DOWN: frozenset[FailureReason] = frozenset({"unavailable", "timeout", "no_model", "changed_model"})


class Corrector(Protocol):
    """What suggests: `LlamaLLMCorrector`, or a stand-in."""

    def suggest(
        self, questions: Iterable[Question], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Suggestion | NoSuggestion]:
        """One answer for each question, in their order."""


class Judged(BaseModel):
    """A row of build/label/guards.jsonl and review.jsonl: what became of one hypothesis.

    `unanswered`: the LLM's answer was no transcript; `unavailable`: there was no LLM to answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    path: str
    heard: str
    confidence: float
    suggested: str  # "" without a suggestion
    outcome: Outcome
    guard: str  # the one that decided, "" when all let it pass or there was nothing to decide on
    reason: str
    checks: dict[str, str]  # what every guard said, "" for yes
    fall: float | None  # log probability for each frame that the suggestion loses against what was heard
    writer: Writer | None

    @property
    def is_accepted(self) -> bool:
        return self.outcome == "accepted"


@dataclass(frozen=True)
class Judgement:
    """A record with the case that the guards saw; None where there was no suggestion."""

    record: Judged
    case: Case | None


@dataclass(frozen=True)
class Judge:
    """Asks and decides.

    Args:
        correctors: the model, then those that must agree with it (`label.also_ask`, `label.samples`).
        ear: scores texts on the audio.
        margin: of the acoustic check; None rejects all that is changed.
        params: limits and guards.
    """

    correctors: Sequence[Corrector]
    ear: "Ear"
    margin: float | None
    params: LabelParams

    def judge(
        self,
        hypotheses: Sequence[Hypothesis],
        recordings: Sequence[str],
        on_progress: Callable[[int], None] = lambda count: None,
    ) -> list[Judgement]:
        """One judgement for each hypothesis, in the order given.

        Args:
            hypotheses: of the ear's model; their paths lead to the audio.
            recordings: the source recording of each, "" when nobody knows it.
            on_progress: gets the number of answers there are.

        Raises:
            MondegreenError: the LLM is not there, and label.on_unavailable is "fail".
        """
        questions = [_question(item, source) for item, source in zip(hypotheses, recordings, strict=True)]
        answers, *others = self._answers(questions, on_progress)
        self._check_available(answers)
        texts = [answer.text if isinstance(answer, Suggestion) else "" for answer in answers]
        unwritable = [self.ear.unwritable(text) for text in texts]
        falls = self.ear.falls(_claims(hypotheses, texts, unwritable))
        found = []
        for index, (item, answer) in enumerate(zip(hypotheses, answers, strict=True)):
            if isinstance(answer, NoSuggestion):
                found.append(_without_suggestion(item, answer))
                continue
            case = replace(
                case_of(item, answer.text),
                unwritable=unwritable[index],
                fall=next(iter(falls[index]), None),
                margin=self.margin,
                others=tuple(
                    normalize(said.text) for said in (row[index] for row in others) if isinstance(said, Suggestion)
                ),
            )
            found.append(_with_decision(item, answer, case, decide(case, self.params)))
        return found

    def _answers(
        self, questions: Sequence[Question], on_progress: Callable[[int], None]
    ) -> list[list[Suggestion | NoSuggestion]]:
        """Those of each corrector; progress is that of the last, when the others have answered."""
        return [
            list(corrector.suggest(questions, on_progress if corrector is self.correctors[-1] else None))
            for corrector in self.correctors
        ]

    def _check_available(self, answers: Sequence[Suggestion | NoSuggestion]) -> None:
        for answer in answers:
            if isinstance(answer, NoSuggestion) and answer.reason in DOWN and self.params.on_unavailable == "fail":
                raise MondegreenError(
                    f"There is no label for {answer.id}: {answer.message}",
                    "Start the server and run it again, or set label.on_unavailable to skip.",
                )


def _claims(hypotheses: Sequence[Hypothesis], texts: Sequence[str], unwritable: Sequence[str]) -> "list[Claim]":
    from mondegreen.labels.acoustic import Claim

    return [
        Claim(Path(item.path), item.text, (text,) if text and not refused else ())
        for item, text, refused in zip(hypotheses, texts, unwritable, strict=True)
    ]


def case_of(heard: Hypothesis, suggested: str) -> Case:
    """What the guards see of a hypothesis and a text, before the audio and other models were asked.

    Always under the "spoken" normaliser: the guards compare words as they are said, whatever rates are counted with.
    """
    words = tuple(word.confidence for word in heard.words for _ in normalize(word.text).split())
    return Case(
        heard=normalize(heard.text),
        suggested=normalize(suggested),
        word_confidences=words,
        confidence=heard.confidence,
        nbest=tuple(normalize(item.text) for item in heard.nbest),
    )


def _question(item: Hypothesis, recording: str) -> Question:
    return Question(
        id=item.id,
        recording=recording,
        text=item.text,
        confidence=item.confidence,
        words=tuple(item.words),
        nbest=tuple(item.nbest),
    )


def skipped(id_: str, path: str, heard: str, reason: str) -> Judged:
    """The record of what the LLM was not asked about."""
    return Judged(
        id=id_,
        path=path,
        heard=heard,
        confidence=0.0,
        suggested="",
        outcome="unanswered",
        guard="",
        reason=reason,
        checks={},
        fall=None,
        writer=None,
    )


def _without_suggestion(item: Hypothesis, answer: NoSuggestion) -> Judgement:
    found = skipped(item.id, item.path, item.text, answer.message)
    outcome: Outcome = "unavailable" if answer.reason in DOWN else "unanswered"
    return Judgement(found.model_copy(update={"confidence": item.confidence, "outcome": outcome}), None)


def _with_decision(item: Hypothesis, answer: Suggestion, case: Case, decision: Decision) -> Judgement:
    record = Judged(
        id=item.id,
        path=item.path,
        heard=item.text,
        confidence=item.confidence,
        suggested=answer.text,
        outcome="accepted" if decision.accepted else "rejected",
        guard=decision.guard or "",
        reason=decision.reason,
        checks={**decision.checks},
        fall=case.fall if case.fall is not None and math.isfinite(case.fall) else None,
        writer=Writer(model=answer.model, digest=answer.digest, prompt_version=answer.prompt_version),
    )
    return Judgement(record, case)
