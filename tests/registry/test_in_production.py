"""Which model a command takes that is told none: the one in production; and what is said where nobody is."""

import shutil
from pathlib import Path

import pytest

from mondegreen.cli.common import named_model
from mondegreen.errors import RegistryError
from mondegreen.registry.resolving import champion_of, holder, places_of, resolve_uri
from tests.registry.registered import NAME, add, deployer

URI = f"models:/{NAME}@champion"


def test_the_model_in_production_is_taken_and_said_and_the_base_where_nobody_is(
    light: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named_model(None, "")[0] == "starter/model"
    assert "starter/model, which is model.base of params.yaml (--model" in capsys.readouterr().err
    add(light, seed=1)
    assert champion_of(NAME) == "" and named_model(None, "")[0] == "starter/model"  # a challenger answers nobody
    deployer().deploy_model(1)
    assert named_model(None, "")[0] == URI
    assert capsys.readouterr().err.endswith(f"model: {URI}, which is in production (--model names another)\n")
    assert named_model("starter/model", "")[0] == "starter/model" and capsys.readouterr().err == ""
    shutil.move(light / "mlruns", light / "elsewhere")
    assert champion_of(NAME) == URI  # the ledger knows it, and its backup answers
    shutil.rmtree(light / "var")
    assert champion_of(NAME) == ""


def test_where_nobody_holds_an_alias_the_command_that_changes_it_is_named(light: Path) -> None:
    for step in ("nothing registered", "registered, and nobody deployed"):
        for ask in (holder, resolve_uri):
            with pytest.raises(RegistryError, match="models deploy @challenger") as nobody:
                ask(URI)
            assert "no version is @champion" in nobody.value.problem, step
        add(light, seed=1)
    with pytest.raises(RegistryError, match="models list"):
        holder(f"models:/{NAME}@nobody")


def test_a_model_and_a_version_that_are_not_there_are_told_from_an_alias_that_nobody_holds(light: Path) -> None:
    add(light, seed=1)
    typo = "models:/fine-tuned-sst"
    for ask, uri in ((holder, f"{typo}@champion"), (resolve_uri, f"{typo}@champion"), (resolve_uri, f"{typo}/1")):
        with pytest.raises(RegistryError, match=f"no registered model fine-tuned-sst; there are: {NAME}") as found:
            ask(uri)
        assert uri.replace("sst", "stt") in found.value.next_step
    assert champion_of("fine-tuned-sst") == ""
    for ask in (resolve_uri, places_of):
        with pytest.raises(RegistryError, match=f"^{NAME} has no version 7") as gone:
            ask(f"models:/{NAME}/7")
        assert "Model Version" not in str(gone.value)


def test_outside_a_project_the_next_step_is_to_go_where_the_registry_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for ask in (holder, resolve_uri):
        with pytest.raises(RegistryError, match=f"there is no {tmp_path}/mlruns/mlflow.db") as outside:
            ask(URI)
        assert outside.value.next_step.startswith("Run from the project root")
    assert not list(tmp_path.iterdir())
