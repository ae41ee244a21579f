"""Labels by a language model: it is asked, the audio is asked, the label filter decides; one decision a hypothesis.

What nobody wrote down gets a label so; what people labelled is asked about too, for the audit.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from mondegreen.config import LabelParams, Params
from mondegreen.errors import MondegreenError
from mondegreen.labels.acoustic import AcousticScorer, ScoringRequest, quantile_margin
from mondegreen.labels.audit import audit_labels
from mondegreen.labels.cluster import ClusterCorrector
from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.gold import LabelAudit
from mondegreen.labels.guards import LabelDecision, LabelEvidence, LabelOutcome, filter_label
from mondegreen.labels.prompt import FailureReason, NoSuggestion, Question, Shot, Suggestion, choose_shots
from mondegreen.records import Hypothesis, Label, Utterance, Writer
from mondegreen.scoring.normalizer import normalize, text_key, words_of

_DOWN: frozenset[FailureReason] = frozenset({"unavailable", "timeout", "no_model", "changed_model"})


class Corrector(Protocol):
    """What suggests: `LlamaLLMCorrector`, or a stand-in."""

    def suggest(
        self, questions: Iterable[Question], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Suggestion | NoSuggestion]:
        """One answer for each question, in their order."""


@dataclass(frozen=True)
class LlmLabeller:
    """Asks the LLM and the audio, and decides.

    Args:
        correctors: the model, then those that must agree with it (`label.also_ask`, `label.samples`).
        scorer: scores texts on the audio.
        margin: of the acoustic check; None rejects all that is changed.
        params: limits and guards.
    """

    correctors: Sequence[Corrector]
    scorer: AcousticScorer
    margin: float | None
    params: LabelParams

    def label(
        self,
        hypotheses: Sequence[Hypothesis],
        recordings: Sequence[str],
        on_progress: Callable[[int], None] | None = None,
    ) -> list[LabelDecision]:
        """One decision for each hypothesis, in the order given.

        Args:
            hypotheses: of the scorer's model; their paths lead to the audio.
            recordings: the source recording of each, "" when nobody knows it.
            on_progress: gets the number of answers there are.

        Raises:
            MondegreenError: the LLM is not there, and label.on_unavailable is "fail".
        """
        questions = [Question.of(item, source) for item, source in zip(hypotheses, recordings, strict=True)]
        answers, *others = (
            list(corrector.suggest(questions, on_progress if corrector is self.correctors[-1] else None))
            for corrector in self.correctors
        )
        self._check_available(answers)
        texts = [answer.text if isinstance(answer, Suggestion) else "" for answer in answers]
        unwritable = [self.scorer.unwritable(text) for text in texts]
        requests = [
            ScoringRequest(Path(item.path), item.text, (text,) if text and not refused else ())
            for item, text, refused in zip(hypotheses, texts, unwritable, strict=True)
        ]
        falls = [next(iter(found), None) for found in self.scorer.falls(requests)]
        rows = zip(hypotheses, answers, unwritable, falls, *others, strict=True)
        return [self._decision(item, answer, *known) for item, answer, *known in rows]

    def _check_available(self, answers: Sequence[Suggestion | NoSuggestion]) -> None:
        for answer in answers:
            if isinstance(answer, NoSuggestion) and answer.reason in _DOWN and self.params.on_unavailable == "fail":
                raise MondegreenError(
                    f"There is no label for {answer.id}: {answer.message}",
                    "Start the server and run it again, or set label.on_unavailable to skip.",
                )

    def _decision(
        self,
        item: Hypothesis,
        answer: Suggestion | NoSuggestion,
        unwritable: str,
        fall: float | None,
        *others: Suggestion | NoSuggestion,
    ) -> LabelDecision:
        """Compares words as they are said, under the "spoken" normaliser, whatever rates are counted with."""
        known: dict[str, Any] = {"id": item.id, "path": item.path, "heard": item.text, "confidence": item.confidence}
        if isinstance(answer, NoSuggestion):
            outcome: LabelOutcome = "unavailable" if answer.reason in _DOWN else "unanswered"
            return LabelDecision(**known, outcome=outcome, reason=answer.message)
        evidence = LabelEvidence(
            hypothesis=normalize(item.text),
            suggested=normalize(answer.text),
            word_confidences=tuple(word.confidence for word in item.words for _ in words_of(normalize(word.text))),
            confidence=item.confidence,
            nbest=tuple(normalize(other.text) for other in item.nbest),
            unwritable=unwritable,
            fall=fall,
            margin=self.margin,
            others=tuple(normalize(other.text) for other in others if isinstance(other, Suggestion)),
        )
        decision = filter_label(evidence, self.params)
        return LabelDecision(
            **known,
            suggested=answer.text,
            outcome="accepted" if decision.accepted else "rejected",
            guard=decision.guard or "",
            reason=decision.reason,
            checks=dict(decision.checks),
            fall=fall if fall is not None and math.isfinite(fall) else None,
            writer=Writer.model_validate(answer, from_attributes=True),
            evidence=evidence,
        )


@dataclass(frozen=True)
class Corpus:
    """Utterances with what the model wrote for them and their gold transcripts so far; both by id."""

    utterances: Sequence[Utterance]
    hypotheses: Mapping[str, Hypothesis]
    labels: Mapping[str, Label]

    @classmethod
    def of(cls, utterances: Sequence[Utterance], hypotheses: Sequence[Hypothesis], labels: Sequence[Label]) -> "Corpus":
        """The three files of the pipeline joined."""
        return cls(utterances, {item.id: item for item in hypotheses}, {item.id: item for item in labels})

    @cached_property
    def people(self) -> dict[str, str]:
        """What people wrote, by id."""
        return {key: label.text for key, label in self.labels.items() if label.source == "human"}

    @property
    def unlabelled(self) -> list[Utterance]:
        """Training utterances that have no label yet. Never of dev, test or retention: those judge."""
        return [
            item
            for item in self.utterances
            if item.split == "train" and item.domain == "target" and self.labels[item.id].source == "none"
        ]

    @property
    def known(self) -> list[Utterance]:
        """Utterances of train and dev that people labelled and the model could transcribe. Nothing of the test set."""
        return [
            item
            for item in self.utterances
            if item.split != "test" and item.domain == "target" and item.id in self.people and self.has_hypothesis(item)
        ]

    def has_hypothesis(self, item: Utterance) -> bool:
        """Whether the model could transcribe it."""
        return item.id in self.hypotheses and not self.hypotheses[item.id].error


@dataclass(frozen=True)
class LabellingPlan:
    """What the LLM will be asked. `wanted` has no label, `audited` has a person's."""

    shots: tuple[Shot, ...]
    wanted: list[Utterance]
    audited: list[Utterance]

    @property
    def asked(self) -> list[Utterance]:
        return [*self.wanted, *self.audited]


