"""`mondegreen models` and `doctor`: what they print, their exit codes, and JSON for programs."""

import json
import logging
import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from sqlalchemy import insert
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.db import connect, open_database, reading, transaction
from mondegreen.registry.record import LLM_TAG
from mondegreen.speech.model_folder import model_digest
from mondegreen.tables import SCHEMA, InferenceRow
from tests.db.growing import NEXT, grown, state
from tests.monitoring.listener import OK, listening
from tests.registry.conftest import database_template, enter, make_project, without_code  # noqa: F401 - a fixture
from tests.registry.registered import NAME, add, deployer, in_child, stages_and_aliases, weights
from tests.registry.registered import Result as Judged
from tests.support.silent import useless_server
from tests.tiny import save_model


@pytest.fixture
def project(tmp_path: Path, database_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    monkeypatch.setenv("COLUMNS", "200")
    return without_code(enter(make_project(tmp_path / "project", database_template), monkeypatch), monkeypatch)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def of(*arguments: object):  # type: ignore[no-untyped-def]
    return json.loads(run(*arguments, "--json").stdout)


def test_the_way_of_a_version_through_the_commands(project: Path) -> None:
    assert "no version yet" in run("models", "list").stdout
    add(project, 1)
    shown = of("models", "show", "@challenger")
    assert shown["version_id"] == f"{NAME}/1" and shown["refusals"] == [] and shown["outcome"] == "pass"
    assert "Nothing is against deploying it" in run("models", "show", "1").stdout
    assert "version 1 is Production/@champion" in run("models", "deploy", "1", "--reason", "first").stdout
    add(project, 2, outcome="fail", passed=False)
    refused = run("models", "deploy", "2")
    assert refused.exit_code == 1 and "`fail`" in refused.stderr and "What now" in refused.stderr
    assert run("models", "deploy", "2", "--force").exit_code == 2
    done = of("models", "deploy", "2", "--force", "--reason", "to see internationalisation")
    assert (done["version"], done["former"], done["entry"]["forced"]) == (2, 1, True)
    assert [row["version"] for row in of("models", "list", "--limit", "1")] == [2]
    table = run("models", "list").stdout
    assert "@champion" in table and "@previous" in table and "Production" in table
    assert of("models", "rollback", "--reason", "bad")["version"] == 1
    nothing = run("models", "rollback")
    assert nothing.exit_code == 1 and "nothing to roll back to" in nothing.stderr
    rows = [(row["action"], row["version"], row["reason"]) for row in of("models", "history", "--limit", "2")]
    assert rows == [("rollback", 1, "bad"), ("deploy", 2, "to see internationalisation")]
    text = CliRunner().invoke(app, ["models", "history"], env={"COLUMNS": "80"}).stdout
    assert "FORCED" in text and {"to", "see", "internationalisation;"} <= set(
        text.split()
    )  # 80 columns break no word of it
    assert of("models", "status")["aliases"] == {"champion": 1, "challenger": None, "previous": None}
    assert "# Deployments of" in run("models", "report").stdout
    unwritable = run("models", "report", "--output", str(project))
    assert unwritable.exit_code == 2 and f"{project} cannot be written" in unwritable.stderr


def test_who_deploys_or_rolls_back_sees_that_something_is_done(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(project, 1)
    add(project, 2)
    shown: list[str] = []
    monkeypatch.setattr("mondegreen.progress.Bar.show", lambda self, what, done, total, piece="": shown.append(what))

    def first_shown(*arguments: str) -> str:
        shown.clear()
        assert run("models", *arguments).exit_code == 0
        return shown[0]

    assert first_shown("deploy", "1") == "checking and deploying 1"
    assert first_shown("deploy", "2", "--override", "champion", "--reason", "x") == "checking and deploying 2"
    assert first_shown("rollback") == "checking and rolling back"
    assert first_shown("verify") == "hashing files"


def test_a_note_that_the_log_says_too_is_said_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(project, 1)
    assert run("models", "deploy", "1").exit_code == 0
    add(project, 2, baseline_digest="another")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's: a command has none
    monkeypatch.setattr(logging, "lastResort", logging._StderrHandler(logging.WARNING))  # type: ignore[attr-defined]
    monkeypatch.setattr("mondegreen.cli.models._LOGGED", set())  # a note of this one another test awaits
    done = run("models", "deploy", "2", "--override", "champion", "--reason", "x", "--json")
    (note,) = (one for one in json.loads(done.stdout)["notes"] if one.startswith("Its verdict compares with"))
    assert done.stderr.splitlines().count(f"note: {note}") == 1 and done.stderr.count(note) == 1


def test_a_list_has_whole_numbers_words_and_dates_in_80_columns(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = {
        "version_id": f"{NAME}/123",
        "version": 123,
        "status": "Production",
        "pruned": True,
        "regression": "pass",
    }
    longest |= {"aliases": ("champion", "challenger", "previous"), "outcome": "inconclusive", "wer_before": 1.0}
    longest |= {"wer_after": 1.0, "created": datetime(2026, 1, 1, tzinfo=UTC), "tags": {LLM_TAG: "3"}}
    monkeypatch.setattr(
        "mondegreen.registry.deployer.ModelDeployer.list_versions",
        lambda *_: [SimpleNamespace(**longest, to_dict=dict)],
    )
    monkeypatch.setenv("COLUMNS", "80")
    words = "123 Production pruned @champion @challenger @previous inconclusive (LLM) pass 100.0 -> 2026-01-01"
    assert set(words.split()) <= set(run("models", "list").stdout.split())


def test_what_two_versions_differ_in(project: Path) -> None:
    add(project, 1)
    add(project, 2, wer_improvement=0.5)
    found = of("models", "diff", "1", "2")
    assert found["wer_improvement"] == ["0.03", "0.5"] and found["stage"] == ["Archived", "Staging"]
    assert "file artifacts/1/model.safetensors" in found or "file artifacts/2/model.safetensors" in found
    short, whole = run("models", "diff", "1", "2").stdout, run("models", "diff", "1", "2", "--all").stdout
    assert "wer_improvement" in short and "model.safetensors" not in short and "of slices, training, machine" in short
    assert "wer_improvement" in whole and "model.safetensors" in whole and "--all" not in whole
    assert "do not differ" in run("models", "diff", "1", "1").stdout


def test_verify_and_delete(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    assert run("models", "verify").exit_code == 0
    weights(1).write_bytes(b"")
    damaged = run("models", "verify")
    assert damaged.exit_code == 1 and "other bytes" in damaged.stdout and "--restore" in damaged.stdout
    assert of("models", "verify", "--restore")[0]["ok"] is True
    add(project, 2)
    add(project, 3)
    kept = run("models", "delete", "1", "--yes")
    assert kept.exit_code == 1 and "@champion" in kept.stderr
    for refused, why in (("1", "is @champion"), ("4", "has no version 4")):  # before anybody is asked
        asked = CliRunner().invoke(app, ["models", "delete", refused], input="y\n")
        assert asked.exit_code == 1 and why in asked.stderr and "for good?" not in asked.stderr
    nobody = run("models", "delete", "2")  # stdin has no answer
    assert nobody.exit_code == 2 and "Add --yes" in nobody.stderr and 2 in stages_and_aliases()
    assert CliRunner().invoke(app, ["models", "delete", "2"], input="n\n").exit_code == 1 and 2 in stages_and_aliases()
    assert of("models", "delete", "2", "--yes")["action"] == "delete" and 2 not in stages_and_aliases()


def test_a_move_by_hand_is_a_note_beside_the_answer(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    add(project, 2)
    MlflowClient().set_registered_model_alias(NAME, "champion", "2")
    result = run("models", "history", "--json")
    assert "note: By hand" in result.stderr and json.loads(result.stdout)[0]["action"] == "register"
    assert "@champion moved from version 1 to version 2" in " ".join(run("status").stdout.split())
    assert "in production already" in run("models", "rollback", "--to", "2").stderr
    assert [entry.action for entry in deployer().history(1)] == ["by hand"]


def test_without_json_nothing_but_json_is_printed(project: Path) -> None:
    assert of("models", "list") == [] and of("models", "history") == [] and of("models", "verify") == []
    assert run("models", "show", "7").exit_code == 1 and run("models", "show", "seven").exit_code == 2
    for asked in ("show", "deploy", "verify"):
        assert run("models", asked, "@challenger").exit_code == 1  # what is asked for is not there
    guard = of("models", "guard")
    assert guard["canary"]["decision"] == guard["deployment"]["decision"] == "nothing to guard"
    assert of("models", "canary", "stop") == {"stopped": None} and of("models", "canary", "status")["running"] is None


def test_shadow_lets_both_hear_what_the_service_kept(project: Path) -> None:
    import numpy as np
    import soundfile

    for seed in (1, 2):
        folder = save_model(project / f"real{seed}", seed=seed)
        deployer().register_model(NAME, folder, Judged(model_digest=model_digest(folder)), tags={"regression": "pass"})
    nobody = run("models", "shadow", "2")
    assert nobody.exit_code == 1 and "Nobody is @champion" in nobody.stderr
    deployer().deploy_model("1")
    nothing = run("models", "shadow", "2")
    assert nothing.exit_code == 2 and "no recording to listen to" in nothing.stderr
    draw = np.random.default_rng(0)
    for name in "ab":
        soundfile.write(project / f"{name}.wav", draw.uniform(-0.3, 0.3, 16_000), 16_000)
    champion = f"models:/{NAME}@champion"
    assert run("transcribe", "a.wav", "b.wav", "--model", champion, "--log").exit_code == 0
    kept = of("models", "shadow", "2", "--since", "1h")
    assert kept["recordings"] == 2 and kept["missing"] == 0 and kept["notes"][0].startswith("The service keeps")
    given = of("models", "shadow", "2", "--audio", "a.wav", "--audio", "b.wav")
    assert given["changed"] == kept["changed"]
    assert [note.split(" for ")[0] for note in given["notes"]] == ["The error detector is not calibrated"]
    os.utime("a.wav", (0, 0))
    (differs,) = of("models", "shadow", "2", "--audio", "a.wav", "--audio", "b.wav", "--limit", "1")["examples"]
    assert differs["path"] == "b.wav"
    assert of("models", "shadow", "@champion")["changed"] == 0
    text = " ".join(run("models", "shadow", "2").stdout.split())
    assert "2 recordings" in text and "transcripts differ" in text and "models:/fine-tuned-stt/2" in text
    with reading(open_database(project / "var")) as session:
        assert session.query(InferenceRow).count() == 2  # shadowing logs nothing


def test_the_log_names_the_champion_and_no_trial_of_another_model_or_list(project: Path) -> None:
    import numpy as np
    import soundfile

    folder = save_model(project / "real")
    deployer().register_model(NAME, folder, Judged(model_digest=model_digest(folder)), tags={"regression": "pass"})
    deployer().deploy_model("1")
    soundfile.write("a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, 16_000), 16_000)
    Path("phrases.yaml").write_text("strength: 0.3\nphrases: [ours]\n")
    for more in ((), ("--phrases", "phrases.yaml"), ("--model", folder), ("--model", f"models:/{NAME}/1")):
        assert run("transcribe", "a.wav", "--log", *more).exit_code == 0
    with reading(open_database(project / "var")) as session:
        assert [row.served for row in session.query(InferenceRow).order_by(InferenceRow.id)] == [
            f"{NAME}/1",
            *[None] * 3,
        ]


def test_guard_takes_back_what_is_worse_in_production(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    hear(project, 1, errors=20)
    deployer(auto_backup_before_deploy=False).deploy_model(add(project, 2))
    assert [path.name for path in (project / "var/backups" / NAME).iterdir()] == ["1"]
    assert of("models", "guard")["deployment"]["decision"] == "too few"
    hear(project, 2, errors=90)
    worse = run("models", "guard")
    assert worse.exit_code == 1 and "deployment: worse: Version 2 is worse than version 1" in worse.stdout
    assert stages_and_aliases()[2][0] == "Production"
    done = run("models", "guard", "--rollback")
    assert done.exit_code == 1 and "deployment: rolled back: Rolled back to version 1." in done.stdout
    assert stages_and_aliases() == {1: ("Production", ["champion"]), 2: ("Archived", [])}
    assert deployer().history(1)[0].reason.startswith("guard: ")
    assert run("models", "guard").exit_code == 0


def test_a_canary_from_its_start_to_the_guard_that_stops_it(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    assert run("models", "canary", "start").exit_code == 1  # nobody is @challenger
    add(project, 2)
    assert run("models", "canary", "start", "--share", "0.7", "--shadow", "0.7").exit_code == 2
    begun = of("models", "canary", "start", "--share", "0.5", "--shadow", "0", "--reason", "first try")
    assert (begun["version"], begun["champion"], begun["share"], begun["shadow"]) == (2, 1, 0.5, 0.0)
    status = of("models", "canary", "status")
    assert status["running"] == begun and status["found"]["decision"] == "too few"
    assert "answers 50.0 % of the callers" in run("models", "canary", "status").stdout
    hear(project, 1, errors=10, role="champion", canary=begun["entry"])
    hear(project, 2, errors=95, role="canary", canary=begun["entry"], first=200)
    assert "error score" in run("models", "canary", "status").stdout  # which stops nothing
    assert of("models", "guard")["canary"]["decision"] == "stopped"
    assert run("models", "guard").exit_code == 0 and of("models", "canary", "status")["running"] is None
    entries = of("models", "history", "--limit", "2")
    assert [entry["action"] for entry in entries] == ["canary stop", "canary start"]
    assert "guard: Version 2 is worse" in " ".join(run("models", "history", "--limit", "1").stdout.split())


def test_what_was_put_back_is_said_and_announced_by_whoever_notices(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    add(project, 2, outcome="fail", passed=False)
    MlflowClient().set_registered_model_alias(NAME, "champion", "2")
    with listening(OK) as server:
        Path("params.yaml").write_text(f"monitor: {{webhook: '{server.url}'}}\n")
        begun = run("models", "canary", "start", "--share", "0", "--shadow", "0.5")
        assert begun.exit_code == 0 and "note: " in begun.stderr
    assert len(server.requests) == 1


def hear(
    project: Path, number: int, errors: int, role: str = "champion", canary: int | None = None, first: int = 0
) -> None:
    """Two hundred inferences of a version, so many of a hundred misheard."""
    digest = deployer().get_version(number).digest
    rows = [
        {
            "at": datetime.now(UTC), "model_version": digest, "audio_sha256": f"{index:064x}",
            "duration": 4.0, "latency": 0.5 + index % 7 / 100, "is_error": index % 100 < errors,
            "error_score": float(index % 100 < errors), "role": role, "canary": canary,
        }
        for index in range(first, first + 200)
    ]  # fmt: skip
    with transaction(open_database(project / "var")) as session:
        session.execute(insert(InferenceRow), rows)


def findings(*arguments: str) -> dict[str, list[tuple[str, str]]]:
    rows = json.loads(run("doctor", *arguments, "--json").stdout)
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        assert row["level"] == "ok" or row["remedy"], row
        found.setdefault(row["check"], []).append((row["level"], row["text"]))
    return found


def test_doctor_finds_nothing_in_a_healthy_project_and_makes_nothing(project: Path) -> None:
    assert {level for rows in findings().values() for level, _ in rows} <= {"ok", "warning"}
    assert not (project / "var").exists()
    deployer().deploy_model(add(project, 1))
    result = run("doctor")
    assert result.exit_code == 0 and "nothing is wrong" in result.stdout


def test_doctor_names_each_thing_with_its_remedy(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    add(project, 2)
    weights(1).write_bytes(b"")
    shutil.rmtree(project / "var" / "backups")
    MlflowClient().set_registered_model_alias(NAME, "champion", "2")
    (project / "params.yaml").write_text("deploy: {keep: 3}\n")
    assert findings()["params.yaml"][0][0] == "problem"  # and it goes on with the rest
    (project / "params.yaml").write_text("seed: 1\n")
    found = findings()
    assert any("The ledger says" in text for _, text in found["registry"])
    assert any("backup of @champion (version 2)" in text for _, text in found["files"])
    MlflowClient().set_registered_model_alias(NAME, "champion", "1")
    assert ("problem" in [level for level, _ in findings()["files"]]) and run("doctor").exit_code == 1
    MlflowClient().delete_registered_model_alias(NAME, "champion")
    assert any("Nobody is champion" in text for _, text in findings()["registry"])
    (project / "mlruns/mlflow.db").rename(project / "away.db")
    assert any("is gone" in text for _, text in findings()["registry"])
    assert not (project / "mlruns/mlflow.db").exists()


def test_doctor_finds_a_damaged_database(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    for file in (project / "var").glob("mondegreen.db*"):
        file.unlink()
    (project / "var/mondegreen.db").write_bytes(b"SQLite format 3\0" + b"rubbish" * 3000)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    levels = {row["check"]: row["level"] for row in json.loads(result.stdout)}
    assert levels["database"] == "problem" and "disk" in levels  # it goes on with the rest


def test_doctor_names_the_schema_and_upgrades_nothing(project: Path) -> None:
    deployer().deploy_model(add(project, 1))
    assert findings()["database"] == [("ok", f"It has schema {SCHEMA}, as this version of mondegreen.")]

    def looked(number: int) -> tuple[str, str]:
        before = state(connect(project / "var"))
        with grown(number=number):
            (found,) = findings()["database"]
        assert state(connect(project / "var")) == before
        return found

    said = f"It has schema {SCHEMA}; the next command that opens it upgrades it to {NEXT}."
    assert looked(NEXT) == ("warning", said)
    with grown():
        open_database(project / "var").dispose()
    said = f"The database has schema {NEXT}, this version of mondegreen knows {SCHEMA}."
    assert looked(SCHEMA) == ("problem", said)


def test_relocate_mends_what_a_move_of_the_checkout_breaks(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In children: a moved database is another one, with connections of its own."""
    assert in_child(lambda: deployer().deploy_model(add(project, 1)).version)[1] == 1
    with sqlite3.connect(project / "mlruns/mlflow.db") as database:  # MLflow's own, in which nobody has a run
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'Default'", [f"{project}/mlruns/0"])
    good = next((project / "mlruns").rglob("model.safetensors")).read_bytes()
    moved = tmp_path / "elsewhere" / "with spaces"
    moved.parent.mkdir()
    project.rename(moved)
    enter(moved, monkeypatch)
    monkeypatch.setattr("mondegreen.registry.package._CODE", moved / "code")

    def broken() -> object:
        found = findings()
        return found["artifact paths"][0][0], found["files"][0][0]

    assert in_child(broken)[1] == ("problem", "problem")

    def mended() -> object:
        result = run("doctor", "--relocate", "--json")
        text = "".join(result.stderr.split("\n")[0:1])
        from mondegreen.registry.resolving import resolve_uri

        answer = (resolve_uri(f"models:/{NAME}@champion") / "model.safetensors").read_bytes()
        again = run("doctor", "--relocate")
        paths = [finding["level"] for finding in json.loads(result.stdout) if finding["check"] == "artifact paths"]
        return result.exit_code, "were rewritten" in text, answer == good, "already" in again.stderr, paths

    assert in_child(mended)[1] == (0, True, True, True, ["ok"])
    (backup,) = (moved / "mlruns").glob("mlflow.db.before-relocation-*")
    with sqlite3.connect(backup) as before:
        assert str(project) in before.execute("SELECT storage_location FROM model_versions").fetchone()[0]
    with sqlite3.connect(moved / "mlruns/mlflow.db") as now:
        assert str(moved) in now.execute("SELECT storage_location FROM model_versions").fetchone()[0]
    assert in_child(lambda: deployer().deploy_model(add(moved, 2)).former)[1] == 1


@pytest.mark.parametrize("given", [None, "3"])
@pytest.mark.parametrize(
    ("command", "method", "waits"),
    [
        (("list",), "list_versions", False),
        (("verify",), "verify", False),
        (("verify", "--restore"), "verify", True),
        (("deploy", "1"), "deploy_model", True),
        (("rollback",), "rollback", True),
        (("delete", "1", "--yes"), "delete_version", True),
        (("canary", "start"), "start_canary", True),
    ],
)
def test_what_moves_something_waits_for_mlflow_as_a_stage_does(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    method: str,
    waits: bool,
    given: str | None,
) -> None:
    """A server that hesitates within a move would leave half of it; what somebody set counts for all."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    from mondegreen.errors import RegistryError
    from mondegreen.registry.deployer import ModelDeployer

    names = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    usual = [int(setting.default) for setting in (MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES)]
    for name in names:
        monkeypatch.setenv(name, given or "")
        if given is None:
            monkeypatch.delenv(name)
    seen: list[int] = []

    def look(*_: object, **__: object) -> None:
        seen.extend(setting.get() for setting in (MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES))
        raise RegistryError("Enough.")

    monkeypatch.setattr(ModelDeployer, method, look)
    assert run("models", *command).exit_code == 1
    assert seen == ([int(given)] * 2 if given else usual if waits else [4, 0])


def test_a_move_says_at_once_that_the_server_is_away(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with useless_server("reset") as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        for name in ("TIMEOUT", "MAX_RETRIES"):
            monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "")
            monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}")
        away = run("models", "deploy", "1")
    assert away.exit_code == 1 and "cannot be used" in away.stderr
