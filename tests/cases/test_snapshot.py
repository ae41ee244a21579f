"""Corrected cases become a dataset version: a commit of data.dvc and nothing else, and a tag."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen.cases.card import read_card
from mondegreen.cases.exchange import import_cases
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.cases.versions import list_versions
from mondegreen.errors import CaseError
from mondegreen.files import read_jsonl, sha256_file
from mondegreen.records import FailedCase
from mondegreen.speech.admission import read_failed_cases
from tests.cases.snapshot_project import PARAMS, add_case, dvc, dvc_within, git, make_project, params, tree

# These run DVC as the program does, in a process of its own.
REAL = ("test_corrected_cases_become_a_version_that_the_pipeline_reads",)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest) -> Iterator[None]:
    with contextlib.nullcontext() if request.node.name in REAL else dvc_within():
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    return make_project(tmp_path / "project")


@pytest.fixture
def store(project: Path) -> DataManager:
    return DataManager(project / "var")


def test_corrected_cases_become_a_version_that_the_pipeline_reads(project: Path, store: DataManager) -> None:
    one = add_case(store, "one", "Hello, world!", metadata={"speaker": "Zoë", "recording": "call 7"}, error_score=0.5)
    two = add_case(store, "two")
    three = add_case(store, "three", "a machine's words", correction_method="llm")
    store.store_correction(three, "a person's words", "manual", "bob")
    store.store_correction(three, "a machine again", "llm", "llama")
    seven, silent = add_case(store, "seven", "price 7"), add_case(store, "silent", "")
    (project / "other.txt").write_text("half finished")
    (project / "staged.txt").write_text("staged")
    git(project, "add", "staged.txt")
    others = tree(project / "data")

    version = take_snapshot(store, params(min_validity=0.5), project)

    assert (version.number, version.cases, version.new, version.parent, version.created) == (1, 2, 2, None, True)
    rows = {case.id: case for case in read_failed_cases(project / "data")}
    assert rows.keys() == {one, three}
    assert (rows[one].text, rows[one].speaker, rows[one].recording) == ("Hello, world!", "Zoë", "call 7")
    assert (rows[one].hypothesis, rows[one].error_types, rows[one].error_score) == ("heard one", ["repeats"], 0.5)
    assert (rows[three].text, rows[three].method, rows[three].author) == ("a person's words", "manual", "bob")
    for row in rows.values():
        assert sha256_file(project / "data/failed_cases" / row.path) == row.sha256
        assert row.duration == pytest.approx(0.3)
    card = read_card(project / "data/failed_cases")
    assert card and card.left_out == {"empty_correction": 1, "no_correction": 1, "vocabulary": 1}
    assert {item.id: item.reason for item in card.left_out_cases} == {seven: "vocabulary", silent: "empty_correction"}
    assert "'7'" in next(item.message for item in card.left_out_cases if item.id == seven)
    assert (card.methods, card.error_types) == ({"manual": 2}, {"repeats": 2})
    assert card.quality.validity == pytest.approx(0.75)  # to hear no words is a valid answer

    assert git(project, "show", "--name-only", "--format=", "HEAD") == "data.dvc"
    assert git(project, "status", "--short").split("\n") == ["M other.txt", "A  staged.txt"]
    assert git(project, "rev-parse", "failed-cases/v1^{commit}") == git(project, "rev-parse", "HEAD") == version.commit
    assert git(project, "cat-file", "-t", "failed-cases/v1") == "tag"
    assert {path: sha for path, sha in tree(project / "data").items() if "failed_cases" not in path} == others
    assert {case.id: case.dataset_version for case in store.each_case()} == {
        one: 1,
        three: 1,
        two: None,
        seven: None,
        silent: None,
    }


def test_nothing_new_makes_no_version_and_new_words_make_the_next_one(project: Path, store: DataManager) -> None:
    one, two = add_case(store, "one", "some words"), add_case(store, "two", "other words")
    first = take_snapshot(store, PARAMS, project)
    content = (project / "data/failed_cases/cases.jsonl").read_bytes()

    add_case(store, "one", error_types=["noise"])  # seen once more, and nothing was learnt
    again = take_snapshot(store, PARAMS, project)
    assert (again.number, again.created, again.commit) == (1, False, first.commit)
    assert (project / "data/failed_cases/cases.jsonl").read_bytes() == content

    store.store_correction(one, "better words", "manual", "bob")
    store.store_correction(two, "not 4 the model")
    three = add_case(store, "three", "third words")
    second = take_snapshot(store, params(min_validity=0.5), project, message="from the help desk")
    assert (second.number, second.parent, second.cases, second.new) == (2, 1, 2, 1)
    card = read_card(project / "data/failed_cases")
    assert card and (card.new, card.changed, card.removed) == (1, 1, 1)
    assert git(project, "log", "-1", "--format=%s") == "Failed cases v2: from the help desk"
    assert [store.get_case(key).dataset_version for key in (one, two, three)] == [1, 1, 2]  # the first that holds it
    assert [version.number for version in list_versions(project)] == [1, 2]


def test_whose_voice_a_case_is_may_be_said_later_and_makes_a_version(project: Path, store: DataManager) -> None:
    """By seeing the case again, by a file, and in another store than the one that it was collected in."""
    key = add_case(store, "one", "some words", metadata={"confidence": 0.5, "channel": "line 1"})
    take_snapshot(store, PARAMS, project)
    add_case(store, "one", metadata={"speaker": "Zoë", "channel": ""})
    assert store.get_case(key).metadata == {"confidence": 0.5, "channel": "line 1", "speaker": "Zoë"}
    assert take_snapshot(store, PARAMS, project).number == 2

    sent = project / "sent.jsonl"
    sent.write_text(json.dumps({"id": key, "metadata": {"recording": "call 7"}}) + "\n")
    assert import_cases(store, sent, dry_run=True).new_metadata == 1
    assert import_cases(store, sent).new_metadata == 1
    assert import_cases(store, sent).new_metadata == 0
    assert take_snapshot(store, PARAMS, project).number == 3
    (row,) = read_failed_cases(project / "data")
    assert (row.speaker, row.recording, row.channel) == ("Zoë", "call 7", "line 1")

    elsewhere = DataManager(project / "elsewhere")
    add_case(elsewhere, "one", "better words")
    assert take_snapshot(elsewhere, PARAMS, project).number == 4
    (row,) = read_failed_cases(project / "data")
    assert (row.text, row.speaker, row.recording, row.channel) == ("better words", "Zoë", "call 7", "line 1")


def test_a_clone_goes_on_from_the_card_when_tags_and_store_stayed_elsewhere(
    project: Path, store: DataManager, tmp_path: Path
) -> None:
    add_case(store, "one", "by a person")
    take_snapshot(store, PARAMS, project)
    clone = tmp_path / "clone"
    git(project, "clone", "--quiet", "--no-tags", str(project), str(clone))
    git(clone, "config", "user.name", "Other")
    git(clone, "config", "user.email", "other@example.org")
    dvc(clone, "cache", "dir", "--local", str(project / ".dvc/cache"))
    dvc(clone, "checkout", "--quiet")
    elsewhere = DataManager(clone / "var")
    add_case(elsewhere, "one", "by a machine", correction_method="llm")
    two = add_case(elsewhere, "two", "second words")

    version = take_snapshot(elsewhere, PARAMS, clone)

    assert (version.number, version.parent, version.cases, version.new) == (2, 1, 2, 1)
    rows = read_jsonl(clone / "data/failed_cases/cases.jsonl", FailedCase)
    assert {case.text for case in rows} == {"by a person", "second words"}
    assert [version.number for version in list_versions(clone)] == [2]
    assert elsewhere.get_case(two).dataset_version == 2


def test_a_correction_that_comes_meanwhile_belongs_to_the_next_version(project: Path, store: DataManager) -> None:
    one = add_case(store, "one", "first words")
    late: list[str] = []

    def meanwhile(cases):  # type: ignore[no-untyped-def]
        for case in cases:
            store.store_correction(one, "second thoughts")
            late.append(add_case(store, "late", "late words"))
            yield case

    take_snapshot(store, PARAMS, project, track=meanwhile)
    assert [case.text for case in read_failed_cases(project / "data")] == ["first words"]
    assert store.get_case(late[0]).dataset_version is None
    take_snapshot(store, PARAMS, project)
    assert {case.text for case in read_failed_cases(project / "data")} == {"second thoughts", "late words"}


def test_changes_of_the_users_own_in_data_are_refused_and_kept(project: Path, store: DataManager) -> None:
    add_case(store, "one", "some words")
    before = git(project, "rev-parse", "HEAD")
    (project / "data/mine.txt").write_text("mine")
    with pytest.raises(CaseError, match="data/ holds changes"):
        take_snapshot(store, PARAMS, project)
    dvc(project, "add", "--quiet", "data")
    with pytest.raises(CaseError, match=r"data\.dvc is not the committed one"):
        take_snapshot(store, PARAMS, project)
    assert (project / "data/mine.txt").read_text() == "mine"
    git(project, "commit", "--quiet", "-m", "mine", "--", "data.dvc")

    def meddle(cases):  # type: ignore[no-untyped-def]
        yield from cases
        (project / "data/late.txt").write_text("too late to be seen by dvc status")

    with pytest.raises(CaseError, match=r"data/ was changed during the snapshot: late\.txt"):
        take_snapshot(store, PARAMS, project, track=meddle)
    assert not (project / "data/failed_cases").exists()
    assert git(project, "status", "--short") == "" and git(project, "rev-parse", "HEAD~1") == before
    assert store.get_corrected_cases(used=True) == []


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("rm -rf .git", "not in a git repository"),
        ("rm -rf .dvc", "not a DVC project"),
        ("git rm -q --cached data.dvc && git commit -qm gone", r"data\.dvc is not committed"),
        ("printf 'outs: 3' > data.dvc && git commit -qam odd", "does not name data/"),
    ],
)
def test_a_place_without_git_dvc_or_a_committed_pointer_is_named(
    project: Path, store: DataManager, spoil: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mondegreen.cases.repository.Repository.check_unchanged", lambda self: None)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    add_case(store, "one", "some words")
    subprocess.run(spoil, shell=True, cwd=project, check=True)
    with pytest.raises(CaseError, match=problem):
        take_snapshot(store, PARAMS, project)
    assert not (project / "data/failed_cases").exists()


def test_a_refusal_of_git_is_passed_on_and_everything_is_as_it_was(project: Path, store: DataManager) -> None:
    add_case(store, "one", "some words")
    hook = project / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no commits on Mondays' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(CaseError, match="no commits on Mondays"):
        take_snapshot(store, PARAMS, project)
    assert not (project / "data/failed_cases").exists() and git(project, "status", "--short") == ""
    assert json.loads(dvc(project, "status", "--json")) == {}
