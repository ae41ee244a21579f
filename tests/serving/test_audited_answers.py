"""Answers of the server are drawn for the audit as those of the command line are, and wait for room for their audio."""

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from mondegreen.cases.records import CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.config import AuditParams, Params
from mondegreen.db import reading
from mondegreen.serving.server import Store
from mondegreen.serving.spool import Answer, Spool
from mondegreen.speech.transcriber import Transcription
from mondegreen.tables import InferenceRow
from tests.cases.conftest import recording, small_disk
from tests.serving.conftest import until

EVERY = Params(audit=AuditParams(rate=1, factors=(1, 1, 1, 1)))
FACTS = {"text": "HI", "confidence": 0.9, "duration": 1.0, "words": [], "nbest": [], "real_time_factor": 0.1}


def test_a_replayed_spool_draws_the_same_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    answers = [
        Answer(
            request_id=f"request-{number}",
            at=datetime.now(UTC),
            served="stt/1",
            audio_sha256=f"{number:x}" * 64,
            caller="somebody",
            transcription=Transcription(path=str(recording(tmp_path / f"{number}.wav", number)), model="m", **FACTS),
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


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """Its store is `var` below `tmp_path`, and the audit draws every answer."""
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setattr("mondegreen.serving.spool._PAUSE", 0.02)
    found = Spool(tmp_path / "serve", Store(tmp_path / "var", EVERY), 10**8)
    yield found
    found.close()


def answered(spool: Spool, number: int) -> Answer:
    """An answer of `spool` to a recording that is a real one."""
    path = recording(spool.place(f"r{number}", "a.wav"), number)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    heard = Transcription(path=str(path), model="m", **FACTS)
    return Answer(
        request_id=f"r{number}", at=datetime.now(UTC), served="stt/1", audio_sha256=digest, transcription=heard
    )


def kept(store: Path) -> dict[str | None, str | None]:
    """The audit's case by the id of the request."""
    with reading(DataManager(store).engine) as session:
        return {row.request_id: row.audit_id for row in session.scalars(select(InferenceRow))}


def test_answers_wait_while_there_is_no_room_for_their_recordings(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    with small_disk(tmp_path / "var" / "blobs", kibibytes=64):
        filler = tmp_path / "var" / "blobs" / "filler"
        filler.write_bytes(bytes(60 * 1024))
        answers = [answered(spool, number) for number in range(3)]
        for answer in answers:
            spool.add(answer)
        assert "No space left" in until(lambda: spool.state.problem)
        assert kept(tmp_path / "var") == {} and (spool.state.written, spool.state.waiting) == (0, 3)
        assert all(answer.file.is_file() for answer in answers)
        filler.unlink()
        until(lambda: spool.state.written == 3)
        audited = kept(tmp_path / "var")
        assert len(audited) == 3 and None not in audited.values()
        until(lambda: spool.state.problem == "")
        assert not list((tmp_path / "serve").rglob("*.wav"))


def test_a_recording_that_can_never_be_kept_is_set_aside_and_holds_up_no_other(spool: Spool, tmp_path: Path) -> None:
    damaged, whole = answered(spool, 0), answered(spool, 1)
    damaged.file.write_bytes(b"it was audio when it was heard")
    for answer in (damaged, whole):
        spool.add(answer)
    until(lambda: spool.state.written == 2)
    audited = kept(tmp_path / "var")
    assert audited["r0"] is None and audited["r1"]
    aside = {path.suffix: path for path in (tmp_path / "serve" / "refused").iterdir()}
    assert aside[".wav"].read_bytes() == b"it was audio when it was heard" and aside[".wav"].name == "r0-a.wav"
    assert [Answer.model_validate_json(line) for line in aside[".jsonl"].read_bytes().splitlines()] == [damaged]
    assert (spool.state.refused, spool.state.waiting) == (1, 0)


def test_a_full_disk_loses_no_recording_that_is_to_be_set_aside(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    damaged = answered(spool, 0)
    damaged.file.write_bytes(b"it was audio when it was heard")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        spool.add(damaged)
        assert "No space left" in until(lambda: spool.state.problem)
        assert damaged.file.is_file()
    until(lambda: spool.state.refused == 1)
    assert (tmp_path / "serve" / "refused" / "r0-a.wav").is_file() and not damaged.file.exists()
