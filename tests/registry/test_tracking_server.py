"""A tracking server as the registry: everything that a registry in mlruns/ does, its files proxied by the server."""

import json
import logging
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.config import Params
from mondegreen.errors import RegistryError
from mondegreen.records import RegisteredVersion, RegressionResults
from mondegreen.registry import mlflow_store
from mondegreen.registry.mlflow_store import RegistryAwayError, connect
from mondegreen.registry.record import VerdictTags
from mondegreen.registry.register import register
from mondegreen.registry.resolving import champion_of, resolve_uri
from mondegreen.registry.runs import log_history, start_run
from mondegreen.speech.model_folder import model_digest
from tests.registry.conftest import without_code
from tests.registry.registered import save_folder
from tests.registry.servers import PASSWORD, USER, Server

pytestmark = pytest.mark.xdist_group("mlflow-server")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and nobody's registry yet."""
    (tmp_path / "params.yaml").write_text("seed: 7\n")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    for name, value in (("TIMEOUT", "20"), ("MAX_RETRIES", "0")):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", value)
    for name in ("MONDEGREEN_DATABASE_URL", "DVC_EXP_NAME", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mlflow_store, "_AWAY", {})
    monkeypatch.chdir(tmp_path)
    return without_code(tmp_path, monkeypatch)


