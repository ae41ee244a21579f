"""The whole pipeline with a tracking server as the registry: from recordings to production there, and back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mondegreen.files import read_json
from mondegreen.records import RegisteredVersion
from tests.end_to_end.project import Project
from tests.registry.conftest import database_template  # noqa: F401
from tests.registry.servers import on_sqlite

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, database_template: Path) -> Iterator[Project]:  # noqa: F811
    project = Project(tmp_path_factory.mktemp("at-a-server"))
    project.recordings()
    project.params(
        train={"epochs": 2, "patience": 2, "batch_seconds": 6}, prepare={"test_fraction": 0.4, "dev_fraction": 0.2}
    )
    project.commit("a dozen recordings, two epochs")
    with on_sqlite(tmp_path_factory.mktemp("server") / "first", database_template) as server:
        project.variables = {"MLFLOW_TRACKING_URI": server.uri}
        project.run("dvc", "repro")
        project.commit("the round")
        yield project


def of(project: Project, *command: str) -> object:
    return json.loads(project.run("mondegreen", *command, "--json").stdout)


def version(project: Project) -> RegisteredVersion:
    return read_json(project.folder / "build/register/version.json", RegisteredVersion)


def test_a_round_at_a_server_goes_to_production_and_back(project: Project) -> None:
    assert not (project.folder / "mlruns").exists()
    made = version(project)
    assert (made.version, made.alias) == (1, "challenger")
    reason = ("--force", "--reason", "too few recordings for a pass")
    project.run("mondegreen", "models", "deploy", "@challenger", *reason)
    project.params(train={"epochs": 1})
    project.run("dvc", "repro")
    assert version(project).version == 2
    project.run("mondegreen", "models", "deploy", "@challenger", *reason)
    project.run("mondegreen", "models", "rollback")
    listed = of(project, "models", "list")
    assert isinstance(listed, list) and [row["aliases"] for row in listed] == [[], ["champion"]]
    assert isinstance(checks := of(project, "models", "verify"), list) and all(check["ok"] for check in checks)
    project.commit("another round")
    before = (project.folder / "dvc.lock").read_bytes()
    project.run("dvc", "repro")
    assert (project.folder / "dvc.lock").read_bytes() == before and of(project, "models", "list") == listed


def test_another_home_that_is_empty_gets_the_candidate(
    project: Project,
    tmp_path: Path,
    database_template: Path,  # noqa: F811
) -> None:
    made, clone = version(project), Project(tmp_path / "clone")
    project.run("cp", "-r", "data", "build", "dvc.lock", "params.yaml", ".dvc", str(clone.folder))
    with on_sqlite(tmp_path / "second", database_template) as server:
        clone.variables = {"MLFLOW_TRACKING_URI": server.uri}
        assert "does not have fine-tuned-stt" in clone.run("mondegreen", "summary").stdout
        said = clone.run("dvc", "repro")
        assert "Running stage 'train'" not in said.stdout
        again = version(clone)
        assert (again.version, again.alias, again.digest) == (1, "challenger", made.digest)
        assert "does not have" not in clone.run("mondegreen", "summary").stdout
    known = project.variables["MLFLOW_TRACKING_URI"]
    with on_sqlite(tmp_path / "third", database_template) as server:
        project.variables = {"MLFLOW_TRACKING_URI": server.uri}
        refused = project.run("dvc", "repro", check=False)
        assert refused.returncode and "mondegreen registry move" in refused.stderr
        project.variables = {"MLFLOW_TRACKING_URI": known}
        project.run("mondegreen", "registry", "move", "--to", server.uri)
        project.variables = {"MLFLOW_TRACKING_URI": server.uri}
        project.run("dvc", "repro")
        project.run("mondegreen", "models", "rollback", "--to", "2", "--reason", "both are there")
    project.variables = {"MLFLOW_TRACKING_URI": known}
