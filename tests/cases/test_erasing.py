"""Erased rows: every table that says something of a case, in both databases; counters, replays, ages."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import select, text

from mondegreen.cases.erasing import (
    KEPT,
    begin_erasure,
    erase_rows,
    erased_tables,
    overwrite_freed,
    unneeded_recordings,
)
from mondegreen.cases.queries import recounted, statistics
from mondegreen.cases.records import CaseFilter, NewSuggestion
from mondegreen.cases.selecting import ErasedCases, Wanted, overdue, select_for_erasure, without_erased
from mondegreen.cases.store import DataManager
from mondegreen.config import RetentionDays
from mondegreen.db import reading, transaction
from mondegreen.errors import CaseError
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.tables import CaseRow, InferenceRow, TableBase
from tests.cases.conftest import Recorder

NOW = datetime.now(UTC)
SECRET = "purple armadillo seventeen"


def fill(manager: DataManager, record: Recorder) -> list[str]:
    """Three recordings of two callers, all misheard; the first says the secret in every table that has a text."""
    tracker = MetadataTracker(manager.folder, data_manager=manager)
    ids = []
    for seed, caller in enumerate(("ann", "ann", "bob")):
        said = SECRET if seed == 0 else f"plain words {seed}"
        case = tracker.log_inference(
            record(seed), said, model_version="m1", duration=0.1, latency=0.1, is_error=True, error_types=("noise",),
            caller=caller, speaker=f"of {caller}", request_id=f"r{seed}", at=NOW - timedelta(days=90 * seed),
            nbest=({"text": said + " too", "score": -1.0},),
        )  # fmt: skip
        assert case
        ids.append(case)
        number = manager.store_correction(case, f"{said} indeed", author="eve")
        manager.store_suggestions(
            [
                NewSuggestion(
                    case_id=case, text=f"{said} maybe", model="llm", digest="d", prompt_version="1", accepted=False,
                    guard="edits", reason=f"not {said}",
                )
            ]
        )  # fmt: skip
        with transaction(manager.engine) as session:
            session.execute(
                text(
                    "INSERT INTO review_decisions (case_id, reviewer, at, action, role, transcript, chosen, after, "
                    "correction_id) VALUES (:case, 'eve', :at, 'text', 'single', :said, 'typed', 0, :number)"
                ),
                {"case": case, "at": NOW.replace(tzinfo=None), "said": said, "number": number},
            )
    return ids


def erase(manager: DataManager, wanted: Wanted, **days: float) -> ErasedCases:
    """As the command does it to the database and the recordings."""
    with reading(manager.engine) as session:
        selection = select_for_erasure(session, wanted, RetentionDays(**days), NOW)
    with transaction(manager.engine) as session:
        begin_erasure(session, selection, "eve", "asked", datetime.now(UTC))
    erase_rows(manager.engine, selection)
    with reading(manager.engine) as session:
        gone = unneeded_recordings(session, selection.recordings)
    for sha256 in gone:
        manager.blobs.erase(sha256)
    overwrite_freed(manager.engine)
    return selection


def everything(manager: DataManager) -> str:
    """Every value of every row of every table."""
    with reading(manager.engine) as session:
        names = sa.inspect(session.connection()).get_table_names()
        return repr([session.execute(text(f"SELECT * FROM {name}")).all() for name in names])


def test_a_table_that_may_hold_somebody_s_words_is_erased_from_or_named() -> None:
    """A new table leads to a case, an inference or a recording by its columns, or says why its rows may stay."""
    assert erased_tables().isdisjoint(KEPT)
    unknown = {
        f"{name}.{column.name}"
        for name, table in TableBase.metadata.tables.items()
        for column in table.columns
        if name not in erased_tables() | KEPT.keys()
        and isinstance(column.type.dialect_impl(sa.create_engine("sqlite://").dialect), sa.String | sa.JSON)
    }
    assert not unknown, "give it a case_id, request_id or audio_sha256, or say in KEPT why nobody's words are in it"


@pytest.mark.parametrize(
    ("what", "gone"), [("case", {0}), ("caller", {0, 1}), ("speaker", {0, 1})], ids=["case", "caller", "speaker"]
)
def test_what_is_erased_is_in_no_table_and_the_rest_is_untouched(
    what: Any, gone: set[int], manager: DataManager, record: Recorder
) -> None:
    ids = fill(manager, record)
    names = {"case": ids[0][:8], "caller": "ann", "speaker": "of ann"}
    selection = erase(manager, Wanted(what, names[what]))
    assert set(selection.cases) == {ids[index] for index in gone}
    left = everything(manager)
    assert SECRET not in left
    assert all((key in left) == (index not in gone) for index, key in enumerate(ids))
    assert "of bob" in left and ("of ann" in left) == (what == "case")
    assert len(manager.corrections(ids[2])) == 1
    with reading(manager.engine) as session:
        assert statistics(session) == recounted(session)
    assert manager.verify().is_sound
    assert not manager.find_cases(CaseFilter(text="armadillo")).cases
    assert len(manager.find_cases(CaseFilter(text="plain")).cases) == 3 - len(gone | {0})
    if manager.engine.dialect.name == "sqlite":
        files = b"".join(path.read_bytes() for path in manager.folder.glob("mondegreen.db*"))
        assert b"armadillo" not in files and ids[0].encode() not in files
    again = erase(manager, Wanted(what, names[what])) if what != "case" else ErasedCases(what="case")
    assert again.empty


def test_what_is_old_goes_and_what_is_younger_stays(manager: DataManager, record: Recorder) -> None:
    ids = fill(manager, record)
    with transaction(manager.engine) as session:
        session.execute(sa.update(CaseRow).where(CaseRow.id == ids[2]).values(last_seen=NOW - timedelta(days=180)))
    erase(manager, Wanted("older_than", before=NOW - timedelta(days=80)))
    with reading(manager.engine) as session:
        assert set(session.scalars(select(CaseRow.id))) == set(ids[:2])
        rows = session.execute(select(InferenceRow.request_id, InferenceRow.case_id)).all()
    assert rows == [("r0", ids[0])]
    assert manager.verify().is_sound


def test_each_kind_has_its_own_age(manager: DataManager, record: Recorder) -> None:
    ids = fill(manager, record)
    with transaction(manager.engine) as session:
        for key, days in zip(ids, (10, 40, 100), strict=True):
            session.execute(sa.update(CaseRow).where(CaseRow.id == key).values(last_seen=NOW - timedelta(days=days)))
    erase(manager, Wanted("expired"), audio=30, texts=60)
    with reading(manager.engine) as session:
        assert session.scalars(select(InferenceRow.case_id).order_by(InferenceRow.request_id)).all() == [*ids[:2], None]
    assert manager.get_case(ids[1]).original_transcript == "plain words 1"
    with pytest.raises(CaseError, match="is not in"):
        manager.audio_path(ids[1])
    assert manager.verify().is_sound
    assert erase(manager, Wanted("expired"), audio=30, texts=60).empty
    manager.store_failed_case(record(1), "plain words 1", model_version="m1")
    assert manager.audio_path(ids[1]).is_file()
    assert manager.verify().is_sound


def test_a_recording_stays_while_a_younger_case_needs_it_and_nobody_asks_for_it(
    manager: DataManager, record: Recorder
) -> None:
    old = manager.store_failed_case(record(1), "x", model_version="one")
    young = manager.store_failed_case(record(1), "y", model_version="two")

    def age(key: str, days: int) -> None:
        with transaction(manager.engine) as session:
            session.execute(sa.update(CaseRow).where(CaseRow.id == key).values(last_seen=NOW - timedelta(days=days)))

    age(old, 40)
    days = RetentionDays(audio=30)
    assert erase(manager, Wanted("expired"), audio=30).empty and overdue(manager.engine, manager.folder, days) == {}
    age(young, 35)
    assert overdue(manager.engine, manager.folder, days) == {"recordings": 2}
    assert set(erase(manager, Wanted("expired"), audio=30).silenced) == {old, young}
    assert overdue(manager.engine, manager.folder, days) == {} and manager.verify().is_sound
    manager.store_failed_case(record(1), "y", model_version="two")  # the other case is without it, and needs it no more
    age(young, 35)
    assert erase(manager, Wanted("expired"), audio=30).silenced == (young,)
    assert not list(manager.blobs.digests())


@dataclass(frozen=True)
class Late:
    """An answer that was spooled."""

    at: datetime
    audio_sha256: str = "a" * 64
    speaker: str | None = None
    caller: str | None = None


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        (lambda sha256, when: Late(when - timedelta(minutes=1), sha256), False),
        (lambda sha256, when: Late(when + timedelta(minutes=1), sha256), True),
        (lambda sha256, when: Late(when - timedelta(minutes=1), caller="ann"), False),
        (lambda sha256, when: Late(when + timedelta(minutes=1), caller="ann"), True),
        (lambda sha256, when: Late(when - timedelta(minutes=1), caller="bob", speaker="of ann"), True),
    ],
    ids=["the recording", "the recording anew", "the caller", "the caller anew", "somebody else"],
)
def test_a_late_answer_of_what_was_erased_stays_away(
    answer: Callable[[str, datetime], Late], stays: bool, manager: DataManager, record: Recorder
) -> None:
    fill(manager, record)
    selection = erase(manager, Wanted("caller", "ann"))
    late = [answer(selection.recordings[0], datetime.now(UTC))]
    with reading(manager.engine) as session:
        assert without_erased(session, late) == late * stays


def test_a_speaker_goes_in_every_spelling(manager: DataManager, record: Recorder) -> None:
    spellings = ("Zoé", "zoe\u0301", " ZOÉ ", "Zoey")
    ids = [
        manager.store_failed_case(record(seed), "x", model_version="m", metadata={"speaker": name})
        for seed, name in enumerate(spellings)
    ]
    MetadataTracker(manager.folder).log_inference(
        record(7), "y", model_version="m", duration=0.1, latency=0.1, speaker="ZOE\u0301", request_id="r"
    )
    selection = erase(manager, Wanted("speaker", "zoé"))
    assert set(selection.cases) == set(ids[:3]) and [case.id for case in manager.each_case()] == [ids[3]]
    with reading(manager.engine) as session:
        assert not session.scalars(select(InferenceRow.request_id)).all()
        late = [Late(NOW - timedelta(minutes=1), speaker=name) for name in ("zoÉ", "zoey")]
        assert without_erased(session, late) == late[1:]


def test_a_case_that_comes_back_is_told(
    manager: DataManager, record: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    ids = fill(manager, record)
    erase(manager, Wanted("case", ids[0]))
    with caplog.at_level(logging.WARNING):
        manager.store_failed_case(record(0), SECRET, model_version="m1")
        manager.store_failed_case(record(7), "another", model_version="m1")
    assert [message for message in caplog.messages if "was erased on" in message] == [
        f"case {ids[0]} was erased on {datetime.now(UTC):%Y-%m-%d}, and is in the store again"
    ]
