"""A project may lie in any folder: `?`, `#`, `%` and blanks mean something in a URL, and nothing here."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from mondegreen.db import open_database
from mondegreen.registry.aliases import holdings
from mondegreen.registry.doctor import strays
from mondegreen.registry.mlflow_store import connect, live_state, registry_file
from mondegreen.registry.resolving import resolve_uri
from tests.registry.registered import NAME, add, deployer, package


def _all(folder: Path) -> set[Path]:
    """Files, links and folders, empty ones too."""
    return {folder, *folder.rglob("*")}


@pytest.mark.parametrize(
    ("name", "linked"),
    [("a%20b", False), ("a%20b", True), ("q?x=1", False), ("c#x", False), ("100%", False), ("ä ö+&;", False)],
)
def test_nothing_is_written_outside_of_the_project(
    name: str, linked: bool, tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / name
    (project / "mlruns").mkdir(parents=True)
    (project / ".git").mkdir()
    (project / "params.yaml").write_text("seed: 7\n")
    for neighbour in ("a b", "q", "c", "a"):  # what the names are when a URL's rules are applied to them
        (tmp_path / neighbour / "mlruns").mkdir(parents=True)
    shutil.copy(database_template, project / "mlruns" / "mlflow.db")
    with sqlite3.connect(project / "mlruns" / "mlflow.db") as database:
        database.execute("delete from experiments")
    for variable in ("MLFLOW_TRACKING_URI", "MONDEGREEN_DATABASE_URL", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("mondegreen.registry.package._CODE", project / ".git")
    if linked:
        (tmp_path / "link").symlink_to(project)
        (project / "real").mkdir()
        (project / "models").mkdir()
        (project / "models" / "1").symlink_to(project / "real")
    monkeypatch.chdir(tmp_path / "link" if linked else project)
    outside = _all(tmp_path) - _all(project)

    assert registry_file() == project / "mlruns" / "mlflow.db"
    open_database(live_state()).dispose()
    add(project, 1)
    deployer().deploy_model("1")
    assert holdings(NAME).aliases == {"champion": 1}
    for place in (package(1), resolve_uri(f"models:/{NAME}@champion")):
        assert place.resolve().is_relative_to(project) and place.is_dir()
    assert strays() == []
    assert connect().get_experiment_by_name("mondegreen").artifact_location.startswith("file:///")
    assert (project / "var" / "mondegreen.db").is_file()
    assert _all(tmp_path) - _all(project) == outside
