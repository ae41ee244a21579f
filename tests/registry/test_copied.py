"""A project that was copied with its MLflow database, whose paths still lead to the original."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mondegreen.errors import RegistryError
from mondegreen.registry import copied
from mondegreen.registry.doctor import relocate
from mondegreen.registry.resolving import resolve_uri
from tests.registry.conftest import enter
from tests.registry.registered import NAME, add, deployer, in_child


def files(project: Path) -> dict[str, bytes]:
    artifacts = project / "mlruns" / "artifacts"
    return {str(path.relative_to(artifacts)): path.read_bytes() for path in artifacts.rglob("*") if path.is_file()}


def grow(project: Path, versions: int) -> None:
    """So many versions, each of which was deployed; in a child: a copy is another database."""

    def work() -> None:
        for number in range(1, versions + 1):
            add(project, number)
            deployer(keep_previous_versions=9).deploy_model(number)
        add(project, versions + 1)

    status, answer = in_child(work)
    assert (status, answer) == (0, None)


def copied_to(original: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *left_out: str) -> Path:
    shutil.copytree(original, folder, ignore=shutil.ignore_patterns(*left_out))
    return enter(folder, monkeypatch)


def refused(work: Callable[[], object]) -> tuple[str, str]:
    """The sentence and the next step of what a child was refused."""

    def attempt() -> tuple[str, str]:
        with pytest.raises(RegistryError) as refusal:
            work()
        return refusal.value.problem, refusal.value.next_step

    answer = in_child(attempt)[1]
    assert isinstance(answer, tuple), answer
    return answer


@pytest.mark.parametrize("left_out", ["nothing", "artifacts"])
def test_the_original_keeps_the_files_of_a_version_that_its_copy_deletes(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    """Also where only the database was copied."""
    grow(light, 1)
    in_child(lambda: add(light, 3))  # version 2 is nobody's any more
    before = files(light)
    copy = copied_to(light, tmp_path / "copy", monkeypatch, left_out)
    problem, next_step = refused(lambda: deployer().delete_version(2))
    assert problem.startswith("Version 2 is not deleted") and f"{light}/mlruns/artifacts" in problem
    assert "mondegreen doctor --relocate" in next_step
    assert (f"Copy it to {copy}/mlruns/artifacts" in next_step) == (left_out == "artifacts")
    assert refused(lambda: deployer().check_deletable(2)) == (problem, next_step)  # before anybody is asked
    assert files(light) == before

    if left_out == "artifacts":
        shutil.copytree(light / "mlruns" / "artifacts", copy / "mlruns" / "artifacts")

    def mended() -> str:
        relocate()
        return deployer().delete_version(2).action

    assert in_child(mended)[1] == "delete"
    assert files(light) == before and len(files(copy)) < len(before)


def test_a_moved_project_deletes_no_version_whose_files_would_stay(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(light, 1)
    in_child(lambda: add(light, 3))
    light.rename(tmp_path / "moved")
    enter(tmp_path / "moved", monkeypatch)
    assert "mondegreen doctor --relocate" in refused(lambda: deployer().delete_version(2))[1]


def test_a_deployment_in_the_copy_prunes_nothing_of_the_original(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(light, 3)
    before = files(light)
    copy = copied_to(light, tmp_path / "copy", monkeypatch)

    def deployed() -> list[str]:
        keeps_one = deployer(keep_previous_versions=1)
        keeps_one.deploy_model(4)
        return [version.pruned for version in keeps_one.list_versions()]

    answer = in_child(deployed)[1]
    assert files(light) == before
    assert answer == ["", "", "", ""]

    def mended() -> list[bool]:
        relocate()
        add(copy, 5)
        keeps_one = deployer(keep_previous_versions=1)
        keeps_one.deploy_model(5)
        return [bool(version.pruned) for version in keeps_one.list_versions()]

    assert in_child(mended)[1] == [False, False, True, True, True]
    assert files(light) == before


def test_the_copy_writes_no_backup_over_files_of_the_original(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(light, 1)
    damaged = next((light / "mlruns").rglob("model.safetensors"))
    copied_to(light, tmp_path / "copy", monkeypatch)
    for path in (light / "mlruns").rglob("model.safetensors"):
        path.write_bytes(b"the original's own")
    problem, _ = refused(lambda: deployer().verify(1, restore=True))
    assert problem.startswith("The files of version 1 are not put back")
    assert damaged.read_bytes() == b"the original's own"


def test_who_loads_or_moves_a_version_of_the_original_hears_so_once(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    grow(light, 2)
    copied_to(light, tmp_path / "copy", monkeypatch)

    def said(*works: Callable[[], object]) -> list[str]:
        def work() -> list[str]:
            copied._WARNED.clear()
            caplog.clear()
            with caplog.at_level(logging.WARNING, "mondegreen.registry.copied"):
                for each in works:
                    each()
            return [record.getMessage() for record in caplog.records if record.name == "mondegreen.registry.copied"]

        answer = in_child(work)[1]
        assert isinstance(answer, list), answer
        return answer

    def load() -> object:
        return resolve_uri(f"models:/{NAME}@champion")

    for works in ([load, load], [lambda: deployer().deploy_model(3), load], [lambda: deployer().rollback()]):
        (warning,) = said(*works)
        assert f"{light}/mlruns/artifacts" in warning and "mondegreen doctor --relocate" in warning
    assert said(lambda: relocate(), load) == []


def test_artifacts_that_are_kept_elsewhere_on_purpose_are_nobody_elses(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another disk, also below a folder of the same name, and a project that is reached by a link."""
    for shared in (tmp_path / "disk" / "artifacts", tmp_path / "disk" / "mlruns" / "artifacts"):
        (shared / "m-1" / "artifacts").mkdir(parents=True)
        assert copied.elsewhere(f"file://{shared}/m-1/artifacts") is None
    (tmp_path / "link").symlink_to(light)
    package = light / "mlruns" / "artifacts" / "m-2"
    package.mkdir(parents=True)
    enter(tmp_path / "link", monkeypatch)
    assert copied.elsewhere(str(package)) is None
    assert copied.elsewhere("mlflow-artifacts:/1/models/m-2") is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    (tmp_path / "disk" / "mlruns" / "mlflow.db").touch()
    assert copied.elsewhere(str(tmp_path / "disk" / "mlruns" / "artifacts" / "m-1")) is None