@dataclass(frozen=True)
class LlmLabels:
    """`labels`: one for each utterance that had none, of source llm, hypothesis or none. `decisions`: a question's."""

    labels: dict[str, Label]
    decisions: list[LabelDecision]
    audit: LabelAudit

    @property
    def review(self) -> list[LabelDecision]:
        """What waits for a person: no label, and no person's one."""
        return [item for item in self.decisions if item.id in self.labels and self.labels[item.id].source != "llm"]


def plan_labelling(corpus: Corpus, params: Params) -> LabellingPlan:
    """The examples, the utterances without a label, and the audit's. Nothing of the test set."""
    shots = shots_of(corpus, params)
    wanted = [item for item in corpus.unlabelled if corpus.has_hypothesis(item)]
    return LabellingPlan(shots, wanted, _to_audit(corpus, shots, params))


def _to_audit(corpus: Corpus, shots: Sequence[Shot], params: Params) -> list[Utterance]:
    """`label.audit_cases` utterances of train and dev that people labelled, by a seeded hash of their audio.

    None whose recording or text is an example of the prompt: the answer would be in the question.
    """
    texts = {key: text_key(text, params.score.normalizer) for key, text in corpus.people.items()}
    shown = {shot.recording for shot in shots} | {text_key(shot.text, params.score.normalizer) for shot in shots}
    fit = [item for item in corpus.known if texts[item.id] and not {item.recording, texts[item.id]} & shown]

    def rank(item: Utterance) -> str:
        return hashlib.sha256(f"{params.seed}/audit/{item.sha256}".encode()).hexdigest()

    chosen = {item.id for item in sorted(fit, key=rank)[: params.label.audit_cases]}
    return [item for item in fit if item.id in chosen]


