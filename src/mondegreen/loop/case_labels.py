"""A language model's labels for failed cases: of uncorrected ones in the store, and those that the `label` stage left.

What the label filter accepts counts as a correction; the rest waits in `mondegreen review` with the suggestion.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mondegreen.cases.queries import review_holds
from mondegreen.cases.records import Case, CaseFilter, NewCase, NewCorrection, NewSuggestion
from mondegreen.cases.store import DataManager
from mondegreen.cases.writing import case_id
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import CaseError
from mondegreen.files import read_jsonl, sha256_file
from mondegreen.labels.guards import LabelDecision
from mondegreen.labels.prompt import Shot
from mondegreen.records import Hypothesis, Label, Utterance
from mondegreen.speech.audio import as_file
from mondegreen.speech.channels import channel_of

if TYPE_CHECKING:  # torch and scipy, which queueing needs not
    from mondegreen.labels.llm_labels import Corpus, Corrector, LlmLabeller
    from mondegreen.speech.transcriber import BaselineSTTModel

SOURCE = "label"  # of the cases that the stage left
BATCH = 16  # cases that a killed run has to hear again
CLUSTER_BATCH = 128  # so that every machine has some to ask about


@dataclass(frozen=True)
class CaseLabeller:
    """Each case is transcribed anew, so that words, N-best and audio are one model's; then the LLM is asked."""

    stt: "BaselineSTTModel"
    labeller: "LlmLabeller"
    batch: int = BATCH

    @classmethod
    def open(
        cls, params: Params, build: Path = Path("build"), ask: "Sequence[Corrector] | None" = None
    ) -> "CaseLabeller":
        """Examples and acoustic margin come from the pipeline's human references in `build`.

        With label.acoustic_margin and no few-shot examples in params.yaml, `build` is not read.

        Args:
            ask: correctors instead of those of params.yaml.

        Raises:
            UsageError: `dvc repro` has not run, or the weights changed since.
        """
        from mondegreen.labels.acoustic import AcousticScorer, check_model
        from mondegreen.labels.llm_labels import LlmLabeller, calibrate_margin, correctors, shots_of
        from mondegreen.speech.corpus_transcription import pipeline_transcriber

        stt = pipeline_transcriber(params.model.base, params)
        scorer = AcousticScorer(stt.model, params.transcribe.batch_seconds, stt.cache)
        margin, shots = params.label.acoustic_margin, tuple[Shot, ...]()
        if margin is None or params.label.few_shot:
            corpus, digest = read_corpus(build)
            check_model(params, stt.digest, digest)
            (margin, _), shots = calibrate_margin(corpus, scorer, params), shots_of(corpus, params)
        asked = correctors(params, shots) if ask is None else ask
        batch = CLUSTER_BATCH if params.compute.engine == "ray" else BATCH
        return cls(stt, LlmLabeller(asked, scorer, margin, params.label), batch)

    def label(self, manager: DataManager, cases: Iterable[Case]) -> Iterator[LabelDecision]:
        """Decides and stores batch by batch; yields what became of each case.

        An accepted suggestion becomes a correction of the method llm. Every suggestion is kept for who reviews.
        """
        rest = iter(cases)
        while batch := list(islice(rest, self.batch)):
            found = self._decided(manager, batch)
            self._store(manager, found)
            yield from found

    def _decided(self, manager: DataManager, batch: Sequence[Case]) -> list[LabelDecision]:
        from mondegreen.speech.corpus_transcription import transcribe_corpus

        rows: dict[str, Utterance] = {}
        found: dict[str, LabelDecision] = {}
        for case in batch:
            try:
                rows[case.id] = _utterance(case, manager.audio_path(case))
            except CaseError as error:
                found[case.id] = _unanswered(case.id, "", case.original_transcript, error.problem)
        hypotheses: list[Hypothesis] = []
        for item in transcribe_corpus(list(rows.values()), self.stt):
            if item.error or item.duration > self.stt.max_duration:
                why = item.error or f"over {self.stt.max_duration:g} s cannot be checked in one piece"
                found[item.id] = _unanswered(item.id, item.path, item.text, why)
            else:
                hypotheses.append(item)
        decisions = self.labeller.label(hypotheses, [rows[item.id].recording for item in hypotheses])
        found |= {item.id: item for item in decisions}
        return [found[case.id] for case in batch]

    def _store(self, manager: DataManager, found: Sequence[LabelDecision]) -> None:
        corrections = [
            NewCorrection(
                case_id=item.id,
                transcript=item.suggested,
                method="llm",
                author=item.writer.model,
                metadata={**item.writer.model_dump(), "guards": list(item.checks), "heard": item.heard},
            )
            for item in found
            if item.writer and item.is_accepted
        ]
        suggestions = _suggestions([(item.id, item, item.is_accepted) for item in found])
        manager.store_suggestions(suggestions, corrections)


