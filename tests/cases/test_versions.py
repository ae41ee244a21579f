"""Versions are listed, compared and brought back, and nothing that was never committed is lost."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen.cases.repository import Repository
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.cases.versions import checkout_version, diff_versions, list_versions
from mondegreen.errors import CaseError, UsageError
from tests.cases.snapshot_project import PARAMS, add_case, dvc, dvc_within, git, make_project, params, tree


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    with dvc_within():
        yield


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions: two cases; one of them anew and a third; one of them gone. Their trees are in v1, v2, v3."""
    folder = tmp_path_factory.mktemp("history")
    root = make_project(folder / "project")
    store = DataManager(root / "var")
    first, second = add_case(store, "one", "first words"), add_case(store, "two", "second words")
    with dvc_within():
        take_snapshot(store, PARAMS, root)
        shutil.copytree(root / "data", folder / "v1")
        store.store_correction(first, "better words", "import", "bob")
        add_case(store, "three", "third words")
        take_snapshot(store, PARAMS, root)
        shutil.copytree(root / "data", folder / "v2")
        store.store_correction(second, "2 cents")
        take_snapshot(store, params(min_validity=0.5), root)
        shutil.copytree(root / "data", folder / "v3")
    store.close()
    return folder


@pytest.fixture
def project(history: Path, tmp_path: Path) -> Path:
    return shutil.copytree(history / "project", tmp_path / "project", symlinks=True)


def test_versions_are_listed_with_their_facts(history: Path) -> None:
    found = list_versions(history / "project")
    assert [(item.number, item.cases, item.new, item.parent) for item in found] == [
        (1, 2, 2, None),
        (2, 3, 1, 1),
        (3, 2, 0, 2),
    ]
    log = git(history / "project", "log", "-3", "--reverse", "--format=%H").split("\n")
    assert [item.commit for item in found] == log
    assert all(item.date.utcoffset() is not None and item.tag == f"failed-cases/v{item.number}" for item in found)


def test_versions_are_compared_without_a_checkout(history: Path) -> None:
    root, before = history / "project", tree(history / "project/data")
    found = diff_versions("v1", 2, root)
    assert [case.text for case in found.added] == ["third words"] and found.removed == []
    change = found.changed[0]
    assert len(found.changed) == 1
    assert (change.before, change.after) == ("first words", "better words")
    assert (change.method_before, change.method_after) == ("manual", "import")
    assert (change.author_before, change.author_after) == ("ann", "bob")
    back = diff_versions(3, "failed-cases/v1", root)
    assert [case.text for case in back.added] == ["second words"]
    assert [case.text for case in back.removed] == ["third words"]
    assert diff_versions(2, 2, root).changed == []
    assert tree(root / "data") == before and git(root, "status", "--short") == ""


def test_a_tag_and_dvc_bring_back_every_byte(history: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(history, "clone", "--quiet", str(history / "project"), str(clone))
    dvc(clone, "cache", "dir", "--local", str(history / "project/.dvc/cache"))
    for number in (1, 3, 2):
        git(clone, "checkout", "--quiet", f"failed-cases/v{number}")
        Repository(clone).dvc("checkout", "--quiet")
        assert tree(clone / "data") == tree(history / f"v{number}")


def test_checkout_brings_back_every_byte_and_the_way_back_is_open(history: Path, project: Path) -> None:
    for number in (1, 2, 3):  # from one old version to another, although HEAD has neither
        assert checkout_version(f"v{number}", project).number == number
        assert tree(project / "data") == tree(history / f"v{number}")
    assert git(project, "status", "--short") == ""
    checkout_version(1, project)
    with pytest.raises(CaseError, match=r"data\.dvc is not the committed one"):
        take_snapshot(DataManager(project / "var"), PARAMS, project)


def test_checkout_loses_nothing(history: Path, project: Path) -> None:
    (project / "data/mine.txt").write_text("mine")
    with pytest.raises(CaseError, match="data/ holds changes"):
        checkout_version(1, project)
    Repository(project).dvc("add", "--quiet", "data")
    with pytest.raises(CaseError, match="never committed"):
        checkout_version(1, project)
    assert (project / "data/mine.txt").read_text() == "mine"
    git(project, "commit", "--quiet", "-m", "mine", "--", "data.dvc")
    checkout_version(1, project)
    assert tree(project / "data") == tree(history / "v1")


def test_a_version_whose_files_are_not_here_is_named_before_anything_changes(project: Path) -> None:
    before, repository = tree(project / "data"), Repository(project)
    gone = repository.listing("failed-cases/v1")["failed_cases/cases.jsonl"]
    repository.cached(gone).unlink()
    with pytest.raises(CaseError, match=r"DVC's cache lacks 1 file of version 1, .*\n.*dvc fetch --all-tags"):
        checkout_version(1, project)
    with pytest.raises(CaseError, match=r"dvc fetch --all-tags data\.dvc"):
        diff_versions(1, 2, project)
    assert tree(project / "data") == before and git(project, "status", "--short") == ""


def test_names_that_are_no_versions_are_told_from_versions_that_are_not_there(history: Path, tmp_path: Path) -> None:
    for name in ("latest", "-1", "v", ""):
        with pytest.raises(UsageError, match="is not a dataset version"):
            diff_versions(1, name, history / "project")
    with pytest.raises(CaseError, match="no dataset version 9"):
        diff_versions(1, 9, history / "project")
    with pytest.raises(CaseError, match="not in a git repository"):
        list_versions(tmp_path)


def test_a_damaged_file_in_the_cache_is_not_believed(project: Path) -> None:
    repository = Repository(project)
    path = repository.cached(repository.listing("failed-cases/v2")["failed_cases/cases.jsonl"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"third", b"fifth"))
    with pytest.raises(CaseError, match="is damaged"):
        diff_versions(1, 2, project)
