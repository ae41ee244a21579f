"""The registry in another home: all of it, once, whatever killed the move; and the way back."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.cli.registry import _said
from mondegreen.config import Params
from mondegreen.db import open_database, transaction
from mondegreen.errors import UsageError
from mondegreen.loop.proposal import judged
from mondegreen.registry import moving
from mondegreen.registry.aliases import holdings
from mondegreen.registry.doctor import examine, relocate
from mondegreen.registry.forwarding import TO_TAG, MovedAwayError, moved_away
from mondegreen.registry.ledger import Ledger
from mondegreen.registry.mlflow_store import address, connect, elsewhere, tracking_uri
from mondegreen.registry.moving_runs import listed, renamed, runs_of
from mondegreen.registry.recovery import external_changes
from mondegreen.registry.runs import MOVED_FROM, own_run, start_run
from mondegreen.tables import TestSpendRow as SpendRow
from tests.registry.conftest import enter, make_project, without_code
from tests.registry.registered import NAME, add, deployer, in_child, stages_and_aliases, weights
from tests.registry.servers import PASSWORD, USER, Server, on_postgresql, on_sqlite

_IDS = re.compile(r"(?:m-)?[0-9a-f]{32}|#/experiments/\d+/")
# What the move writes with, in the new home.
_WRITES = (
    "create_registered_model", "create_run", "log_batch", "log_inputs", "log_outputs", "log_artifacts",
    "set_terminated", "set_tag", "create_logged_model", "log_model_artifacts", "finalize_logged_model",
    "create_model_version", "delete_model_version", "set_logged_model_tags", "update_registered_model",
    "set_registered_model_tag", "transition_model_version_stage", "set_registered_model_alias",
)  # fmt: skip


pytestmark = pytest.mark.xdist_group("mlflow-server")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, database_template: Path) -> Path:
    """A project whose versions take seconds to make; tests get copies."""
    folder = make_project(tmp_path_factory.mktemp("moving") / "project", database_template)
    with pytest.MonkeyPatch.context() as patch:
        _fill(without_code(enter(folder, patch), patch))
    return folder


def _fill(project: Path) -> None:
    """Versions 1 and 3 of four: 3 in production after 1, a run of stages with a curve, a child run, a dataset."""
    for seed in (1, 2, 3, 4):
        add(project, seed)
    found = deployer()
    for number in (1, 3, 4):
        found.deploy_model(number, force=True, reason="one after the other")
    found.rollback()
    run = found.get_version(3).run_id
    found.delete_version(2)
    found.delete_version(4)
    client = connect()
    client.log_batch(run, metrics=[Metric("loss", 2.0 / step, 1000 + step, step) for step in (1, 2, 3)])
    client.log_metric(run, "wer", float("nan"), 5)
    client.log_text(run, "# report", "validate/report.md")
    dataset = Dataset("test", "abc", "local", json.dumps({"uri": "data"}), profile="{}")
    client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])])
    experiment = client.get_run(run).info.experiment_id
    client.set_tag(run, "mlflow.note.content", f"since [it](#/experiments/{experiment}/runs/{run})")
    model = client.get_model_version(NAME, "3").source.removeprefix("models:/")
    client.log_batch(run, metrics=[Metric("cer", 0.2, 1000, 1, model, "test", "abc")])
    child = client.create_run(experiment, tags={"mlflow.parentRunId": run}, run_name="child").info.run_id
    client.set_terminated(child, "FAILED")
    client.set_registered_model_alias(NAME, "somebody", "1")
    client.set_registered_model_tag(NAME, "team", "speech")


@pytest.fixture
def filled(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the template, in which everything works."""
    folder = enter(shutil.copytree(template, tmp_path / "project"), monkeypatch)
    monkeypatch.setattr("mondegreen.registry.package._CODE", folder / "code")
    relocate()
    return folder


@pytest.fixture
def other(tmp_path: Path, database_template: Path) -> Path:
    """Another project, with an empty registry."""
    return make_project(tmp_path / "other", database_template)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def moved(to: object, *more: object) -> Any:
    result = run("registry", "move", "--to", to, "--json", *more)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def home(folder: Path) -> str:
    return f"sqlite:///{folder}/mlruns/mlflow.db"


def plain(text: str) -> str:
    return _IDS.sub("ID", text)


