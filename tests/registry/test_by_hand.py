"""Who is promoted in MLflow's pages, by alias or by stage, needs the proof that a deployment needs."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from mondegreen.cli.main import app
from mondegreen.config import Params
from mondegreen.monitoring.guard import look_at_deployment
from mondegreen.registry.ledger import Ledger
from mondegreen.registry.recovery import external_changes
from tests.registry.registered import NAME, add, deployer, in_child, stages_and_aliases, weights


def by_alias(version: int) -> None:
    MlflowClient().set_registered_model_alias(NAME, "champion", str(version))


def by_stage(version: int) -> None:
    MlflowClient().transition_model_version_stage(NAME, str(version), "Production", archive_existing_versions=True)


WAYS = pytest.mark.parametrize("promote", [by_alias, by_stage])
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("`fail`", {"outcome": "fail", "passed": False}),
    ("about model", {"model_digest": "0" * 64}),
    ("other bytes", {}),
)


def filled(project: Path, **verdict: Any) -> None:
    """Champion 1, and 2 with this verdict."""
    deployer().deploy_model(add(project, 1))
    add(project, 2, **verdict)


def snapshot(project: Path) -> tuple[object, int]:
    return stages_and_aliases(), len(Ledger.open(project / "var", NAME).everything())


@WAYS
def test_with_proof_it_becomes_champion_and_the_ledger_says_so(light: Path, promote: Any) -> None:
    filled(light)
    promote(2)
    desk = deployer()
    (said,) = desk.settle()
    assert "Its proof holds" in said and desk.settle() == []
    assert stages_and_aliases() == {1: ("Archived", ["previous"]), 2: ("Production", ["champion"])}
    entry = desk.history()[0]
    assert (entry.action, entry.version, entry.former, entry.who) == ("by hand", 2, 1, "unknown")
    assert entry.details["backups"] == [1, 2] and entry.outcome == "pass" and entry.digest
    assert desk.rollback().version == 1


@WAYS
def test_the_guard_watches_who_was_promoted_by_hand_and_not_who_goes_back_by_hand(light: Path, promote: Any) -> None:
    filled(light)
    promote(2)
    deployer().settle()
    ledger = Ledger.open(light / "var", NAME)
    found = look_at_deployment(ledger, Params())
    assert (found.decision, found.version, found.former) == ("too few", 2, 1)
    promote(1)
    deployer().settle()
    assert look_at_deployment(ledger, Params()).decision == "nothing to guard"


@WAYS
@pytest.mark.parametrize(("reason", "verdict"), FAULTS)
def test_without_proof_it_is_put_back_loudly(
    light: Path, promote: Any, reason: str, verdict: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    filled(light, **verdict)
    if not verdict:
        weights(2).write_bytes(weights(1).read_bytes())
    before = stages_and_aliases()
    promote(2)
    desk = deployer()
    (said, *_) = desk.settle()
    assert "PUT BACK, version 1 is @champion" in said and reason in said and "models deploy 2" in said
    assert said in caplog.text and stages_and_aliases() == before and desk.settle() == []
    entry = desk.history()[0]
    assert (entry.action, entry.details["promoted"], entry.after["champion"]) == ("put back", 2, 1)


@WAYS
def test_who_only_looks_is_told_and_moves_nothing(light: Path, promote: Any) -> None:
    filled(light, outcome="fail", passed=False)
    promote(2)
    before = snapshot(light)
    desk = deployer()
    for look in (desk.list_versions, desk.history, desk.get_status, desk.verify, lambda: desk.get_version("2")):
        look()
        assert "By hand, outside of mondegreen" in desk.notes[0] and "status --settle" in desk.notes[-1]
    assert external_changes(NAME, light / "var") == desk.notes
    assert snapshot(light) == before


def test_an_earlier_champion_that_is_made_champion_again_needs_whole_files_only(light: Path) -> None:
    filled(light)
    deployer().deploy_model("2")
    by_alias(1)
    assert "Its proof holds" in deployer().settle()[0] and stages_and_aliases()[1] == ("Production", ["champion"])
    weights(2).unlink()
    by_alias(2)
    assert "PUT BACK, version 1" in deployer().settle()[0] and stages_and_aliases()[1] == ("Production", ["champion"])


def test_the_first_champion_is_asked_too_and_other_aliases_are_only_entered(light: Path) -> None:
    add(light, 1, outcome="fail", passed=False)
    deployer().settle()
    by_alias(1)
    assert "PUT BACK, nobody is @champion" in deployer().settle()[0]
    assert stages_and_aliases() == {1: ("Staging", ["challenger"])}
    MlflowClient().delete_registered_model_alias(NAME, "challenger")
    assert "Entered in the ledger" in deployer().settle()[0] and deployer().settle() == []


@pytest.mark.parametrize(
    ("promote", "outcome"),
    [
        (by_alias, "pass"),
        (by_stage, "fail"),
        pytest.param(by_alias, "fail", marks=pytest.mark.slow),
        pytest.param(by_stage, "pass", marks=pytest.mark.slow),
    ],
)
def test_killed_while_it_settles_the_next_time_does_the_rest(light: Path, promote: Any, outcome: str) -> None:
    filled(light, outcome=outcome, passed=outcome == "pass")
    promote(2)

    def cut_off(write: int) -> None:
        from tests.registry.test_registry_faults import die_at

        die_at(write)
        deployer().settle()

    for write in range(1, 8):
        status, _ = in_child(lambda write=write: cut_off(write))
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            break
    deployer().settle()
    assert deployer().settle() == []
    champion = 2 if outcome == "pass" else 1
    assert stages_and_aliases()[champion] == ("Production", ["champion"])
    ledger = Ledger.open(light / "var", NAME)
    assert (ledger.aliases() or {})["champion"] == champion and not ledger.unfinished()


def test_status_settles_when_asked_and_the_webhook_hears_of_what_was_put_back_once(
    light: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr("mondegreen.monitoring.alerts.Webhook.post", lambda self, payload: sent.append(payload) or "")
    (light / "params.yaml").write_text("monitor: {webhook: 'http://127.0.0.1:9/'}\n", encoding="utf-8")
    filled(light, outcome="fail", passed=False)
    by_alias(2)
    looked = CliRunner().invoke(app, ["status", "--json"])
    assert looked.exit_code == 0 and "status --settle" in looked.stdout and not sent
    assert stages_and_aliases()[2] == ("Staging", ["challenger", "champion"])
    settled = CliRunner().invoke(app, ["status", "--settle"])
    assert "PUT BACK" in settled.stderr and len(sent) == 1 and "version 2" in sent[0]["text"]
    CliRunner().invoke(app, ["status", "--settle"])
    CliRunner().invoke(app, ["models", "list"])
    assert len(sent) == 1