def waiting_cases(manager: DataManager, *, again: bool = False, page: int = 500) -> Iterator[Case]:
    """Uncorrected cases, newest first, without those that a reviewer keeps from counting.

    Args:
        again: also those for which an LLM suggested something before.
        page: cases held in memory.
    """
    after: str | None = None
    while True:
        found = manager.find_cases(CaseFilter(corrected=False, audit=False), limit=page, after=after)
        ids = [case.id for case in found.cases]
        with reading(manager.engine) as session:
            kept = set(review_holds(session, ids))
        known = set() if again else set(manager.newest_suggestions(ids))
        yield from (case for case in found.cases if case.id not in kept | known)
        if (after := found.next) is None:
            return


def read_corpus(build: Path) -> "tuple[Corpus, str]":
    """The pipeline's utterances with hypotheses and human labels, and the digest of the model of the hypotheses.

    Raises:
        UsageError: a file is missing or damaged.
    """
    from mondegreen.labels.gold import gold_labels
    from mondegreen.labels.llm_labels import Corpus
    from mondegreen.scoring.metrics import model_of

    utterances = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    hypotheses = read_jsonl(build / "transcribe" / "hypotheses.jsonl", Hypothesis)
    corrections = read_jsonl(build / "prepare" / "corrections.jsonl", Label)
    return Corpus.of(utterances, hypotheses, gold_labels(utterances, corrections)), model_of(hypotheses)


def _utterance(case: Case, path: Path) -> Utterance:
    """The case as a corpus to transcribe holds it; it is in no manifest."""
    recording, speaker = case.metadata.get("recording"), case.metadata.get("speaker")
    return Utterance(
        id=case.id,
        path=str(path),
        sha256=case.audio_sha256,
        duration=case.duration or 0.0,
        condition="failed_cases",
        speaker=speaker if isinstance(speaker, str) else "",
        recording=recording if isinstance(recording, str) else "",
        reference="",
        split="train",
        domain="target",
    )


def queue_for_review(manager: DataManager, build: Path = Path("build")) -> tuple[int, int]:
    """Stores each row of build/label/review.jsonl as a case, unless the store has it, and its suggestion beside it.

    Corrected there, it comes back with the next `mondegreen cases snapshot`.

    Returns:
        How many are new, and how many the store had.

    Raises:
        UsageError: `dvc repro` has not run.
        CaseError: the disk is full, or the database refuses.
    """
    waiting = read_jsonl(build / "label" / "review.jsonl", LabelDecision)
    utterances = {row.id: row for row in read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)}
    hypotheses = {row.id: row for row in read_jsonl(build / "transcribe" / "hypotheses.jsonl", Hypothesis)}
    rows = [(item, utterances[item.id], hypotheses[item.id]) for item in waiting if item.id in utterances]
    new = [row for row in rows if not _is_stored(manager, _key(*row[1:]))]
    keys = manager.store_failed_cases(_case(utterance, hypothesis) for _, utterance, hypothesis in new)
    rejected = [(key, item, False) for key, (item, _, _) in zip(keys, new, strict=True)]
    manager.store_suggestions(_suggestions(rejected))
    return len(new), len(rows) - len(new)


def _key(utterance: Utterance, hypothesis: Hypothesis) -> str:
    """The id of the case; a channel of a call is stored as a recording of its own, which has other bytes."""
    path = Path(utterance.path)
    if channel_of(path)[1] is None:
        return case_id(utterance.sha256, hypothesis.model)
    with as_file(path) as alone:
        return case_id(sha256_file(alone), hypothesis.model)


def _is_stored(manager: DataManager, key: str) -> bool:
    try:
        manager.get_case(key)
    except CaseError:
        return False
    return True


def _case(utterance: Utterance, hypothesis: Hypothesis) -> NewCase:
    return NewCase(
        audio_path=Path(utterance.path),
        original_transcript=hypothesis.text,
        metadata={
            **hypothesis.model_dump(include={"confidence", "words", "nbest"}),
            **utterance.model_dump(include={"speaker", "recording"}),
        },
        model_version=hypothesis.model,
        duration=utterance.duration,
        source=SOURCE,
    )


def _suggestions(rows: Iterable[tuple[str, LabelDecision, bool]]) -> list[NewSuggestion]:
    """Of each case by its id: what was suggested, and whether it counts."""
    return [
        NewSuggestion(
            case_id=key,
            text=item.suggested,
            accepted=accepted,
            guard=item.guard,
            reason=item.reason,
            **item.writer.model_dump(),
        )
        for key, item, accepted in rows
        if item.writer
    ]


def _unanswered(id_: str, path: str, transcript: str, reason: str) -> LabelDecision:
    """Of a case that the language model is not asked about."""
    return LabelDecision(id=id_, path=path, heard=transcript, outcome="unanswered", reason=reason)
