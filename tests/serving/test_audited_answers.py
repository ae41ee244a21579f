"""Answers of the server are drawn for the audit as the inferences of the command line are."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from mondegreen.cases.records import CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.config import AuditParams, Params
from mondegreen.db import reading
from mondegreen.serving.server import Store
from mondegreen.serving.spool import Answer
from mondegreen.speech.transcriber import Transcription
from mondegreen.tables import InferenceRow
from tests.cases.conftest import recording


def test_a_replayed_spool_draws_the_same_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    facts = {"text": "HI", "confidence": 0.9, "duration": 1.0, "words": [], "nbest": [], "real_time_factor": 0.1}
    answers = [
        Answer(
            request_id=f"request-{number}",
            at=datetime.now(UTC),
            served="stt/1",
            audio_sha256=f"{number:x}" * 64,
            caller="somebody",
            transcription=Transcription(path=str(recording(tmp_path / f"{number}.wav", number)), model="m", **facts),
        )
        for number in range(12)
    ]
    params = Params(audit=AuditParams(rate=0.5, factors=(1, 1, 1, 1)))
    for start in (6, 0, 0):  # half of it was written down when the process was killed
        Store(tmp_path / "var", params)(answers[start:])
    manager = DataManager(tmp_path / "var")
    with reading(manager.engine) as session:
        rows = session.scalars(select(InferenceRow).order_by(InferenceRow.id)).all()
    drawn = {row.audit_id for row in rows if row.audit_id}
    assert len(rows) == 12 and {row.inclusion for row in rows} == {0.5}
    assert 0 < len(drawn) < 12 and {case.id for case in manager.each_case(CaseFilter(audit=True))} == drawn
