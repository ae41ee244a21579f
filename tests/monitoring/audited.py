"""Traffic of which some was drawn for the audit and heard."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from mondegreen.cases.records import AUDIT, NewCase, NewCorrection
from mondegreen.cases.writing import AudioCase, store_cases, store_corrections
from mondegreen.db import transaction
from mondegreen.monitoring.tracker import LoggedInference, MetadataTracker, row_of
from mondegreen.records import CorrectionMethod
from mondegreen.tables import InferenceRow
from tests.monitoring.inferences import NOW, inference

SAID = "one two three four five six seven eight nine ten"


def heard_as(number: int, wrong: int) -> str:
    """What the model wrote, `wrong` of its ten words misheard."""
    words = SAID.split()
    return " ".join(["wrong"] * wrong + words[wrong:])


def served(
    tracker: MetadataTracker,
    count: int,
    heard: int,
    *,
    model: str = "m" * 64,
    version: str | None = "stt/3",
    errors: Callable[[int], int] = lambda number: number % 5,
    start: datetime = NOW - timedelta(days=3),
    callers: int = 41,
    method: CorrectionMethod = "manual",
    waiting: int = 0,
    role: str | None = None,
) -> None:
    """`count` inferences, half an hour apart at most; the first `heard` were drawn and heard, `waiting` more drawn."""
    rows, cases, corrections = [], [], []
    for number in range(count):
        wrong = errors(number)
        text = heard_as(number, wrong)
        sha256 = f"{number:x}".rjust(8, "0") * 8
        given = inference(
            start + timedelta(minutes=number), transcript=text, model_version=model, served=version,
            error_score=min(1.0, wrong / 10 + 0.01 * (number % 7)), caller=f"c{number % callers}", audio_sha256=sha256,
            role=role,
        )  # fmt: skip
        item = LoggedInference(given, inclusion=0.25, drawn=number < heard + waiting)
        if item.drawn:
            new = NewCase(audio_path=Path(f"{number}.wav"), original_transcript=text, model_version=model, source=AUDIT)
            cases.append(AudioCase(new, sha256, 1.0))
            item.case_id = cases[-1].id
            if number < heard:
                corrections.append(NewCorrection(case_id=item.case_id, transcript=SAID, method=method, author="ann"))
        rows.append(row_of(item, NOW))
    with transaction(tracker.engine) as session:
        store_cases(session, cases, NOW)
        store_corrections(session, corrections, NOW)
        session.execute(insert(InferenceRow), rows)
