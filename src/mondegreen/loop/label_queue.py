"""What the `label` stage left to people becomes failed cases: `mondegreen review` shows them with the suggestion."""

from collections.abc import Iterable
from pathlib import Path

from mondegreen.cases.manager import DataManager
from mondegreen.cases.records import NewCase
from mondegreen.cases.storing import case_id
from mondegreen.cases.suggestions import NewSuggestion, store_suggestions
from mondegreen.errors import CaseError
from mondegreen.files import read_jsonl
from mondegreen.labels.judging import Judged
from mondegreen.records import Hypothesis, Utterance

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
    waiting = read_jsonl(build / "label" / "review.jsonl", Judged)
    utterances = {row.id: row for row in read_jsonl(build / "prepare" / "manifest.jsonl", Utterance)}
    hypotheses = {row.id: row for row in read_jsonl(build / "transcribe" / "hypotheses.jsonl", Hypothesis)}
    rows = [(item, utterances[item.id], hypotheses[item.id]) for item in waiting if item.id in utterances]
    new = [row for row in rows if not _is_stored(manager, case_id(row[1].sha256, row[2].model))]
    keys = manager.store_failed_cases(_case(utterance, heard) for _, utterance, heard in new)
    store_suggestions(manager.engine, _suggestions(zip(keys, (item for item, _, _ in new), strict=True)))
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


def _suggestions(pairs: Iterable[tuple[str, Judged]]) -> list[NewSuggestion]:
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
