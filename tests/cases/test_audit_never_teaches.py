"""What the audit drew judges the service: it enters no dataset version, and no training by another way."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mondegreen.cases.card import AUDITED
from mondegreen.cases.records import AUDIT
from mondegreen.cases.selecting import subject_digest
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.db import transaction
from mondegreen.errors import UsageError
from mondegreen.speech.admission import AUDITED_FILE, read_audited, read_failed_cases, without_judging
from mondegreen.tables import ErasedSubjectRow, ErasureRow
from tests.cases.snapshot_project import add_case, dvc, dvc_within, git, make_project, params, record
from tests.scoring.examples import utterance


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    with dvc_within():
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    return make_project(tmp_path / "project")


def test_a_snapshot_leaves_out_what_the_audit_drew(project: Path) -> None:
    store = DataManager(project / "var")
    plain = add_case(store, "plain", "hello world")
    add_case(store, "drawn", "heard by a person", source=AUDIT, metadata={"recording": "call 7"})
    add_case(store, "waiting", None, source=AUDIT)
    twice = add_case(store, "drawn", "the same recording, misheard before")
    piece = add_case(store, "piece", "of the same call", metadata={"recording": "call 7"})
    version = take_snapshot(store, params(), project)
    assert {case.id for case in read_failed_cases(project / "data")} == {plain}
    assert version.left_out == {AUDITED: 2} and {twice, piece}.isdisjoint({plain})
    audio = {case.audio_sha256 for case in store.each_case() if case.source == AUDIT}
    assert read_audited(project / "data") == audio and len(audio) == 2


def test_a_case_leaves_when_its_recording_is_drawn_later(project: Path) -> None:
    store = DataManager(project / "var")
    add_case(store, "plain", "hello world")
    add_case(store, "drawn", "misheard before")
    assert take_snapshot(store, params(), project).cases == 2
    add_case(store, "drawn", None, source=AUDIT)
    assert take_snapshot(store, params(), project).cases == 1


def test_a_recording_of_data_that_is_drawn_later_makes_a_version_that_names_it(project: Path) -> None:
    store, own = DataManager(project / "var"), record(project / "data/audio/clean/own.wav")
    dvc(project, "add", "--quiet", "data")
    git(project, "commit", "--quiet", "--message", "another recording", "--", "data.dvc")
    add_case(store, "plain", "hello world")
    assert take_snapshot(store, params(), project).number == 1
    add_case(store, "from elsewhere", None, source=AUDIT)
    assert not take_snapshot(store, params(), project).created
    key = store.store_failed_case(own, "heard", None, model_version="m1", source=AUDIT)
    version = take_snapshot(store, params(), project)
    assert (version.created, version.number, version.cases) == (True, 2, 1) and "(1)" in " ".join(version.notes)
    assert store.get_case(key).audio_sha256 in read_audited(project / "data")
    assert not take_snapshot(store, params(), project).created


def test_a_version_of_another_store_keeps_what_was_drawn_in_the_first_one(project: Path) -> None:
    first = DataManager(project / "var")
    add_case(first, "plain", "hello world")
    kept, erased = (first.get_case(add_case(first, name, None, source=AUDIT)).audio_sha256 for name in ("one", "two"))
    take_snapshot(first, params(), project)
    second = DataManager(project / "elsewhere")
    add_case(second, "another", "hello again")
    again = add_case(second, "one", "misheard there, too")
    with transaction(second.engine) as session:
        row = ErasureRow(at=datetime.now(UTC), who="ann", reason="asked", what="case", before=None, counts={})
        session.add(row)
        session.flush()
        session.add(ErasedSubjectRow(digest=subject_digest("audio", erased), erasure_id=row.id))
    assert take_snapshot(second, params(), project).left_out == {AUDITED: 1}
    assert again not in {case.id for case in read_failed_cases(project / "data")}
    assert read_audited(project / "data") == {kept}


def test_prepare_keeps_it_out_of_training_and_lets_it_judge() -> None:
    rows = [utterance(f"u{n}", split=split, sha256=f"{n}" * 64) for n, split in enumerate(("train", "train", "test"))]
    kept, problems = without_judging(rows, frozenset({rows[0].sha256, rows[2].sha256}))
    assert kept == rows[1:]
    assert [(problem.path, problem.reason) for problem in problems] == [(rows[0].path, AUDITED)]


def test_a_damaged_list_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "failed_cases").mkdir()
    (tmp_path / "failed_cases" / AUDITED_FILE).write_text("a" * 64 + "\nnonsense\n")
    with pytest.raises(UsageError, match=r"audited\.txt, line 2"):
        read_audited(tmp_path)