def shots_of(corpus: Corpus, params: Params) -> tuple[Shot, ...]:
    """Examples for the prompt: what people wrote for misheard training utterances."""
    hypotheses, labels = list(corpus.hypotheses.values()), list(corpus.labels.values())
    return choose_shots(corpus.utterances, hypotheses, labels, params.label.few_shot, params.score.normalizer)


def calibrate_margin(corpus: Corpus, scorer: AcousticScorer, params: Params) -> tuple[float | None, int]:
    """The acoustic margin and how many references gave it; `label.acoustic_margin` and 0 where that is set."""
    if params.label.acoustic_margin is not None:
        return params.label.acoustic_margin, 0
    said, written = corpus.people, corpus.hypotheses
    requests = [
        ScoringRequest(Path(item.path), written[item.id].text, (said[item.id],))
        for item in corpus.known
        if normalize(said[item.id]) != normalize(written[item.id].text)
    ]
    falls = [fall for found in scorer.falls(requests) for fall in found]
    return quantile_margin(falls, params.label.acoustic_keep), len(falls)


def correctors(params: Params, shots: Sequence[Shot]) -> list[Corrector]:
    """The LLM of params.yaml, and those that must agree with it: other models, and samples of its own."""
    names = [params.label.model, *params.label.also_ask]
    models = [params.label.model_copy(update={"model": name}) for name in names]
    seeds = range(1, params.label.samples + 1)

    def opened(label: LabelParams, sample: int = 0) -> Corrector:
        if params.compute.engine == "ray":
            return ClusterCorrector(label, shots, params.compute, sample)
        return LlamaLLMCorrector.from_params(label, shots, sample=sample)

    return [*map(opened, models), *(opened(params.label, seed) for seed in seeds)]


def label_with_llm(
    corpus: Corpus,
    plan: LabellingPlan,
    scorer: AcousticScorer,
    params: Params,
    ask: Sequence[Corrector],
    on_progress: Callable[[int], None] | None = None,
) -> LlmLabels:
    """Asks about what has no label and about the audit's utterances, in one go, so that neither is asked differently.

    Args:
        corpus: all utterances.
        plan: for them.
        scorer: of the model that wrote the hypotheses.
        params: label, score, seed and validate are read.
        ask: see `correctors`.
        on_progress: gets the number of utterances that are done.

    Raises:
        MondegreenError: the LLM is not there, and label.on_unavailable is "fail".
    """
    margin, references = calibrate_margin(corpus, scorer, params)
    labeller = LlmLabeller(ask, scorer, margin, params.label)
    hypotheses = [corpus.hypotheses[item.id] for item in plan.asked]
    decisions = labeller.label(hypotheses, [item.recording for item in plan.asked], on_progress)
    by_id = {item.id: item for item in decisions}
    held_out = _held_out(corpus, params)
    labels = {item.id: _label(item, by_id.get(item.id), held_out, params) for item in corpus.unlabelled}
    known = {item.id: item.model_copy(update={"reference": corpus.people[item.id]}) for item in plan.audited}
    report = audit_labels(known, [by_id[item.id] for item in plan.audited], params, margin, references)
    return LlmLabels(labels, decisions, report)


def _held_out(corpus: Corpus, params: Params) -> set[str]:
    """Texts of the recordings that models are judged by."""
    judging = [item for item in corpus.utterances if item.judges]
    return {text_key(item.reference, params.score.normalizer) for item in judging} - {""}


def _label(item: Utterance, decision: LabelDecision | None, held_out: set[str], params: Params) -> Label:
    """What the filter's decision makes of an utterance without a label."""
    if decision is None:
        return Label(id=item.id, text="", source="none", note="no human reference, and it could not be transcribed")
    if decision.outcome == "unavailable" and params.label.on_unavailable == "use_hypothesis":
        note = f"what the model heard; no LLM: {decision.reason}"
        return Label(id=item.id, text=decision.heard, source="hypothesis", note=note)
    if not decision.is_accepted:
        why = f"{decision.guard}: {decision.reason}" if decision.guard else decision.reason
        return Label(id=item.id, text="", source="none", note=f"no human reference; LLM {decision.outcome}: {why}")
    if text_key(decision.suggested, params.score.normalizer) in held_out:
        return Label(id=item.id, text="", source="none", note="the LLM's text is that of a recording that judges")
    return Label(id=item.id, text=decision.suggested, source="llm", note="passed the guards", writer=decision.writer)
