"""Cases leave a store and come into another one as they were; a second import changes nothing."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from mondegreen.cases.exchange import export_cases, import_cases
from mondegreen.cases.queries import active_corrections, current_correction
from mondegreen.cases.records import CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.cases.writing import update_current_correction
from mondegreen.config import Params, ReviewParams
from mondegreen.db import reading, transaction
from mondegreen.review.decisions import NewDecision, record_decision
from mondegreen.tables import CaseErrorRow, CaseRow, CorrectionRow
from tests.cases.snapshot_project import add_case, record

FORMATS = ["csv", "tsv", "jsonl", "label-studio"]
SUFFIXES = {"tsv": ".tsv", "csv": ".csv", "jsonl": ".jsonl", "label-studio": ".json"}


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DataManager]:
    manager = DataManager(tmp_path / "var")
    yield manager
    manager.close()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder where fsync costs nothing, if this system has one."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return [record(folder / f"{name}.wav", 0.05) for name in "abc"]


def everything(store: DataManager) -> list[dict]:
    """All that a store knows of its cases, but the numbers of its own rows."""
    return [
        case.model_dump(exclude={"dataset_version"})
        | {"history": [item.model_dump(exclude={"id"}) for item in store.corrections(case.id)]}
        for case in store.each_case()
    ]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        "",
        "a,b",
        'say "no"',
        "line\nbreak",
        "\r",
        "\r\n",
        " spaces ",
        "=1+1",
        "'",
        "[1]",
        ";",
        "﻿",
        "é",
        "e\u0301",
        "\u2028",
    ]
)
FULL_TEXTS = TEXTS.filter(lambda text: text.strip() != "")
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
JSONS = st.dictionaries(
    TEXTS, st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS, st.lists, max_leaves=3),
    max_size=2,
)  # fmt: skip
CORRECTIONS = st.tuples(TEXTS, st.sampled_from(["manual", "import"]), TEXTS, TIMES, JSONS) | st.tuples(
    FULL_TEXTS, st.just("llm"), TEXTS, TIMES, JSONS
)
CASES = st.fixed_dictionaries(
    {
        "recording": st.integers(0, 2),
        "original_transcript": TEXTS,
        "model_version": TEXTS,
        "error_types": st.lists(TEXTS.filter(bool), max_size=3),
        "error_score": st.none() | st.floats(0, 1),
        "duration": st.none() | st.floats(0.01, 1e4),
        "source": TEXTS.filter(bool),
        "metadata": JSONS,
        "seen": st.tuples(TIMES, TIMES, st.integers(1, 5)),
        "corrections": st.lists(CORRECTIONS, max_size=3),
    }
)


def fill(store: DataManager, recordings: list[Path], cases: list[dict]) -> None:
    for case in cases:
        fields = {key: value for key, value in case.items() if key not in ("recording", "seen", "corrections")}
        key = store.store_failed_case(recordings[case["recording"]], **fields)
        numbers = [store.store_correction(key, *item[:3], metadata=item[4]) for item in case["corrections"]]
        first, last, times = case["seen"]
        with transaction(store.engine) as session:
            times_of = {"first_seen": first, "last_seen": last, "times_seen": times}
            session.execute(update(CaseRow).where(CaseRow.id == key).values(times_of))
            session.execute(update(CaseErrorRow).where(CaseErrorRow.case_id == key).values(first_seen=first))
            for number, item in zip(numbers, case["corrections"], strict=True):
                session.execute(update(CorrectionRow).where(CorrectionRow.id == number).values(at=item[3]))


@pytest.mark.parametrize("kind", FORMATS)
# An example takes two databases and their fsyncs: to shrink one would take minutes.
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cases=st.lists(CASES, max_size=8))
def test_what_is_exported_and_imported_is_what_there_was(
    kind: str, cases: list[dict], recordings: list[Path], memory: Path
) -> None:
    folder = memory / "round"
    shutil.rmtree(folder, ignore_errors=True)
    ours, theirs = DataManager(folder / "ours"), DataManager(folder / "theirs")
    fill(ours, recordings, cases)
    first, second = folder / f"out/first{SUFFIXES[kind]}", folder / f"out/second{SUFFIXES[kind]}"
    number = export_cases(ours, first, with_audio=True)
    report = import_cases(theirs, first)
    assert report.cases == report.new_cases == number == len(everything(ours))
    assert everything(theirs) == everything(ours)
    assert theirs.get_statistics().model_dump(exclude={"used", "unused"}) == ours.get_statistics().model_dump(
        exclude={"used", "unused"}
    )
    assert [page.id for page in theirs.find_cases(CaseFilter(error_type="a,b")).cases] == [
        page.id for page in ours.find_cases(CaseFilter(error_type="a,b")).cases
    ]
    export_cases(theirs, second, with_audio=True)
    assert second.read_bytes() == first.read_bytes()
    again = import_cases(theirs, second)
    assert (again.new_cases, again.new_corrections) == (0, 0) and everything(theirs) == everything(ours)
    ours.close(), theirs.close()


@pytest.mark.parametrize("kind", FORMATS)
def test_importing_adds_the_corrections_that_are_missing_and_nothing_else(
    kind: str, store: DataManager, tmp_path: Path
) -> None:
    key = add_case(store, "one", "first words")
    other = DataManager(tmp_path / "other")
    add_case(other, "one", "first words")
    other.store_correction(key, "second words", "manual", "bob")
    other.store_correction(key, "third words", "llm", "llama")
    path = tmp_path / f"out/cases{SUFFIXES[kind]}"
    export_cases(other, path)  # without audio: the case is known
    before = everything(store)[0]
    dry = import_cases(store, path, dry_run=True)
    assert everything(store) == [before]
    report = import_cases(store, path)
    assert report == dry.model_copy(update={"dry_run": False})
    # "first words" were said at another time in the other store, so they are another correction.
    assert (report.new_cases, report.new_corrections) == (0, 3)
    after = everything(store)[0]
    assert [item["transcript"] for item in after["history"]] == [
        "first words", "first words", "second words", "third words",
    ]  # fmt: skip
    assert after["corrected_transcript"] == "second words"
    changed = {"history", "corrected_transcript"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    assert import_cases(store, path).new_corrections == 0 and everything(store) == [after]


def test_an_older_correction_joins_the_history_and_takes_no_newer_one_s_place(
    store: DataManager, tmp_path: Path
) -> None:
    key = add_case(store, "one", None)
    path = tmp_path / "out/cases.jsonl"
    export_cases(store, path)
    row = json.loads(path.read_text())
    row["corrections"] = [{"transcript": "stale", "method": "manual", "author": "bob", "at": "2026-01-01T00:00:00Z"}]
    path.write_text(json.dumps(row))
    newest = store.store_correction(key, "right", author="ann")
    dry = import_cases(store, path, dry_run=True)
    report = import_cases(store, path)
    assert report == dry.model_copy(update={"dry_run": False}) and report.new_corrections == 1
    (said,) = [notice for notice in report.notices if notice.code == "older_correction"]
    assert "change no text (1)" in said.message
    assert {item.transcript for item in store.corrections(key)} == {"stale", "right"}

    def counts() -> tuple[str | None, str | None]:
        with reading(store.engine) as session:
            current = current_correction(active_corrections(session, [key])[key])
        return store.get_case(key).corrected_transcript, current and current.transcript

    assert counts() == ("right", "right")  # what a list shows and what a snapshot takes
    again = import_cases(store, path)
    assert again.new_corrections == 0 and not again.notices and counts() == ("right", "right")
    export_cases(store, path, with_audio=True)
    other = DataManager(tmp_path / "other")
    import_cases(other, path)
    assert other.get_case(key).corrected_transcript == "right"
    other.close()
    with transaction(store.engine) as session:  # where the newer one goes, the older one counts
        session.execute(delete(CorrectionRow).where(CorrectionRow.id == newest))
        update_current_correction(session, key)
    assert counts() == ("stale", "stale")
    store.store_correction(key, "another", author="ann")
    assert counts() == ("another", "another")


@pytest.mark.parametrize("actions", [["bad_audio"], ["not_speech", "skip"], ["text"], ["text", "text"]])
def test_a_correction_from_before_a_review_that_lets_none_count_is_late(
    store: DataManager, tmp_path: Path, actions: list[str]
) -> None:
    key = add_case(store, "one", None)
    params = Params(review=ReviewParams(double_fraction=1.0))
    for reviewer, action in zip(["ann", "ben"], actions, strict=False):
        text = f"by {reviewer}" if action == "text" else None
        record_decision(
            store.engine, params, NewDecision(case_id=key, reviewer=reviewer, action=action, transcript=text)
        )
    path = tmp_path / "cases.jsonl"

    def given(**correction: str) -> tuple[list[str], str | None]:
        path.write_text(json.dumps({"id": key, "corrections": [{"author": "eve", **correction}]}))
        dry = import_cases(store, path, dry_run=True)
        report = import_cases(store, path)
        assert report == dry.model_copy(update={"dry_run": False})
        return [notice.code for notice in report.notices], store.get_case(key).corrected_transcript

    assert given(transcript="stale", at="2026-01-01T00:00:00Z") == (["older_correction"], None)
    assert given(transcript="stale", at="2026-01-01T00:00:00Z") == ([], None)  # known
    assert given(transcript="stale") == (["superseded"], None)
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    assert given(transcript="heard again", at=soon) == ([], "heard again")


def test_a_spreadsheet_may_change_the_correction_or_bring_just_ids_and_texts(
    store: DataManager, tmp_path: Path
) -> None:
    one, two = add_case(store, "one", "wrong words"), add_case(store, "two")
    path = tmp_path / "cases.csv"
    export_cases(store, path)
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["corrected_transcript"] = {one: "right words", two: "good, better\nbest"}[row["id"]]
    with path.open("w", newline="", encoding="utf-8-sig") as stream:  # as Excel saves it
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert import_cases(store, path, author="ann").new_corrections == 2
    assert [(item.transcript, item.method, item.author) for item in store.corrections(one)] == [
        ("wrong words", "manual", "ann"),
        ("right words", "import", "ann"),
    ]
    assert store.get_case(two).corrected_transcript == "good, better\nbest"
    assert import_cases(store, path, author="ann").new_corrections == 0

    short = tmp_path / "short.csv"
    short.write_text(f"id,original_transcript,corrected_transcript,method\n{one},,,manual\n{two},,,\n")
    report = import_cases(store, short, author="bob")
    assert (report.cases, report.new_corrections) == (2, 1)
    assert store.get_case(one).corrected_transcript == ""  # nothing was said
    assert store.get_case(two).corrected_transcript == "good, better\nbest"


def test_new_cases_come_from_a_plain_list_of_files(store: DataManager, tmp_path: Path) -> None:
    record(tmp_path / "in/calls/1.wav", 0.2)
    path = tmp_path / "in/cases.csv"
    path.write_text(
        "audio,original_transcript,corrected_transcript,author,error_types,metadata\n"
        'calls/1.wav,HELO,hello,ann,noise; repeats,"{""speaker"": ""Zoë""}"\n',
        encoding="utf-8",
    )
    now = datetime.now(UTC)
    assert import_cases(store, path).new_cases == 1
    case = store.find_cases().cases[0]
    assert (case.audio_name, case.original_transcript, case.corrected_transcript) == ("1.wav", "HELO", "hello")
    assert (case.error_types, case.metadata, case.source) == (("noise", "repeats"), {"speaker": "Zoë"}, "import")
    assert case.duration == pytest.approx(0.2) and case.label_method == "import" and case.times_seen == 1
    assert abs(case.first_seen - now) < timedelta(minutes=1)
    assert store.audio_path(case).read_bytes() == (tmp_path / "in/calls/1.wav").read_bytes()
    assert import_cases(store, path).new_cases == 0 and store.get_case(case.id).times_seen == 1


def test_what_people_wrote_in_label_studio_comes_back(store: DataManager, tmp_path: Path) -> None:
    one, two = add_case(store, "one", "wrong words"), add_case(store, "two")
    path = tmp_path / "out/tasks.json"
    export_cases(store, path, with_audio=True, prefix="/data/local-files/?d=p/")
    tasks = {task["data"]["mondegreen"]["id"]: task for task in json.loads(path.read_text())}
    sha256 = store.get_case(two).audio_sha256
    assert tasks[two]["data"]["audio"] == f"/data/local-files/?d=p/audio/{sha256}.wav"
    assert tasks[two]["predictions"][0]["result"][0]["value"]["text"] == ["heard two"]
    assert tasks[two]["annotations"] == []

    # As Label Studio exports it: an old annotation edited, which keeps its meta, and a new one in two segments.
    edited = tasks[one]["annotations"][0]
    edited |= {"id": 1, "completed_by": {"id": 7, "email": "eve@example.org"}, "updated_at": "2026-11-20T10:00:00Z"}
    edited["result"][0]["value"]["text"] = ["right words"]
    segments = [
        {"type": "textarea", "from_name": "transcription", "to_name": "audio", "value": {"start": at, "text": [text]}}
        for at, text in ((1.5, "is on"), (0.2, "the light"))
    ]
    labels = {"type": "labels", "from_name": "labels", "to_name": "audio", "value": {"labels": ["Speech"]}}
    tasks[two]["annotations"] = [
        {"id": 2, "completed_by": 3, "was_cancelled": True, "result": segments[:1]},
        {"id": 3, "completed_by": 3, "was_cancelled": False, "result": [labels]},
        {"id": 4, "completed_by": 3, "was_cancelled": False, "result": [labels, *segments]},
    ]
    path.write_text(json.dumps(list(tasks.values())))
    assert import_cases(store, path).new_corrections == 2
    last = store.corrections(one)[-1]
    assert (last.transcript, last.method, last.author) == ("right words", "import", "eve@example.org")
    assert last.at == datetime(2026, 11, 20, 10, tzinfo=UTC)
    assert [(item.transcript, item.author) for item in store.corrections(two)] == [
        ("the light is on", "label-studio user 3")
    ]
    assert import_cases(store, path).new_corrections == 0


def test_tasks_that_were_never_ours_become_cases(store: DataManager, tmp_path: Path) -> None:
    record(tmp_path / "my call.wav")
    area = {"type": "textarea", "from_name": "t", "to_name": "a"}
    task = {
        "id": 5,
        "data": {"audio": "/data/local-files/?d=my%20call.wav", "speaker": "Zoë", "recording": "call 7", "rank": 3},
        "predictions": [{"model_version": "w2v", "result": [{**area, "value": {"text": "HELO"}}]}],
        "annotations": [{"completed_by": "x@y.z", "result": [{**area, "value": {"text": ["hello"]}}]}],
    }
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    import_cases(store, tmp_path / "tasks.json")
    case = store.find_cases().cases[0]
    assert (case.original_transcript, case.model_version, case.corrected_transcript) == ("HELO", "w2v", "hello")
    assert case.audio_name == "my call.wav" and store.corrections(case.id)[0].author == "x@y.z"
    assert case.metadata == {"speaker": "Zoë", "recording": "call 7"}


def test_a_filter_chooses_what_is_exported(store: DataManager, tmp_path: Path) -> None:
    add_case(store, "one", "words", source="help desk")
    two = add_case(store, "two")
    path = tmp_path / "some.jsonl"
    assert export_cases(store, path, where=CaseFilter(corrected=False)) == 1
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [two]
    assert export_cases(store, path, where=CaseFilter(source="nowhere")) == 0
    assert import_cases(store, path).cases == 0
