"""Somebody's words and voice, in every place that there is, are gone afterwards; somebody else's are all there."""

import json
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from sqlalchemy import update
from typer.testing import CliRunner, Result

from mondegreen.cases.selecting import JOURNAL, ErasedCases, Wanted
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.cli.main import app
from mondegreen.config import RetentionDays
from mondegreen.db import transaction
from mondegreen.erasure.erase import Eraser
from mondegreen.erasure.files import Content, erase_in_file
from mondegreen.speech.admission import read_failed_cases
from mondegreen.tables import CaseRow
from tests.cases.snapshot_project import dvc, dvc_within, make_project, params
from tests.erasure.erasable import OTHER, everywhere, features, fill


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A project to be copied, and the ids of the cases."""
    with pytest.MonkeyPatch.context() as patch:
        project = make_project(tmp_path_factory.mktemp("erasure") / "project")
        enter(project, patch)
        return project, fill(project)


def enter(project: Path, patch: pytest.MonkeyPatch) -> Path:
    patch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    patch.setenv("DVC_ROOT", str(project))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/mlruns/mlflow.db")
    patch.chdir(project)
    return project


@pytest.fixture
def project(filled: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter(Path(shutil.copytree(filled[0], tmp_path / "project", symlinks=True)), monkeypatch)


@pytest.fixture
def ids(filled: tuple[Path, dict[str, str]]) -> dict[str, str]:
    return filled[1]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cases", *arguments])


def of_others(project: Path) -> dict[str, Any]:
    """What must stay, as it is read."""
    store = DataManager("var")
    case = store.find_cases().cases[0]
    found = {
        "case": case, "audio": store.audio_path(case).read_bytes(), "corrections": store.corrections(case.id),
        "features": [key for key in features() if key == case.audio_sha256],
    }  # fmt: skip
    store.close()
    files = (path for top in ("build", "mlruns", "var/export", "var/serve") for path in Path(top).rglob("*"))
    found["files"] = sorted(str(path) for path in files if path.is_file() and OTHER.encode() in path.read_bytes())
    return found


COPIES = ("data/failed_cases/", ".dvc/cache/")


@pytest.mark.parametrize("how", ["--speaker zoe", "--caller c-zoe", "--case"])
def test_nothing_is_left_of_what_is_erased(how: str, project: Path, ids: dict[str, str]) -> None:
    assert len(everywhere(project)) > 20
    which = [*how.split(), *([ids["zoe"]] if how == "--case" else [])]
    planned = json.loads(run("erase", *which, "--dry-run", "--json").stdout)
    before = of_others(project) if how != "--case" else None
    done = run("erase", *which, "--yes", "--reason", "she asked", "--author", "ann", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["counts"] == planned["counts"] and told["cases"] == [ids["zoe"]]
    assert {file["path"] for file in told["files"]} == {file["path"] for file in planned["files"]}
    left = everywhere(project)
    assert all(name.startswith(COPIES) for name in left), left
    where = " ".join(copy["where"] for copy in told["copies"])
    assert "data/failed_cases" in where and "DVC's cache" in where and "trained on dataset version 1" in where
    entry = json.loads(run("erasures", "--json").stdout)[0]
    assert (entry["reason"], entry["who"], entry["counts"]["cases"]) == ("she asked", "ann", 1)
    if before:
        assert of_others(project) == before


def test_the_projects_caches_lose_it_where_the_store_is_elsewhere(project: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.move("var", store)
    Path("var").mkdir()
    for name in ("llm", "features", "hypotheses"):
        shutil.move(store / name, Path("var") / name)
    assert any(name.startswith("var/") for name in everywhere(project))
    where = ("--store", str(store), "--speaker", "zoe")
    planned = json.loads(run("erase", *where, "--dry-run", "--json").stdout)
    done = run("erase", *where, "--yes", "--reason", "she asked", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == planned["files"]
    left = [name for name in everywhere(project) if not name.startswith(COPIES)]
    assert not left and not everywhere(store) and len(features()) == 1


def test_the_next_snapshot_holds_nothing_of_it_and_dvc_forgets_it(project: Path, ids: dict[str, str]) -> None:
    assert run("erase", "--speaker", "zoe", "--yes", "--reason", "she asked").exit_code == 0
    with dvc_within():
        version = take_snapshot(DataManager("var"), params(), project)
    assert version.created and [case.id for case in read_failed_cases(Path("data"))] == [ids["tom"]]
    dvc(project, "gc", "--workspace", "--force", "--quiet")
    assert not everywhere(project)


def test_an_erasure_that_is_killed_at_any_line_is_finished_by_the_next_call(
    filled: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    lines = _killed_at(_copy(filled[0], tmp_path / "whole"), None)
    for number, at in enumerate(lines * step // 9 for step in range(1, 9)):
        project = _copy(filled[0], tmp_path / str(number))
        _killed_at(project, at)
        with pytest.MonkeyPatch.context() as patch:
            enter(project, patch)
            status = run("erase") if (project / "var" / JOURNAL).exists() else run("erasures")
            assert status.exit_code == 0, status.output
            again = run("erase", "--speaker", "zoe", "--yes", "--reason", "she asked")
            assert again.exit_code == 0, again.output
            assert not [name for name in everywhere(project) if not name.startswith(COPIES)], at
            assert len(json.loads(run("erasures", "--json").stdout)) == 1
        shutil.rmtree(project)


@pytest.mark.parametrize("speaker", ["tom", "nobody"])
def test_one_object_tells_of_the_erasure_that_was_interrupted_too(
    speaker: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*inputs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mondegreen.erasure.erase.erase_rows", killed)
        run("erase", "--speaker", "zoe", "--yes", "--reason", "she asked")
    assert (project / "var" / JOURNAL).exists()
    done = run("erase", "--speaker", speaker, "--yes", "--reason", "asked", "--json")
    found = json.loads(done.stdout)  # one document
    assert found["finished"]["resumed"] and found["finished"]["counts"]["cases"] == 1
    assert found.get("number") == (2 if speaker == "tom" else None) and not found.get("resumed")
    assert "An erasure was interrupted; it is finished now." in done.stderr
    assert len(json.loads(run("erasures", "--json").stdout)) == (2 if speaker == "tom" else 1)


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target, symlinks=True))


def _killed_at(project: Path, line: int | None) -> int:
    """Erases in a process that ends without a word at that line of ours; how many there are when it lives."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as said:
            return int(said.read() or 0)
    try:
        count = 0

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal count
            if not any(
                part in frame.f_code.co_filename for part in ("/erasure/", "cases/erasing", "/spool.py", "cases/blobs")
            ):
                return None
            if event == "line":
                count += 1
                if count == line:
                    os._exit(9)
            return trace

        with pytest.MonkeyPatch.context() as patch:
            enter(project, patch)
            eraser = Eraser(DataManager("var"))
            sys.settrace(trace)
            eraser.erase(Wanted("speaker", "zoe"), RetentionDays(), "ann", "she asked")
            sys.settrace(None)
        os.write(writing, str(count).encode())
    finally:
        os._exit(0)


