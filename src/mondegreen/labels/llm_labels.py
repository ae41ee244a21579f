"""From hypotheses to judged suggestions: the LLM is asked, the audio is asked, the guards decide, one record a case.

How true a language model's labels are: its suggestions beside what people wrote, with and without each guard.

Labels by a language model for what nobody wrote down, and the audit of what it writes where somebody did.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.stats import binomtest

from mondegreen.config import GUARDS, GuardName, LabelParams, Params
from mondegreen.errors import MondegreenError
from mondegreen.labels.acoustic import AcousticScorer, ScoringRequest, quantile_margin
from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.gold import Accepted, EditCounts, EstimatedShare, LabelAudit
from mondegreen.labels.guards import (
    FilterDecision,
    LabelDecision,
    LabelEvidence,
    LabelOutcome,
    count_edits,
    filter_label,
)
from mondegreen.labels.prompt import FailureReason, NoSuggestion, Question, Shot, Suggestion, choose_shots
from mondegreen.records import Hypothesis, Label, Rate, Utterance, Writer
from mondegreen.scoring.comparison import choose_unit
from mondegreen.scoring.evidence import Unit
from mondegreen.scoring.normalizer import NormalizerName, normalize
from mondegreen.scoring.significance import block_bootstrap
from mondegreen.scoring.wer import ErrorCounts, count_words

if TYPE_CHECKING:
    from mondegreen.labels.acoustic import AcousticScorer, ScoringRequest

DOWN: frozenset[FailureReason] = frozenset({"unavailable", "timeout", "no_model", "changed_model"})


class Corrector(Protocol):
    """What suggests: `LlamaLLMCorrector`, or a stand-in."""

    def suggest(
        self, questions: Iterable[Question], on_progress: Callable[[int], None] | None = None
    ) -> Iterator[Suggestion | NoSuggestion]:
        """One answer for each question, in their order."""


@dataclass(frozen=True)
class Judgement:
    """A record with the case that the guards saw; None where there was no suggestion."""

    record: LabelDecision
    case: LabelEvidence | None


@dataclass(frozen=True)
class LlmLabeller:
    """Asks and decides.

    Args:
        correctors: the model, then those that must agree with it (`label.also_ask`, `label.samples`).
        scorer: scores texts on the audio.
        margin: of the acoustic check; None rejects all that is changed.
        params: limits and guards.
    """

    correctors: Sequence[Corrector]
    scorer: "AcousticScorer"
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
            hypotheses: of the scorer's model; their paths lead to the audio.
            recordings: the source recording of each, "" when nobody knows it.
            on_progress: gets the number of answers there are.

        Raises:
            MondegreenError: the LLM is not there, and label.on_unavailable is "fail".
        """
        questions = [_question(item, source) for item, source in zip(hypotheses, recordings, strict=True)]
        answers, *others = self._answers(questions, on_progress)
        self._check_available(answers)
        texts = [answer.text if isinstance(answer, Suggestion) else "" for answer in answers]
        unwritable = [self.scorer.unwritable(text) for text in texts]
        falls = self.scorer.falls(_claims(hypotheses, texts, unwritable))
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
            found.append(_with_decision(item, answer, case, filter_label(case, self.params)))
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


def _claims(
    hypotheses: Sequence[Hypothesis], texts: Sequence[str], unwritable: Sequence[str]
) -> "list[ScoringRequest]":
    from mondegreen.labels.acoustic import ScoringRequest

    return [
        ScoringRequest(Path(item.path), item.text, (text,) if text and not refused else ())
        for item, text, refused in zip(hypotheses, texts, unwritable, strict=True)
    ]


