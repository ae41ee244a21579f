"""A snapshot dies at any line, the disk fills up, two come at once: nothing is lost, and the next one goes on."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mondegreen.cases.freezing import Freezer
from mondegreen.cases.repository import Repository
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.cases.versions import DatasetVersion, Swap, alone, checkout_version, list_versions
from mondegreen.config import AudioParams
from mondegreen.errors import CaseError
from mondegreen.speech.admission import read_failed_cases
from tests.cases.snapshot_project import PARAMS, add_case, dvc_within, git, make_project, params, record, tree

SPAWN = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    with dvc_within():
        yield


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a first version, and two cases for the second."""
    root = make_project(tmp_path_factory.mktemp("begun") / "project")
    store = DataManager(root / "var")
    add_case(store, "one", "some words")
    with dvc_within():
        take_snapshot(store, PARAMS, root)
    add_case(store, "two", "other words")
    add_case(store, "three", "third words")
    store.close()
    return root


@pytest.fixture
def project(begun: Path, tmp_path: Path) -> Path:
    return shutil.copytree(begun, tmp_path / "project", symlinks=True)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def instead(owner: type, name: str, when: Callable[..., bool]) -> None:
    """From now on a call of owner.name for which `when` holds kills the process."""
    real = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: die() if when(*args) else real(*args, **kwargs))


def count(number: int) -> Callable[..., bool]:
    calls = iter(range(1, 1000))
    return lambda *args: next(calls) == number


POINTS: dict[str, Callable[[], None]] = {
    "while audio is copied": lambda: instead(Freezer, "_take", count(2)),
    "before the journal": lambda: instead(Swap, "exchange", count(1)),
    "between the two renames": lambda: instead(type(Path()), "rename", lambda path, target: path.name == "new"),
    "before dvc add": lambda: instead(Repository, "dvc", lambda self, *args: args[0] == "add"),
    "before the journal has the commit's data": lambda: instead(Swap, "note", count(1)),
    "before the commit": lambda: instead(Repository, "git", lambda self, *args: args[0] == "commit"),
    "between commit and tag": lambda: instead(Repository, "git", lambda self, *args: "--annotate" in args),
    "between tag and mark": lambda: instead(DataManager, "mark_used", count(1)),
    "before the journal is closed": lambda: instead(Swap, "close", lambda swap: swap.journal() is not None),
}


def killed(root: Path, prepare: Callable[[], None]) -> None:
    """Takes a snapshot in another process, which must die of SIGKILL."""

    def snapshot() -> None:
        prepare()
        take_snapshot(DataManager(root / "var"), PARAMS, root)

    process = SPAWN.Process(target=snapshot)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def check_second(root: Path, store: DataManager, version: DatasetVersion) -> None:
    assert (version.number, version.parent, version.cases, version.new) == (2, 1, 3, 2)
    assert [item.number for item in list_versions(root)] == [1, 2]
    assert git(root, "log", "--format=%s", "-3").split("\n")[1:] == [
        "Failed cases v1: 1 new, 0 corrected anew, 1 in all",
        "the project",
    ]
    assert git(root, "status", "--short") == ""
    rows = read_failed_cases(root / "data")
    assert {case.text for case in rows} == {"some words", "other words", "third words"}
    assert len(list((root / "data/failed_cases/audio").iterdir())) == 3
    assert sorted(case.dataset_version or 0 for case in store.each_case()) == [1, 2, 2]
    assert not (root / ".dvc/tmp/failed_cases").exists()
    Repository(root).check_clean()


@pytest.mark.parametrize("point", POINTS)
def test_the_next_snapshot_goes_on_from_one_that_was_killed(project: Path, point: str) -> None:
    killed(project, POINTS[point])
    store = DataManager(project / "var")
    version = take_snapshot(store, PARAMS, project)
    check_second(project, store, version)


def test_what_a_killed_snapshot_left_running_is_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Repository.dvc

    def real_add(self: Repository, *arguments: str) -> str:
        if arguments[0] != "add":
            return fast(self, *arguments)
        threading.Timer(0.2, die).start()
        script = f"sleep 1.5; exec '{os.sys.executable}' -m dvc add --quiet data"  # type: ignore[attr-defined]
        subprocess.run(["sh", "-c", script], cwd=self.root, pass_fds=self._inherited, check=True)
        return ""

    killed(project, lambda: setattr(Repository, "dvc", real_add))
    store, began = DataManager(project / "var"), time.monotonic()
    version = take_snapshot(store, PARAMS, project)
    assert time.monotonic() - began > 1
    check_second(project, store, version)