@pytest.fixture(params=["sqlite_server", pytest.param("postgres_server", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    found: Server = request.getfixturevalue(request.param)
    found.enter(monkeypatch)
    return found


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def of(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def registered(place: Path, seed: int, run_id: str = "") -> RegisteredVersion:
    """What the stages train and register leave: a run with a curve, and a version whose verdict passed."""
    folder = save_folder(place / "models" / str(seed), seed)
    digest = model_digest(folder)
    if not run_id:
        with start_run(Params()) as run_id:
            log_history(run_id, [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    results = RegressionResults(passed=True, reason="", model=digest, suites=[], registered=True)
    verdict = VerdictTags("pass", model_digest=digest)
    return register("stt", run_id, folder, digest=digest, verdict=verdict, results=results, promote=False, card="# C")


def test_a_server_is_a_home_like_mlruns(server: Server, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = registered(place, 1)
    assert not capsys.readouterr().out  # which is for answers: MLflow would print the address of each run that ends
    again = registered(place, 1, first.run_id)
    assert (again.version, again.alias) == (first.version, "challenger")
    named = ("--name", "stt")
    assert "Production/@champion" in run("models", "deploy", "@challenger", *named).stdout
    second = registered(place, 2)
    assert of("models", "show", second.version, *named)["refusals"] == []
    run("models", "deploy", second.version, *named)
    assert [row["aliases"] for row in of("models", "list", *named)[:2]] == [["champion"], ["previous"]]
    assert of("models", "diff", first.version, second.version, *named)["stage"] == ["Archived", "Production"]
    assert "loss" in str(connect().get_run(second.run_id).data.metrics)
    wanted = (place / "models/2/model.safetensors").read_bytes()
    assert champion_of("stt") and (resolve_uri("models:/stt@champion") / "model.safetensors").read_bytes() == wanted
    assert not [row for row in of("doctor", *named) if row["level"] == "problem" and row["check"] != "disk"]
    registered(place, 3)
    assert of("models", "canary", "start", "--share", "0.1", "--shadow", "0", *named)["version"] == second.version + 1
    assert of("models", "rollback", *named)["version"] == first.version
    assert all(check["ok"] for check in of("models", "verify", *named))


def damaged(server: Server, version: int, how: str) -> None:
    """A file of a version as a bad disk or a bad person at the server leaves it."""
    where = MlflowClient().get_model_version_download_uri("stt", str(version)).removeprefix("mlflow-artifacts:/")
    file = next((server.artifacts / where).rglob("model.safetensors"))
    if how == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    else:
        file.with_name("pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


@pytest.mark.parametrize("how", ["altered", "pickle beside"])
def test_files_damaged_on_the_server_are_seen_answered_from_the_backup_and_put_back(
    sqlite_server: Server, place: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sqlite_server.enter(monkeypatch)
    version = registered(place, 4).version
    run("models", "deploy", version, "--name", "stt")
    damaged(sqlite_server, version, how)
    seen = run("models", "verify", "--name", "stt")
    assert seen.exit_code == 1 and "--restore" in seen.stdout
    assert (resolve_uri("models:/stt@champion") / "model.safetensors").stat().st_size > 0
    restored = of("models", "verify", "--restore", "--name", "stt")
    assert all(check["ok"] for check in restored) and [check["restored"] for check in restored].count(True) == 1
    assert of("models", "verify", "--name", "stt")[0]["ok"]
    assert of("models", "history", "--name", "stt")[0]["action"] == "restore"


def test_whoever_only_loads_fetches_a_version_once(
    sqlite_server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_server.enter(monkeypatch)
    version = registered(place, 5).version
    kept = resolve_uri(f"models:/stt/{version}")
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", None)
    assert resolve_uri(f"models:/stt/{version}") == kept and kept.is_relative_to(place / "var" / "backups")


def test_who_may_not_is_told_so_and_by_which_variables(
    postgres_server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_server.enter(monkeypatch)
    version = registered(place, 6).version
    create_reader()
    for user, password, status, named in (
        ("", "", 401, "wants to know who asks"),
        (USER, "wrong-Password-1", 401, f"user {USER} with that password"),
        ("reader", "only-Reads-99", 403, "does not allow that to user reader"),
    ):
        Server(postgres_server.uri, place, user, password).enter(monkeypatch)
        refused = run("models", "deploy", version, "--name", "stt")
        assert refused.exit_code == 1 and f"({status})" in refused.stderr and named in refused.stderr
        assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in refused.stderr
        with pytest.raises(RegistryError, match=f"{status}"), start_run(Params()):
            pass
    postgres_server.enter(monkeypatch)
    assert run("models", "deploy", version, "--name", "stt").exit_code == 0


def create_reader() -> None:
    from mlflow.server import get_app_client

    client = get_app_client("basic-auth", tracking_uri=mlflow_store.tracking_uri())
    client.create_user("reader", "only-Reads-99")


COMMANDS = (
    ("models", "list"), ("models", "show", "@champion"), ("models", "status"), ("models", "history"),
    ("models", "verify"), ("models", "deploy", "1"), ("doctor",), ("status",), ("monitor",), ("ui",), ("trials",),
)  # fmt: skip


@pytest.mark.parametrize("where", ["server", "no server"])
def test_no_password_is_ever_printed(
    postgres_server: Server, place: Path, monkeypatch: pytest.MonkeyPatch, where: str,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    address = postgres_server.uri if where == "server" else "postgresq://127.0.0.1:9"  # misspelt
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.replace("://", f"://{USER}:{PASSWORD}@"))
    if where != "server":
        monkeypatch.setenv("MONDEGREEN_DATABASE_URL", f"postgresql://somebody:{PASSWORD}@127.0.0.1:9/cases")
    (place / "params.yaml").write_text(
        f"seed: 7\nmonitor:\n  webhook: http://somebody:{PASSWORD}@127.0.0.1:9/{PASSWORD}\n  max_error_rate: 0.0\n"
    )
    if where == "server":
        registered(place, 7)
    else:
        with pytest.raises(RegistryAwayError), start_run(Params()):
            pass
    results = [run(*command) for command in COMMANDS]
    printed = "".join(result.stdout + result.stderr for result in results)
    written, logged = capfd.readouterr(), caplog.text
    for text in (printed, written.out, written.err, logged):
        assert PASSWORD not in text, text[max(text.find(PASSWORD) - 300, 0) : text.find(PASSWORD) + 50]
    assert printed and not [result for result in results if "Traceback" in result.stdout + result.stderr]