def picture() -> dict[str, Any]:
    """Everything that the registry here holds, without what a home gives itself."""
    client = connect()
    versions = [json.loads(plain(json.dumps(one.to_dict()))) for one in deployer().list_versions()]
    runs = [_run(client, one.info.run_id) for one in runs_of(client, "mondegreen")]
    model = client.get_registered_model(NAME)
    tags = {name: value for name, value in model.tags.items() if not name.startswith("mondegreen.move")}
    held = {alias: int(number) for alias, number in model.aliases.items()}
    models = client.search_logged_models([client.get_experiment_by_name("mondegreen").experiment_id])
    found = client.search_model_versions(f"name = '{NAME}'")
    described = sorted((int(one.version), plain(one.description), one.current_stage) for one in found)
    numbers = {
        int(one.version): [
            (number.key, number.value, number.step, number.dataset_name, number.dataset_digest)
            for number in client.get_logged_model(one.source.removeprefix("models:/")).metrics or []
        ]
        for one in found
    }
    return {
        "numbers": numbers, "versions": versions, "runs": runs,
        "about": (model.description, tags, held), "described": described,
        "stages": stages_and_aliases(), "models": len(models),
    }  # fmt: skip


def _run(client: MlflowClient, run_id: str) -> Any:
    found = client.get_run(run_id)
    data, info = found.data, found.info
    curves = {
        name: [(str(one.value), one.timestamp, one.step) for one in client.get_metric_history(run_id, name)]
        for name in data.metrics
    }
    tags = {name: plain(value) for name, value in data.tags.items() if not name.startswith("mondegreen.moved")}
    inputs = [(one.dataset.digest, [tag.value for tag in one.tags]) for one in found.inputs.dataset_inputs]
    when = (info.run_name, info.status, info.start_time, info.end_time)
    return when, data.params, curves, tags, inputs, sorted(listed(client, run_id))


def without_models(seen: dict[str, Any]) -> dict[str, Any]:
    """Models of deleted versions stay behind."""
    return {name: value for name, value in seen.items() if name != "models"}