def test_a_full_disk_while_copying_leaves_data_as_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, store = tree(project / "data"), DataManager(project / "var")
    real = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".dvc/tmp" in path.as_posix():
            raise OSError(28, "No space left on device", str(path))
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(CaseError, match=r"No space left on device.*\n.*Make room"):
            take_snapshot(store, PARAMS, project)
    assert tree(project / "data") == before and not (project / ".dvc/tmp/failed_cases").exists()
    check_second(project, store, take_snapshot(store, PARAMS, project))


def test_a_full_disk_in_dvc_add_brings_the_old_folder_back(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, store, fast = tree(project / "data"), DataManager(project / "var"), Repository.dvc

    def full(self: Repository, *arguments: str) -> str:
        if arguments[0] == "add":
            raise CaseError("`dvc add` failed: No space left on device")
        return fast(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Repository, "dvc", full)
        with pytest.raises(CaseError, match="No space left"):
            take_snapshot(store, PARAMS, project)
    assert tree(project / "data") == before and git(project, "status", "--short") == ""
    check_second(project, store, take_snapshot(store, PARAMS, project))


def test_damaged_missing_and_overlong_recordings_are_left_out_by_name(project: Path) -> None:
    store = DataManager(project / "var")
    corrupt, gone = add_case(store, "corrupt", "words"), add_case(store, "gone", "words")
    long, old = add_case(store, "long", "words", seconds=1.2), read_failed_cases(project / "data")[0].id
    path = store.audio_path(corrupt)
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    store.audio_path(gone).unlink()
    store.audio_path(old).unlink()  # its version has it
    with pytest.raises(CaseError, match=r"cases\.min_validity: 0\.5 is below 0\.9") as caught:
        take_snapshot(store, params(max_duration=1.0), project)
    assert corrupt in str(caught.value) and gone in str(caught.value)
    assert f"{long}: recording" in str(caught.value) and "longer than 1 s" in str(caught.value)
    version = take_snapshot(store, params(max_duration=1.0, min_validity=0.5, min_completeness=0.8), project)
    assert version.left_out == {"corrupt_audio": 1, "missing_audio": 1, "too_long": 1}
    assert {case.text for case in read_failed_cases(project / "data")} == {"some words", "other words", "third words"}
    assert len(read_failed_cases(project / "data")) == 3


def test_how_much_of_a_recording_may_be_missing_params_say(project: Path) -> None:
    store, path = DataManager(project / "var"), project / "var/incoming/cut.wav"
    record(path, 1.0)
    path.write_bytes(path.read_bytes()[:22_000])  # 0.7 s of it
    key = store.store_failed_case(path, "heard cut", "cut words", model_version="m1", author="ann")
    assert store.get_case(key).duration == pytest.approx(0.7, abs=0.02)
    strict = take_snapshot(store, params(min_completeness=0.5, min_validity=0.5), project)
    assert strict.left_out == {"truncated": 1}
    take_snapshot(store, PARAMS.model_copy(update={"audio": AudioParams(max_missing_share=0.5)}), project)
    assert "cut words" in {case.text for case in read_failed_cases(project / "data")}


def test_two_snapshots_at_once_make_one_version(project: Path) -> None:
    def snapshot() -> None:
        take_snapshot(DataManager(project / "var"), PARAMS, project)

    processes = [SPAWN.Process(target=snapshot) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    store = DataManager(project / "var")
    check_second(project, store, list_versions(project)[-1])


def test_a_snapshot_does_not_wait_for_ever(project: Path) -> None:
    with alone(project), pytest.raises(CaseError, match="Another snapshot"):
        take_snapshot(DataManager(project / "var"), PARAMS, project, patience=0)


def test_a_folder_that_the_user_restored_after_a_crash_is_not_overwritten(project: Path) -> None:
    killed(project, POINTS["before dvc add"])
    with pytest.raises(CaseError, match="A snapshot was interrupted"):
        checkout_version(1, project)
    git(project, "checkout", "HEAD", "--", "data.dvc")
    Repository(project).dvc("checkout", "--quiet", "--force", "data.dvc")
    store = DataManager(project / "var")
    check_second(project, store, take_snapshot(store, PARAMS, project))