def case_of(heard: Hypothesis, suggested: str) -> LabelEvidence:
    """What the guards see of a hypothesis and a text, before the audio and other models were asked.

    Always under the "spoken" normaliser: the guards compare words as they are said, whatever rates are counted with.
    """
    words = tuple(word.confidence for word in heard.words for _ in normalize(word.text).split())
    return LabelEvidence(
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


def unanswered(id_: str, path: str, heard: str, reason: str) -> LabelDecision:
    """The record of what the LLM was not asked about."""
    return LabelDecision(
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
    found = unanswered(item.id, item.path, item.text, answer.message)
    outcome: LabelOutcome = "unavailable" if answer.reason in DOWN else "unanswered"
    return Judgement(found.model_copy(update={"confidence": item.confidence, "outcome": outcome}), None)


def _with_decision(item: Hypothesis, answer: Suggestion, case: LabelEvidence, decision: FilterDecision) -> Judgement:
    record = LabelDecision(
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


_LEVEL = 0.95
_MIN_CLUSTERS = 2  # of one, no interval can be drawn


@dataclass(frozen=True)
class _Case:
    """An audited utterance."""

    cluster: str
    reference: str
    heard: str
    suggested: str
    accepted: bool


def audit_labels(
    utterances: Mapping[str, Utterance],
    judgements: Sequence[Judgement],
    params: Params,
    margin: float | None = None,
    margin_references: int = 0,
) -> LabelAudit:
    """Scores the suggestions for utterances that have a person's reference.

    Args:
        utterances: by id.
        judgements: of these utterances.
        params: label, score, seed and validate (unit and resamples of the intervals) are read.
        margin: of the acoustic check.
        margin_references: how many references it was calibrated on.
    """
    audited = [utterances[item.record.id] for item in judgements]
    unit = choose_unit(audited, params.validate_)

    def scored(accepts: Callable[[Judgement], bool]) -> Accepted:
        cases = [
            _case(item, utterances[item.record.id], unit, accepts(item), params.score.normalizer) for item in judgements
        ]
        return _accepted(cases, params)

    sets: dict[str, tuple[GuardName, ...]] = {"none": (), **{name: (name,) for name in GUARDS}, "all": GUARDS}
    writers = {item.record.writer.model_dump_json(): item.record.writer for item in judgements if item.record.writer}
    heard = [_counts(utterances[item.record.id].reference, item.record.heard, params) for item in judgements]
    return LabelAudit(
        writers=[writers[key] for key in sorted(writers)],
        utterances=len(judgements),
        answered=sum(item.case is not None for item in judgements),
        unit=unit,
        heard=_rate(heard),
        margin=margin,
        margin_references=margin_references,
        result=scored(lambda item: item.record.is_accepted),
        by_guard={name: scored(partial(_passes, params=params.label, guards=on)) for name, on in sets.items()},
    )


def _passes(item: Judgement, params: LabelParams, guards: tuple[GuardName, ...]) -> bool:
    return item.case is not None and filter_label(item.case, params.model_copy(update={"guards": guards})).accepted


def _case(item: Judgement, utterance: Utterance, unit: Unit, accepted: bool, normalizer: NormalizerName) -> _Case:
    cluster = {"speaker": utterance.speaker, "recording": utterance.recording, "utterance": utterance.id}[unit]
    texts = (utterance.reference, item.record.heard, item.record.suggested)
    reference, heard, suggested = (normalize(text, normalizer) for text in texts)
    return _Case(cluster, reference, heard, suggested, accepted)


def _accepted(cases: Sequence[_Case], params: Params) -> Accepted:
    taken = [case for case in cases if case.accepted]
    before = [count_words(case.reference, case.heard) for case in taken]
    after = [count_words(case.reference, case.suggested) for case in taken]
    edits = [count_edits(case.reference, case.heard, case.suggested) for case in taken]
    clusters = [case.cluster for case in taken]
    words = [counts.reference_length for counts in before]
    gains = [old.errors - new.errors for old, new in zip(before, after, strict=True)]
    return Accepted(
        accepted=_share([case.accepted for case in cases], [1] * len(cases), [case.cluster for case in cases], params),
        heard=_rate(before),
        labels=_rate(after),
        reduction=round(sum(gains) / sum(words), 6) if sum(words) else None,
        interval=_interval(gains, words, clusters, params),
        edits=sum(edits, EditCounts()),
        harmful=_share([item.worse for item in edits], [item.total for item in edits], clusters, params),
    )


def _share(counts: Sequence[int], totals: Sequence[int], clusters: Sequence[str], params: Params) -> EstimatedShare:
    count, total = int(sum(counts)), sum(totals)
    if not total:
        return EstimatedShare(count=0, total=0, rate=None, interval=None)
    interval = _interval(counts, totals, clusters, params)
    if interval and count in (0, total):  # all clusters say the same, and so would every resample
        trials = len({cluster for cluster, below in zip(clusters, totals, strict=True) if below})
        exact = binomtest(trials if count else 0, trials).proportion_ci(_LEVEL)
        interval = round(float(exact.low), 6), round(float(exact.high), 6)
    return EstimatedShare(count=count, total=total, rate=round(count / total, 6), interval=interval)


def _interval(
    numerators: Sequence[int], denominators: Sequence[int], clusters: Sequence[str], params: Params
) -> tuple[float, float] | None:
    """Of a ratio of sums. Clusters that have nothing to divide by say nothing."""
    sums: dict[str, list[int]] = {}
    for above, below, cluster in zip(numerators, denominators, clusters, strict=True):
        known = sums.setdefault(cluster, [0, 0])
        known[0], known[1] = known[0] + int(above), known[1] + below
    pairs = np.array([pair for _, pair in sorted(sums.items()) if pair[1]], dtype=np.int64).reshape(-1, 2)
    if len(pairs) < _MIN_CLUSTERS:
        return None
    samples = params.validate_.bootstrap_samples
    drawn = block_bootstrap(pairs[:, 0], np.zeros_like(pairs[:, 0]), pairs[:, 1], samples, params.seed)
    low, high = drawn.interval(_LEVEL)
    return round(low, 6), round(high, 6)


def _counts(reference: str, heard: str, params: Params) -> ErrorCounts:
    return count_words(normalize(reference, params.score.normalizer), normalize(heard, params.score.normalizer))


def _rate(counts: Sequence[ErrorCounts]) -> Rate | None:
    total = sum(counts, ErrorCounts.zero())
    return total.to_rate() if total.reference_length else None


Progress = Callable[[int], None]


def _ignore(count: int) -> None:
    """No progress is shown."""


@dataclass(frozen=True)
class Corpus:
    """Utterances with what the model heard in them and their gold transcripts so far; both by id."""

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
    """`labels`: one for each utterance that had none, of source llm, hypothesis or none. `judged`: one a question."""

    labels: dict[str, Label]
    judged: list[LabelDecision]
    audit: LabelAudit

    @property
    def review(self) -> list[LabelDecision]:
        """What waits for a person: no label, and no person's one."""
        return [item for item in self.judged if item.id in self.labels and self.labels[item.id].source != "llm"]


def plan_labelling(corpus: Corpus, params: Params) -> LabellingPlan:
    """The examples, the utterances without a label, and the audit's. Nothing of the test set."""
    shots = shots_of(corpus, params)
    wanted = [item for item in to_label(corpus) if _heard(corpus, item)]
    return LabellingPlan(shots, wanted, to_audit(corpus, shots, params))


def to_label(corpus: Corpus) -> list[Utterance]:
    """Training utterances that have no label yet. Never of dev, test or retention: those judge."""
    return [
        item
        for item in corpus.utterances
        if item.split == "train" and item.domain == "target" and corpus.labels[item.id].source == "none"
    ]


def to_audit(corpus: Corpus, shots: Sequence[Shot], params: Params) -> list[Utterance]:
    """`label.audit_cases` utterances of train and dev that people labelled, by a seeded hash of their audio.

    None whose recording or text is an example of the prompt: the answer would be in the question.
    """
    texts = {key: normalize(text, params.score.normalizer) for key, text in corpus.people.items()}
    shown = {shot.recording for shot in shots} | {normalize(shot.text, params.score.normalizer) for shot in shots}
    known = [
        item
        for item in corpus.utterances
        if item.split != "test" and item.domain == "target" and texts.get(item.id) and _heard(corpus, item)
        and not {item.recording, texts[item.id]} & shown
    ]  # fmt: skip
    chosen = sorted(known, key=lambda item: _rank(item, params.seed))[: params.label.audit_cases]
    ids = {item.id for item in chosen}
    return [item for item in known if item.id in ids]


def calibrate_margin(corpus: Corpus, scorer: AcousticScorer, params: Params) -> tuple[float | None, int]:
    """The acoustic margin and how many references gave it; `label.acoustic_margin` and 0 where that is set."""
    if params.label.acoustic_margin is not None:
        return params.label.acoustic_margin, 0
    requests = [
        ScoringRequest(Path(item.path), corpus.hypotheses[item.id].text, (corpus.people[item.id],))
        for item in corpus.utterances
        if item.split != "test" and item.domain == "target" and item.id in corpus.people and _heard(corpus, item)
        and normalize(corpus.people[item.id]) != normalize(corpus.hypotheses[item.id].text)
    ]  # fmt: skip
    falls = [fall for fell in scorer.falls(requests) for fall in fell]
    return quantile_margin(falls, params.label.acoustic_keep), len(falls)


def correctors(params: Params, shots: Sequence[Shot]) -> list[Corrector]:
    """The LLM of params.yaml, and those that must agree with it: other models, and samples of its own."""
    names = [params.label.model, *params.label.also_ask]
    models = [params.label.model_copy(update={"model": name}) for name in names]
    seeds = range(1, params.label.samples + 1)
    return [
        *(LlamaLLMCorrector.from_params(model, shots) for model in models),
        *(LlamaLLMCorrector.from_params(params.label, shots, sample=seed) for seed in seeds),
    ]


def shots_of(corpus: Corpus, params: Params) -> tuple[Shot, ...]:
    """Examples for the prompt: what people wrote for misheard training utterances."""
    heard, labels = list(corpus.hypotheses.values()), list(corpus.labels.values())
    return choose_shots(corpus.utterances, heard, labels, params.label.few_shot, params.score.normalizer)


def label_with_llm(
    corpus: Corpus,
    chosen: LabellingPlan,
    scorer: AcousticScorer,
    params: Params,
    ask: Sequence[Corrector],
    on_progress: Progress = _ignore,
) -> LlmLabels:
    """Asks about what has no label and about the audit's utterances, in one go, so that neither is asked differently.

    Args:
        corpus: all utterances.
        chosen: the plan for them.
        scorer: of the model that wrote the hypotheses.
        params: label, score, seed and validate are read.
        ask: see `correctors`.
        on_progress: gets the number of utterances that are done.

    Raises:
        MondegreenError: the LLM is not there, and label.on_unavailable is "fail".
    """
    limit, references = calibrate_margin(corpus, scorer, params)
    judge = LlmLabeller(ask, scorer, limit, params.label)
    heard = [corpus.hypotheses[item.id] for item in chosen.asked]
    found = judge.judge(heard, [item.recording for item in chosen.asked], on_progress)
    by_id = {item.record.id: item for item in found}
    held_out = _held_out(corpus, params)
    labels = {item.id: _label(item, by_id.get(item.id), held_out, params) for item in to_label(corpus)}
    known = {item.id: item.model_copy(update={"reference": corpus.people[item.id]}) for item in chosen.audited}
    report = audit_labels(known, [by_id[item.id] for item in chosen.audited], params, limit, references)
    return LlmLabels(labels, [item.record for item in found], report)


def check_audit(audit: LabelAudit, labels: int, limit: float | None) -> None:
    """Stops the round when an LLM's labels are wrong too often, or when nothing tells how often they are wrong.

    Args:
        labels: how many an LLM wrote that would be trained on.
        limit: label.max_label_wer.

    Raises:
        MondegreenError: with the figures.
    """
    if limit is None or not labels:
        return
    found = audit.result
    if found.labels is None:
        raise MondegreenError(
            f"An LLM wrote {labels} labels, and nothing tells how true they are: of {audit.utterances} audited "
            "utterances none was accepted.",
            "Raise label.audit_cases, add references (data/references.csv), set label.llm to off, or, to trust the LLM "
            "unmeasured, label.max_label_wer to null.",
        )
    if found.labels.rate > limit:
        raise MondegreenError(
            f"An LLM's labels have a WER of {found.labels.rate:.1%} on {found.accepted.count} audited utterances; "
            f"label.max_label_wer allows {limit:.1%}.",
            "Look at build/label/audit.json and guards.jsonl, then tighten a guard, take a better LLM, or set "
            "label.llm to off.",
        )


def _label(item: Utterance, judgement: Judgement | None, held_out: set[str], params: Params) -> Label:
    """What the guards' decision makes of an utterance without a label."""
    if judgement is None:
        return Label(id=item.id, text="", source="none", note="no human reference, and it could not be transcribed")
    record = judgement.record
    if record.outcome == "unavailable" and params.label.on_unavailable == "use_hypothesis":
        note = f"what the model heard; no LLM: {record.reason}"
        return Label(id=item.id, text=record.heard, source="hypothesis", note=note)
    if not record.is_accepted:
        why = f"{record.guard}: {record.reason}" if record.guard else record.reason
        return Label(id=item.id, text="", source="none", note=f"no human reference; LLM {record.outcome}: {why}")
    if normalize(record.suggested, params.score.normalizer) in held_out:
        return Label(id=item.id, text="", source="none", note="the LLM's text is that of a recording that judges")
    return Label(id=item.id, text=record.suggested, source="llm", note="passed the guards", writer=record.writer)


def _held_out(corpus: Corpus, params: Params) -> set[str]:
    judging = [item for item in corpus.utterances if item.split != "train" or item.domain == "retention"]
    return {normalize(item.reference, params.score.normalizer) for item in judging} - {""}


def _heard(corpus: Corpus, item: Utterance) -> bool:
    return item.id in corpus.hypotheses and not corpus.hypotheses[item.id].error


def _rank(item: Utterance, seed: int) -> str:
    return hashlib.sha256(f"{seed}/audit/{item.sha256}".encode()).hexdigest()
