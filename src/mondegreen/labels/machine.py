"""Labels by a language model for what nobody wrote down, and the audit of what it writes where somebody did."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mondegreen.config import Params
from mondegreen.errors import MondegreenError
from mondegreen.labels.acoustic import Claim, Ear, margin
from mondegreen.labels.audit import audit_labels
from mondegreen.labels.audit_record import LabelAudit
from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.few_shot import choose_shots
from mondegreen.labels.judging import Corrector, Judge, Judged, Judgement
from mondegreen.labels.prompt import Shot
from mondegreen.records import Hypothesis, Label, Utterance
from mondegreen.scoring.normalizer import normalize

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
class Plan:
    """What the LLM will be asked. `wanted` has no label, `audited` has a person's."""

    shots: tuple[Shot, ...]
    wanted: list[Utterance]
    audited: list[Utterance]

    @property
    def asked(self) -> list[Utterance]:
        return [*self.wanted, *self.audited]


@dataclass(frozen=True)
class MachineLabels:
    """`labels`: one for each utterance that had none, of source llm, hypothesis or none. `judged`: one a question."""

    labels: dict[str, Label]
    judged: list[Judged]
    audit: LabelAudit

    @property
    def review(self) -> list[Judged]:
        """What waits for a person: no label, and no person's one."""
        return [item for item in self.judged if item.id in self.labels and self.labels[item.id].source != "llm"]


def plan(corpus: Corpus, params: Params) -> Plan:
    """The examples, the utterances without a label, and the audit's. Nothing of the test set."""
    shots = shots_of(corpus, params)
    wanted = [item for item in to_label(corpus) if _heard(corpus, item)]
    return Plan(shots, wanted, to_audit(corpus, shots, params))


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


def calibrated(corpus: Corpus, ear: Ear, params: Params) -> tuple[float | None, int]:
    """The acoustic margin and how many references gave it; `label.acoustic_margin` and 0 where that is set."""
    if params.label.acoustic_margin is not None:
        return params.label.acoustic_margin, 0
    claims = [
        Claim(Path(item.path), corpus.hypotheses[item.id].text, (corpus.people[item.id],))
        for item in corpus.utterances
        if item.split != "test" and item.domain == "target" and item.id in corpus.people and _heard(corpus, item)
        and normalize(corpus.people[item.id]) != normalize(corpus.hypotheses[item.id].text)
    ]  # fmt: skip
    falls = [fall for fell in ear.falls(claims) for fall in fell]
    return margin(falls, params.label.acoustic_keep), len(falls)


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


def label_by_machine(
    corpus: Corpus, chosen: Plan, ear: Ear, params: Params, ask: Sequence[Corrector], on_progress: Progress = _ignore
) -> MachineLabels:
    """Asks about what has no label and about the audit's utterances, in one go, so that neither is asked differently.

    Args:
        corpus: all utterances.
        chosen: the plan for them.
        ear: of the model that wrote the hypotheses.
        params: label, score, seed and validate are read.
        ask: see `correctors`.
        on_progress: gets the number of utterances that are done.

    Raises:
        MondegreenError: the LLM is not there, and label.on_unavailable is "fail".
    """
    limit, references = calibrated(corpus, ear, params)
    judge = Judge(ask, ear, limit, params.label)
    heard = [corpus.hypotheses[item.id] for item in chosen.asked]
    found = judge.judge(heard, [item.recording for item in chosen.asked], on_progress)
    by_id = {item.record.id: item for item in found}
    held_out = _held_out(corpus, params)
    labels = {item.id: _label(item, by_id.get(item.id), held_out, params) for item in to_label(corpus)}
    known = {item.id: item.model_copy(update={"reference": corpus.people[item.id]}) for item in chosen.audited}
    report = audit_labels(known, [by_id[item.id] for item in chosen.audited], params, limit, references)
    return MachineLabels(labels, [item.record for item in found], report)


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