@contextmanager
def standing(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """With the registry there, and the ledger and backups that stayed."""
    with patch.context() as inner:
        inner.setenv("MLFLOW_TRACKING_URI", home(folder))
        yield


def test_everything_comes_along_and_a_rollback_works_there(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, nowhere = picture(), other / "nowhere"
    planned = moved(home(nowhere), "--dry-run")
    assert (planned["state"], planned["versions"]) == ("planned", [1, 3]) and not nowhere.exists()
    done = moved(home(other))
    assert (done["state"], done["begun"], done["aliases"]["champion"]) == ("moved", False, 3)
    assert picture() == before, "what is here stays as it is"
    old = deployer().get_version(3).run_id
    with standing(other, monkeypatch):
        assert without_models(picture()) == without_models(before) and picture()["models"] == 2
        new = own_run(old)
        assert new == deployer().get_version(3).run_id != old
        (model,) = connect().get_run(new).outputs.model_outputs
        assert connect().get_model_version(NAME, "3").source == f"models:/{model.model_id}"
        assert new in connect().get_run(new).data.tags["mlflow.note.content"]
        (child,) = [one for one in runs_of(connect(), "mondegreen") if one.info.run_name == "child"]
        assert child.data.tags["mlflow.parentRunId"] == new
        assert all(check.ok and not check.backup for check in deployer().verify())
        assert mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion")
        assert not deployer().notes and deployer().history(1)[0].action == "moved"
        add(filled, 6)
        assert stages_and_aliases()[5] == ("Staging", ["challenger"]), "4 was given to a version that was deleted"
        assert deployer().rollback().version == 1
        assert weights(1).is_relative_to(other)


def test_a_second_time_nothing_is_done_and_what_came_since_is_named(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = home(other)
    moved(target)
    with standing(other, monkeypatch):
        there = picture()
    assert moved(target)["state"] == "there"
    with standing(other, monkeypatch):
        assert picture() == there
    connect().delete_registered_model_tag(NAME, TO_TAG)  # as an earlier release left it
    assert moved(target)["state"] == "there" and "was moved from" in str(moved_away(NAME))
    connect().delete_registered_model_tag(NAME, TO_TAG)
    add(filled, 7)
    refused = run("registry", "move", "--to", target)
    assert refused.exit_code == 1 and "version 5 came here since and is not there" in refused.stderr
    add(filled, 8)
    refused = run("registry", "move", "--to", target)
    assert "versions 5 and 6 came here since and are not there" in refused.stderr


def test_the_home_that_was_left_says_where_to_go_and_is_only_read(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a cron job, for example, whose shell knows of no MLFLOW_TRACKING_URI."""
    before, target, entries = picture(), home(other), len(deployer().history())
    moved(target)
    for command in (
        "models deploy 1 --force --reason x", "models rollback", "models canary start --share 0.1",
        "models delete 1 --yes", "models verify --restore", "status --settle",
    ):  # fmt: skip
        refused = run(*command.split())
        said = " ".join(refused.output.split())
        assert refused.exit_code == 1 and f"export MLFLOW_TRACKING_URI={target}" in said, (command, said)
        assert f"{NAME} was moved from {home(filled)} to {target}" in said, command
    params = Params()
    for move in (
        lambda: add(filled, 6),
        lambda: deployer().rollback(champion=3, reason="the guard"),
        lambda: start_run(params).__enter__(),
        lambda: judged(deployer(), "", None, filled, None, params, ""),  # type: ignore[arg-type]  # before they are heard
    ):
        with pytest.raises(MovedAwayError):
            move()
    assert picture() == before and [entry.action for entry in deployer().history()][:-entries] == ["moved"]
    assert run("models", "list").exit_code == 0 and "was moved from" in deployer_notes()
    assert any("was moved from" in check.text for check in examine(NAME, deployer().folder))
    assert any("was moved from" in said for said in external_changes(NAME, deployer().folder))
    assert mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion")
    refused = run("registry", "move", "--to", home(other / "third"))
    assert refused.exit_code == 1 and "was moved from" in refused.stderr
    with standing(other, monkeypatch):
        assert deployer().rollback().version == 1 and not deployer().notes
    (filled / "mlruns" / "mlflow.db").unlink()
    refused = run("models", "rollback")
    assert refused.exit_code == 1 and f"It was moved: export MLFLOW_TRACKING_URI={target}" in refused.stderr


def deployer_notes() -> str:
    found = deployer()
    found.get_status()
    return " ".join(found.notes)


@pytest.mark.parametrize(("line", "usable"), [("_forward", 0), ("_place", None), ("enter_move", None)])
def test_killed_where_it_changes_hands_at_most_one_home_is_moved_in(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch, line: str, usable: int | None
) -> None:
    homes = home(filled), home(other)

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(moving, line, crash)
        with pytest.raises(RuntimeError):
            moving.move_registry(homes[1], NAME, deployer().folder)
    assert open_homes(*homes) == ([] if usable is None else [homes[usable]])
    with standing(other, monkeypatch):
        refused = run("models", "deploy", "1", "--force", "--reason", "x")
        assert refused.exit_code == 1 and f"registry move --to {homes[1]}" in " ".join(refused.output.split())
    assert moved(homes[1])["begun"] and open_homes(*homes) == [homes[1]]


def test_a_move_is_taken_back_where_nothing_happened_there_since(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, undo = home(other), ("registry", "move", "--undo", "--to", home(other))
    assert run(*undo).exit_code == 1 and run(*undo, "--dry-run").exit_code == 2
    moved(target)

    def crash(*_: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr("mondegreen.registry.moving_back.enter_return", crash)
        with pytest.raises(RuntimeError):
            run(*undo)
    assert open_homes(home(filled), target) == []
    done = run(*undo)
    assert done.exit_code == 0 and f"export MLFLOW_TRACKING_URI={home(filled)}" in done.stdout
    assert open_homes(home(filled), target) == [home(filled)]
    add(filled, 6)
    assert deployer().rollback().version == 1
    before = picture()
    assert moved(target)["begun"]
    with standing(other, monkeypatch):
        for version in [*(there := picture())["versions"], *before["versions"]]:
            version["aliases"].sort()  # MLflow gives them as they came
        assert without_models(there) == without_models(before)
        assert stages_and_aliases()[5] == ("Staging", ["challenger"])
        deployer().deploy_model(5, force=True, reason="it is time")
    refused = run(*undo)
    assert refused.exit_code == 1 and "they would be lost" in refused.stderr
    assert open_homes(home(filled), target) == [target]
    assert [entry.action for entry in deployer().history()].count("moved") == 3


def test_what_is_known_of_a_version_comes_along_also_without_its_run(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = deployer().get_version(1)
    connect().delete_run(before.run_id)
    moved(home(other))
    with standing(other, monkeypatch):
        there = deployer().get_version(1)
        assert (there.run_id, there.tags, there.outcome) == ("", before.tags, "pass")


def test_a_home_that_has_such_a_model_is_refused(filled: Path, other: Path) -> None:
    with elsewhere(home(other)) as client:
        client.create_registered_model(NAME)
    refused = run("registry", "move", "--to", home(other))
    assert refused.exit_code == 1 and "has a registered model" in refused.stderr
    with elsewhere(home(other)) as client:
        assert not runs_of(client, "mondegreen")
    assert run("registry", "move", "--to", home(filled)).exit_code == 2


@contextmanager
def killed_at(number: int, kill: Callable[[], None]) -> Iterator[list[str]]:
    """`kill` is called between the writes `number` and `number` + 1 of the move; which there were."""
    written: list[str] = []

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if len(written) == number:
                kill()
            written.append(name)
            return method(*given, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in _WRITES:
            patch.setattr(MlflowClient, name, counting(name, getattr(MlflowClient, name)))
        patch.setattr(Ledger, "note", counting("note", Ledger.note))
        yield written


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def open_homes(*homes: str) -> list[str]:
    """Those of the homes in which somebody could move the champion now."""
    found = []
    for one in homes:
        with elsewhere(one, make=False):
            if "champion" in holdings(NAME).aliases and not moved_away(NAME):
                found.append(one)
    return found


def _goes_on_after(points: list[int], target: str, ledger: Path | None = None) -> None:
    here = tracking_uri()
    for point in points:

        def work(point: int = point) -> object:
            with killed_at(point, die):
                return moving.move_registry(target, NAME, ledger or deployer().folder).state

        status, answer = in_child(work)
        assert os.WTERMSIG(status) == signal.SIGKILL, (point, answer)
        assert open_homes(here, target) in ([here], [], [target]), point


def test_killed_again_and_again_it_goes_on_and_doubles_nothing(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, target = without_models(picture()), home(other)
    _goes_on_after([1, 9, 12, 3], target)  # of what is left each time
    assert moved(target)["begun"]
    with standing(other, monkeypatch):
        assert without_models(picture()) == before and picture()["models"] == 2
        assert [entry.action for entry in deployer().history()].count("moved") == 1


@pytest.mark.slow
def test_killed_between_any_two_writes_it_goes_on(
    filled: Path, tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = without_models(picture())

    def project(name: str) -> tuple[Path, Path]:
        """An empty home, and a ledger that knows of no other move."""
        return make_project(tmp_path / name, database_template), shutil.copytree(
            filled / "var", tmp_path / name / "var"
        )

    whole, ledger = project("whole")
    with killed_at(-1, die) as written:
        moving.move_registry(home(whole), NAME, ledger)
    for point in range(len(written)):
        connect().delete_registered_model_tag(NAME, TO_TAG)  # else it goes nowhere but where it went before
        other, ledger = project(str(point))
        _goes_on_after([point], home(other), ledger)
        moved(home(other), "--store", ledger)
        with standing(other, monkeypatch):
            assert without_models(picture()) == before, written[point]
        entries = Ledger.open(ledger, NAME).entries()
        assert [entry.action for entry in entries].count("moved") == 1, written[point]


def test_damaged_files_end_it_before_anybody_is_champion_there(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, target = weights(3), home(other)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"!")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mondegreen.registry.package.Backups.holds", lambda *_: False)
        refused = run("registry", "move", "--to", target)
    assert refused.exit_code == 1 and "version 3 are not those that were registered" in refused.stderr
    with elsewhere(target) as client:
        assert not client.get_registered_model(NAME).aliases
    file.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr("mondegreen.registry.moving.differences", lambda *_: ["x has other bytes"])
        refused = run("registry", "move", "--to", target)
    assert refused.exit_code == 1 and "No alias was set there" in refused.stderr
    assert moved(target)["begun"]


def test_ledger_looks_and_backups_go_to_another_folder_when_asked(
    filled: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_database(filled / "var")
    with transaction(engine) as session:
        facts = {"test_set": "t" * 64, "candidate": "c" * 64, "baseline": "b" * 64, "family": "t" * 64}
        session.add(SpendRow(at=deployer().history(1)[0].at, members=["a"], look=1, alpha=0.03, **facts))
    engine.dispose()
    there = other / "var"
    Ledger.open(there, "another").note("register", 1, details={})  # takes the first number
    moved(home(other), "--store-to", there)
    moved(home(other), "--store-to", there)
    with standing(other, monkeypatch):
        inside, outside = (deployer_at(folder).history() for folder in (there, filled / "var"))
        left_out = {"id", "intent"}
        assert [one.model_dump(exclude=left_out) for one in inside] == [
            one.model_dump(exclude=left_out) for one in outside
        ]
        assert deployer_at(there).rollback().version == 1
        assert all(check.ok for check in deployer_at(there).verify())
    engine = open_database(there)
    with transaction(engine) as session:
        assert session.query(SpendRow).count() == 1
    engine.dispose()


def deployer_at(folder: Path) -> Any:
    from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

    return ModelDeployer(DeploymentConfig(), local_storage_dir=folder)


def test_ids_are_rewritten_where_text_names_them_and_digests_are_not() -> None:
    old, new, model = "a" * 32, "b" * 32, "m-" + "c" * 32
    names = {old: new, model: "m-" + "d" * 32, "#/experiments/1/": "#/experiments/22/"}
    assert (
        renamed(f"[x](#/experiments/1/runs/{old}) {model}", names) == f"[x](#/experiments/22/runs/{new}) m-{'d' * 32}"
    )
    assert renamed("a" * 64, names) == "a" * 64 and renamed(f"sha256:{'a' * 40}", names) == f"sha256:{'a' * 40}"


def test_addresses_are_whole_and_hold_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here.db")
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    assert address("sqlite:///mlruns/mlflow.db") == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert address(f"http://{USER}:{PASSWORD}@host:5000/") == "http://host:5000"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == PASSWORD
    with pytest.raises(UsageError):
        address("mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://here:5000")
    with pytest.raises(UsageError, match="to every server"):
        address("http://other:secret@there:5000")
    with pytest.raises(UsageError, match="to every server"):
        address("http://there:5000")  # it would be told the user of the other one
    assert address(f"http://{USER}:{PASSWORD}@there:5000") == "http://there:5000"
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
    assert address("http://there:5000") == "http://there:5000"
    with pytest.raises(UsageError, match="to every server"):
        address("http://other:secret@there:5000")  # the one in use would be told
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    with pytest.raises(UsageError, match="to every server"):
        address("http://there:5000")


@pytest.mark.parametrize(
    ("source", "target", "way"),
    [
        ("sqlite:////p/mlruns/mlflow.db", "http://s:1", "remove /p/mlruns/mlflow.db and /p/mlruns/artifacts."),
        ("sqlite:////p/mlflow.db", "sqlite:////p/new.db", "remove /p/mlflow.db."),
        ("postgresql://me:***@host/mlflow", "http://s:1", "delete the registered model m and the experiment's runs"),
        ("http://s:1", "sqlite:////p/mlflow.db", "delete the registered model m and the experiment's runs"),
    ],
    ids=["file", "beside", "postgresql", "server"],
)
def test_how_the_old_home_goes_is_true_of_its_kind(source: str, target: str, way: str) -> None:
    facts: Any = {"versions": [1], "aliases": {}, "runs": 1, "state": "moved", "begun": False, "ledger": ""}
    assert way in _said(moving.Move(model_name="m", source=source, target=target, notes=[], **facts))


def test_a_server_that_is_not_there_is_said_at_once(filled: Path) -> None:
    refused = run("registry", "move", "--to", "http://127.0.0.1:9")
    assert refused.exit_code == 1 and "http://127.0.0.1:9" in refused.stderr and "Traceback" not in refused.output
    assert "Check --to" in refused.stderr and "MLFLOW_TRACKING_URI" not in refused.stderr


@pytest.fixture(params=["sqlite", "postgresql"])
def server_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, database_template: Path, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """Not the one that other tests share: what was moved away from takes no version any more."""
    folder = tmp_path_factory.mktemp("left") / "server"
    with on_sqlite(folder, database_template) if request.param == "sqlite" else on_postgresql(folder) as server:
        yield server


@pytest.mark.slow
def test_to_a_server_and_back(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server_of_its_own: Server
) -> None:
    server = server_of_its_own
    before = without_models(picture())
    old = deployer().get_version(3).run_id
    for name, value in (("USERNAME", server.user), ("PASSWORD", server.password)):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    _goes_on_after([3, 12, 6, 14], server.uri)
    assert moved(server.uri)["begun"]
    with monkeypatch.context() as there:
        server.enter(there)
        ours = [one for one in picture()["runs"] if one in before["runs"]]
        assert len(ours) == len(before["runs"]) and {**without_models(picture()), "runs": ours} == before
        assert all(check.ok for check in deployer().verify())
        assert deployer().rollback().version == 1
        assert deployer().deploy_model(3, force=True, reason="again").version == 3
        at_the_server = picture()
        back = moved(home(tmp_path / "back"))
        assert back["source"] == server.uri
    with standing(tmp_path / "back", monkeypatch):
        assert without_models(picture()) == without_models(at_the_server)
        assert all(check.ok for check in deployer().verify())
        assert deployer().rollback().version == 1
        assert connect().get_run(own_run(old)).data.tags[MOVED_FROM].endswith(f",{old}")
