"""An LLM's labels for uncorrected failed cases: what the guards accept counts, the rest waits for a person.

What the `label` stage left to people becomes failed cases: `mondegreen review` shows them with the suggestion.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mondegreen.cases.queries import review_holds
from mondegreen.cases.records import Case, CaseFilter, NewCase, NewCorrection, NewSuggestion
from mondegreen.cases.store import DataManager
from mondegreen.cases.writing import case_id
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import CaseError
from mondegreen.files import read_jsonl
from mondegreen.labels.acoustic import AcousticScorer, check_model
from mondegreen.labels.gold import gold_labels
from mondegreen.labels.guards import LabelDecision
from mondegreen.labels.llm_labels import (
    Corpus,
    Corrector,
    LlmLabeller,
    calibrate_margin,
    correctors,
    shots_of,
    unanswered,
)
from mondegreen.labels.prompt import Shot
from mondegreen.records import Hypothesis, Label, Utterance
from mondegreen.scoring.wer import model_of
from mondegreen.speech.corpus_transcription import load_transcriber, transcribe_corpus
from mondegreen.speech.transcriber import BaselineSTTModel

BATCH = 16  # cases that a killed run has to ask about again


@dataclass(frozen=True)
class CaseLabeller:
    """The recogniser hears each case anew, so that words, N-best and audio are one model's; then LLM and guards."""

    stt: BaselineSTTModel
    judge: LlmLabeller

    @classmethod
    def open(
        cls, params: Params, build: Path = Path("build"), ask: Sequence[Corrector] | None = None
    ) -> "CaseLabeller":
        """Examples and acoustic margin come from the pipeline's human references in `build`.

        With label.acoustic_margin and no few-shot examples in params.yaml, `build` is not read.

        Args:
            ask: correctors instead of those of params.yaml.

        Raises:
            UsageError: `dvc repro` has not run, or the weights changed since.
        """
        stt = load_transcriber(params.model.base, params)
        scorer = AcousticScorer(stt.model, params.transcribe.batch_seconds, stt.cache)
        margin, shots = params.label.acoustic_margin, tuple[Shot, ...]()
        if margin is None or params.label.few_shot:
            corpus, digest = read_corpus(build)
            check_model(params, stt.digest, digest)
            (margin, _), shots = calibrate_margin(corpus, scorer, params), shots_of(corpus, params)
        return cls(stt, LlmLabeller(correctors(params, shots) if ask is None else ask, scorer, margin, params.label))

    def label(self, manager: DataManager, cases: Iterable[Case]) -> Iterator[LabelDecision]:
        """Judges and stores batch by batch; yields what became of each case.

        An accepted suggestion becomes a correction of the method llm. Every suggestion is kept for who reviews.
        """
        rest = iter(cases)
        while batch := list(islice(rest, BATCH)):
            found = self._judged(manager, batch)
            self._store(manager, found)
            yield from found

    def _judged(self, manager: DataManager, batch: Sequence[Case]) -> list[LabelDecision]:
        rows: list[Utterance] = []
        refused: dict[str, LabelDecision] = {}
        for case in batch:
            try:
                rows.append(_utterance(case, manager.audio_path(case)))
            except CaseError as error:
                refused[case.id] = unanswered(case.id, "", case.original_transcript, error.problem)
        heard: list[Hypothesis] = []
        for row, item in zip(rows, transcribe_corpus(rows, self.stt), strict=True):
            if item.error or item.duration > self.stt.max_duration:
                why = item.error or f"over {self.stt.max_duration:g} s cannot be checked in one piece"
                refused[row.id] = unanswered(row.id, row.path, item.text, why)
            else:
                heard.append(item)
        sources = {row.id: row.recording for row in rows}
        judged = self.judge.judge(heard, [sources[item.id] for item in heard])
        found = refused | {item.record.id: item.record for item in judged}
        return [found[case.id] for case in batch]

    def _store(self, manager: DataManager, found: Sequence[LabelDecision]) -> None:
        suggestions, corrections = [], []
        for item in found:
            if item.writer is None:
                continue
            writer = item.writer.model_dump()
            suggestions.append(
                NewSuggestion(
                    case_id=item.id,
                    text=item.suggested,
                    accepted=item.is_accepted,
                    guard=item.guard,
                    reason=item.reason,
                    **writer,
                )
            )
            if item.is_accepted:
                details = {**writer, "guards": list(item.checks), "heard": item.heard}
                corrections.append(
                    NewCorrection(
                        case_id=item.id,
                        transcript=item.suggested,
                        method="llm",
                        author=item.writer.model,
                        metadata=details,
                    )
                )
        manager.store_suggestions(suggestions, corrections)


def waiting_cases(manager: DataManager, *, again: bool = False, page: int = 500) -> Iterator[Case]:
    """Uncorrected cases, newest first, without those that a reviewer keeps from counting.

    Args:
        again: also those for which an LLM suggested something before.
        page: cases held in memory.
    """
    after: str | None = None
    while True:
        found = manager.find_cases(CaseFilter(corrected=False), limit=page, after=after)
        ids = [case.id for case in found.cases]
        with reading(manager.engine) as session:
            kept = set(review_holds(session, ids))
        known = set() if again else set(manager.newest_suggestions(ids))
        yield from (case for case in found.cases if case.id not in kept | known)
        if (after := found.next) is None:
            return


def read_corpus(build: Path) -> tuple[Corpus, str]:
    """The pipeline's utterances with hypotheses and human labels, and the digest of the model that heard them.

    Raises:
        UsageError: a file is missing or damaged.
    """
    utterances = read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)
    hypotheses = read_jsonl(build / "transcribe" / "hypotheses.jsonl", Hypothesis)
    corrections = read_jsonl(build / "prepare" / "corrections.jsonl", Label)
    return Corpus.of(utterances, hypotheses, gold_labels(utterances, corrections)), model_of(hypotheses)


def _utterance(case: Case, path: Path) -> Utterance:
    """The case as `hear` takes it; it is in no manifest."""
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


SOURCE = "label"  # of the cases


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
    new = [row for row in rows if not _is_stored(manager, case_id(row[1].sha256, row[2].model))]
    keys = manager.store_failed_cases(_case(utterance, heard) for _, utterance, heard in new)
    manager.store_suggestions(_suggestions(zip(keys, (item for item, _, _ in new), strict=True)))
    return len(new), len(rows) - len(new)


def _is_stored(manager: DataManager, key: str) -> bool:
    try:
        manager.get_case(key)
    except CaseError:
        return False
    return True


def _case(utterance: Utterance, heard: Hypothesis) -> NewCase:
    return NewCase(
        audio_path=Path(utterance.path),
        original_transcript=heard.text,
        metadata={
            "confidence": heard.confidence,
            "words": [word.model_dump() for word in heard.words],
            "nbest": [item.model_dump() for item in heard.nbest],
            "speaker": utterance.speaker,
            "recording": utterance.recording,
        },
        model_version=heard.model,
        duration=utterance.duration,
        source=SOURCE,
    )


def _suggestions(pairs: Iterable[tuple[str, LabelDecision]]) -> list[NewSuggestion]:
    return [
        NewSuggestion(
            case_id=key,
            text=item.suggested,
            accepted=False,
            guard=item.guard,
            reason=item.reason,
            **item.writer.model_dump(),
        )
        for key, item in pairs
        if item.writer
    ]