def test_what_is_wrong_is_said(project: Path) -> None:
    with transaction(DataManager("var").engine) as session:
        session.execute(update(CaseRow).values(last_seen=datetime.now(UTC) - timedelta(days=40)))
    Path("params.yaml").write_text("retention_days:\n  audio: 30\n")
    for arguments, said in (
        (["--yes", "--reason", "x"], "What is to be erased?"),
        (["--speaker", "zoe", "--expired"], "What is to be erased?"),
        (["--speaker", " "], "--speaker is empty"),
        (["--speaker", "zoe", "--yes"], "written down with its reason"),
        (["--speaker", "zoe", "--reason", "x"], "Nobody is here to say yes"),
        (["--expired", "--reason", "x"], "Nobody is here to say yes"),  # recordings alone, whose texts stay
        (["--older-than", "soon", "--dry-run"], "is no length of time"),
        (["--case", "abcdef", "--dry-run"], "no case"),
    ):
        found = run("erase", *arguments)
        assert found.exit_code in (1, 2) and said in found.output, found.output
        assert len(everywhere(project)) > 20
    nobody = run("erase", "--speaker", "nobody", "--yes", "--reason", "x")
    assert nobody.exit_code == 0 and "nothing of it" in nobody.output
    assert not json.loads(run("erasures", "--json").stdout)


@pytest.mark.parametrize("speaker", ["Zoe", "Ann"], ids=["in the store as well", "in the table only"])
def test_rows_of_the_speaker_in_tables_of_the_project_are_named(
    speaker: str, project: Path, ids: dict[str, str]
) -> None:
    table = Path("data/references.csv")
    table.write_text("path,text,Speaker_ID\nc.wav,hello,ZOE\nd.wav,hello,ann\n")
    Path("data/other.csv").write_text("path,text,speaker\nc.wav,hello,bob\n")
    planned = json.loads(run("erase", "--speaker", speaker, "--dry-run", "--json").stdout)
    assert planned["cases"] == ([ids["zoe"]] if speaker == "Zoe" else [])
    places = {copy["where"]: copy["next_step"] for copy in planned["copies"]}
    assert "the recordings that they name" in places[str(table)] and "data/other.csv" not in places
    done = run("erase", "--speaker", speaker, "--yes", "--reason", "asked")
    assert done.exit_code == 0 and str(table) in done.output and ("nothing of it" in done.output) == (speaker == "Ann")
    if speaker == "Zoe":
        assert "One speaker in 2 spellings: Zoe, zoe." in done.output


ONE, TWO, THREE = (digit * 16 for digit in "123")


@pytest.mark.parametrize(
    ("name", "table", "left"),
    [
        (
            "a.tsv",
            f'id\ttext\n{ONE}\t5" pipe\n{TWO}\tother\n{THREE}\tx "y\n',
            f'id\ttext\n{TWO}\tother\n{THREE}\tx "y\n',
        ),
        ("a.tsv", f'id\ttext\n{ONE}\t"a\n{TWO}\t"b\n{THREE}\tc\n', f'id\ttext\n{TWO}\t"b\n{THREE}\tc\n'),
        ("a.csv", f'id,text\n{ONE},"a ""b""\nc, d"\n{TWO},"e\n\nf"\n', f'id,text\n{TWO},"e\n\nf"\n'),
        ("a.csv", f'text;id\r\n"a;\r\nb";{ONE}\r\n"";{TWO}\r\n', f'text;id\r\n"";{TWO}\r\n'),
        ("a.tsv", f'id,text\n{TWO},"a\nb"\n{ONE},c\n', f'id,text\n{TWO},"a\nb"\n'),  # as exports once were
    ],
    ids=["quotes within", "quotes that nothing closes", "breaks within", "semicolons", "commas in a tsv"],
)
def test_a_table_loses_the_rows_of_who_is_erased_and_no_others(
    name: str, table: str, left: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(table.encode())
    content = Content(ErasedCases(what="case", cases=(ONE,)), set(), ())
    assert erase_in_file(path, content, apply=True) == "rewrite" and path.read_bytes().decode() == left
