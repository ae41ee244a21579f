"""Deploying and rolling back: what is refused, where a rollback leads, what is kept of older versions."""

import sqlite3
from pathlib import Path

import pytest

from mondegreen.db import open_database
from mondegreen.errors import RegistryError, UsageError
from mondegreen.records import Outcome, RegressionResults, SuiteResult
from mondegreen.registry.gate import DeploymentRefusedError
from mondegreen.registry.ledger import Ledger
from mondegreen.registry.mlflow_store import connect
from mondegreen.registry.package import Backups
from mondegreen.registry.regression_runs import store_run
from mondegreen.registry.resolving import resolve_uri
from mondegreen.scoring.verdict import Retention
from mondegreen.speech.model_folder import model_digest
from tests.registry.registered import NAME, add, deployer, save_folder, stages_and_aliases, weights


def codes(version: str) -> list[str]:
    return [refusal.code for refusal in deployer().refusals(version)]


def test_register_deploy_roll_back_moves_stage_and_alias_together(light: Path) -> None:
    first, second = add(light, 1), add(light, 2)
    assert (first, second) == (f"{NAME}/1", f"{NAME}/2")
    assert stages_and_aliases() == {1: ("Archived", []), 2: ("Staging", ["challenger"])}
    desk = deployer()
    assert desk.deploy_model(first, reason="the first").former is None
    assert stages_and_aliases() == {1: ("Production", ["champion"]), 2: ("Staging", ["challenger"])}
    with pytest.raises(DeploymentRefusedError, match="it was nobody, it is version 1"):
        desk.deploy_model(second)
    third = add(light, 3)
    assert desk.deploy_model("@challenger").version_id == third
    assert stages_and_aliases() == {1: ("Archived", ["previous"]), 2: ("Archived", []), 3: ("Production", ["champion"])}
    assert (resolve_uri(f"models:/{NAME}@champion") / "model.safetensors").read_bytes() == weights(3).read_bytes()
    done = desk.rollback(reason="too slow")
    assert (done.version, done.former) == (1, 3)
    assert stages_and_aliases() == {1: ("Production", ["champion"]), 2: ("Archived", []), 3: ("Archived", [])}
    assert (resolve_uri(f"models:/{NAME}@champion") / "model.safetensors").read_bytes() == weights(1).read_bytes()
    rows = [(e.action, e.version, e.former, e.reason, e.outcome) for e in desk.history() if e.action != "register"]
    assert rows == [
        ("rollback", 1, 3, "too slow", "pass"),
        ("deploy", 3, 1, "", "pass"),
        ("deploy", 1, None, "the first", "pass"),
    ]
    assert [version.version_id for version in desk.list_versions(limit=2)] == [third, second]
    assert desk.list_versions()[0].status == "Archived"


def test_what_nobody_judged_takes_no_judged_challengers_place(light: Path) -> None:
    def unjudged(seed: int) -> None:
        deployer().register_model(NAME, save_folder(light / "models" / str(seed), seed))

    unjudged(1)
    add(light, 2, outcome="fail", passed=False)
    unjudged(3)
    assert stages_and_aliases() == {1: ("Archived", []), 2: ("Staging", ["challenger"]), 3: ("None", [])}


def test_a_rollback_goes_one_further_back_each_time_and_never_to_what_was_rolled_back_from(light: Path) -> None:
    desk = deployer()
    for seed in (1, 2, 3):
        desk.deploy_model(add(light, seed))
    assert desk.rollback().version == 2 and desk.rollback().version == 1
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        desk.rollback()
    assert stages_and_aliases()[1] == ("Production", ["champion"])
    desk.deploy_model(add(light, 4))
    assert stages_and_aliases()[1] == ("Archived", ["previous"])
    assert desk.rollback().version == 1  # 2 and 3 were taken back
    assert desk.rollback(to=3, reason="it was right after all").version == 3
    with pytest.raises(RegistryError, match="never in production"):
        desk.rollback(to=add(light, 5))
    with pytest.raises(RegistryError, match="in production already"):
        desk.rollback(to="@champion")


def test_after_a_rollback_to_what_was_taken_back_the_champions_before_are_still_kept(light: Path) -> None:
    desk = deployer()
    for seed in (1, 2, 3):
        desk.deploy_model(add(light, seed))
    desk.rollback()
    assert desk.rollback(to=3, reason="it was right after all").version == 3
    with pytest.raises(RegistryError, match="it is @previous"):
        desk.delete_version("1")
    assert desk.rollback().version == 1


@pytest.mark.parametrize(
    ("verdict", "code", "said"),
    [
        ({"outcome": "fail", "passed": False}, "verdict", "`fail`"),
        ({"outcome": "inconclusive", "passed": False}, "verdict", "`inconclusive`"),
        ({"outcome": "pass", "passed": False}, "verdict", "`fail`"),
        ({"wer_improvement": float("nan")}, "verdict", "not a number"),
        ({"wer_improvement": float("inf")}, "verdict", "not a number"),
        ({"model_digest": "f" * 64}, "digest", "about model ffffffffffff"),
    ],
)
def test_a_verdict_that_proves_nothing_is_refused(
    light: Path, verdict: dict[str, object], code: str, said: str
) -> None:
    version = add(light, 1, **verdict)
    with pytest.raises(DeploymentRefusedError, match=said) as refused:
        deployer().deploy_model(version)
    assert [refusal.code for refusal in refused.value.refusals] == [code]
    assert "--override" in str(refused.value) and stages_and_aliases() == {1: ("Staging", ["challenger"])}


def test_without_a_verdict_it_can_be_registered_and_not_deployed(light: Path) -> None:
    version = deployer().register_model(NAME, save_folder(light / "model"))
    assert codes(version) == ["verdict"]


def test_suites_are_asked_about_where_there_are_any_or_some_are_required(light: Path) -> None:
    version = add(light, 1, regression=False)
    assert codes(version) == []
    (light / "data/regression").mkdir(parents=True)
    (light / "data/regression/suites.yaml").write_text("suites: [{name: core}]\n")
    assert codes(version) == codes(add(light, 2, regression=False)) == ["regression"]
    (light / "data/regression/suites.yaml").write_text("suites: []\n")
    assert codes(version) == []
    (light / "params.yaml").write_text("regress: {required: true}\n")
    assert codes(version) == ["regression"]


def test_the_last_run_of_the_regression_suites_counts(light: Path) -> None:
    (light / "params.yaml").write_text("regress: {required: true}\n")
    version = add(light, 1, regression=False)
    digest = model_digest(light / "models" / "1")
    assert codes(version) == ["regression"]
    engine = open_database(light / "var")
    for passed in (True, False):
        store_run(engine, RegressionResults(passed=passed, reason="core lost", model=digest, suites=[]))
        assert codes(version) == ([] if passed else ["regression"])
    nameless = RegressionResults(passed=True, reason="", model="", model_version=f"{NAME}/2", suites=[])
    store_run(engine, nameless)
    assert codes(add(light, 2, regression=False)) == []


def ran(*suites: str, passed: bool = True, **fields: str) -> RegressionResults:
    """A run of the regression suites of these names."""
    outcome: Outcome = "pass" if passed else "fail"
    heard = [SuiteResult(name=name, kind="critical", outcome=outcome, reason="") for name in suites]
    return RegressionResults(passed=passed, reason="", suites=heard, **fields)


def ask_for(*suites: str) -> None:
    """The project has suites of these names."""
    Path("data/regression").mkdir(parents=True, exist_ok=True)
    Path("data/regression/suites.yaml").write_text("".join(["suites:\n", *(f"- name: {name}\n" for name in suites)]))


def test_a_suite_that_came_after_the_run_is_asked_for(light: Path) -> None:
    version, digest = add(light, 1), model_digest(save_folder(light / "models" / "1", 1))
    engine = open_database(light / "var")
    ask_for("core")
    with pytest.raises(DeploymentRefusedError, match="No run on record says which"):
        deployer().deploy_model(version)
    store_run(engine, ran("core", model=digest))
    assert codes(version) == []
    ask_for("core", "refunds", "silence")
    with pytest.raises(DeploymentRefusedError, match=r"Run 1 .* was without refunds, silence") as refused:
        deployer().deploy_model(version)
    assert f"mondegreen regression run models:/{NAME}/1" in refused.value.next_step
    store_run(engine, ran("core", "refunds", "silence", "of before", model=digest))
    assert codes(version) == []
    Path("data/regression/suites.yaml").write_text("suites: [{name: core, name: refunds}]\n")
    with pytest.raises(DeploymentRefusedError, match=r"Nobody can say .*suites.yaml:1.* stands twice"):
        deployer().deploy_model(version)
    Path("data/regression/suites.yaml").rename("data/regression/suites.yml")
    assert [refusal.part for refusal in deployer().refusals(version)] == ["regression"]


def test_a_failed_run_is_not_replaced_by_an_easier_one(light: Path) -> None:
    ask_for("core")
    digest, engine = model_digest(save_folder(light / "models" / "1", 1)), open_database(light / "var")
    version = add(light, 1, baseline_digest="b" * 64)
    beside = {"model": digest, "baseline_model": "b" * 64}
    store_run(engine, ran("core", model=digest))  # --stored: it counts where nothing else is there
    assert codes(version) == []
    store_run(engine, ran("core", passed=False, **beside))
    assert codes(version) == ["regression"]
    store_run(engine, ran("core", model=digest))
    store_run(engine, ran("core", model=digest, baseline_model="c" * 64))
    with pytest.raises(DeploymentRefusedError, match=r"Run 2 .* verdict compares with \(bbbbbbbbbbbb\), did not pass"):
        deployer().deploy_model(version)
    store_run(engine, ran("core", **beside))
    assert codes(version) == []
    store_run(engine, ran("core", passed=False, model=digest))
    assert codes(version) == ["regression"]


def test_force_needs_a_reason_and_is_recorded(light: Path) -> None:
    version = add(light, 1, outcome="fail", passed=False)
    with pytest.raises(UsageError, match="reason"):
        deployer().deploy_model(version, force=True)
    deployer().deploy_model(version, force=True, reason="a demonstration")
    entry = deployer().history(1)[0]
    assert entry.forced and entry.reason == "a demonstration" and "`fail`" in entry.details["overridden"][0]
    assert stages_and_aliases()[1][0] == "Production"


def test_references_of_a_machine_are_said_in_capital_letters(light: Path) -> None:
    version = connect().get_model_version(NAME, add(light, 1, llm_references=12).split("/")[1])
    loud = "JUDGED BY 12 REFERENCES THAT A LANGUAGE MODEL WROTE, NOT A HUMAN"
    assert version.tags["LLM_REFERENCES"] == loud and version.description.startswith(f"**{loud}**")


def test_forgetting_that_nobody_measured_is_said_in_capital_letters(light: Path) -> None:
    version = add(light, 1, retention=Retention(outcome="inconclusive", reason="", margin=0.02))
    loud = "FORGETTING WAS NOT MEASURED"
    assert connect().get_model_version(NAME, "1").description.startswith(f"**{loud}**")
    assert deployer().get_version(version).warning == loud
    assert codes(version) == []
    assert deployer().get_version(add(light, 2)).warning == ""


def test_a_verdict_registered_again_looks_no_newer(light: Path) -> None:
    """Otherwise running the register stage again would get around the comparison with the champion of then."""
    from mondegreen.config import Params
    from mondegreen.registry.record import VerdictTags
    from mondegreen.registry.register import register
    from mondegreen.registry.runs import start_run

    folder = save_folder(light / "models" / "9", 9)
    digest = model_digest(folder)
    with start_run(Params()) as run:
        pass

    def again(improvement: float) -> None:
        results = RegressionResults(passed=True, reason="", model=digest, suites=[])
        verdict = VerdictTags("pass", model_digest=digest, wer_improvement=improvement)
        register(NAME, run, folder, digest=digest, verdict=verdict, results=results, promote=False)

    again(0.03)
    deployer().deploy_model(add(light, 1), reason="meanwhile")
    again(0.03)
    assert codes("1") == ["champion"]
    again(0.04)  # a new verdict, made beside the new champion
    assert codes("1") == []


def test_a_verdict_against_a_champion_that_has_gone_is_refused(light: Path) -> None:
    """It was registered after the champion had changed, and still compares with the one before."""
    desk, digests = deployer(), {}
    for seed in (1, 2):
        desk.deploy_model(add(light, seed))
        digests[seed] = model_digest(light / "models" / str(seed))
    assert codes(add(light, 3, baseline_digest=digests[1])) == ["champion"]
    assert codes(add(light, 4, baseline_digest=digests[2])) == []
    assert codes(add(light, 5, baseline_digest="b" * 64)) == []
    desk.deploy_model("5")
    assert "compares with model bbbbbbbbbbbb, not with champion version 2" in desk.notes[0]


def test_deploying_the_champion_again_changes_nothing(light: Path) -> None:
    version = add(light, 1)
    deployer().deploy_model(version)
    again = deployer().deploy_model(version)
    assert again.action == "none" and len([e for e in deployer().history() if e.action == "deploy"]) == 1


def test_what_is_deployed_is_backed_up_and_comes_back_from_there(light: Path) -> None:
    desk = deployer()
    desk.deploy_model(add(light, 1))
    desk.deploy_model(add(light, 2))
    backups = Backups(light / "var", NAME)
    assert backups.versions() == [1, 2] and not backups.problems(1) and not backups.problems(2)
    good = weights(2).read_bytes()
    weights(2).write_bytes(good[:-4])
    assert [bool(check.problems) for check in desk.verify()] == [False, True]
    # Whoever loads it gets the bytes that were registered, before anybody has mended anything.
    assert (resolve_uri(f"models:/{NAME}@champion") / "model.safetensors").read_bytes() == good
    checks = desk.verify("2", restore=True)
    assert checks[0].ok and checks[0].restored and weights(2).read_bytes() == good
    weights(1).unlink()
    assert desk.rollback().version == 1 and weights(1).is_file()
    assert [entry.action for entry in desk.history()][:3] == ["rollback", "restore", "restore"]


def test_a_backup_that_is_damaged_is_made_anew(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    backups = Backups(light / "var", NAME)
    copy = next(backups.package(1).rglob("model.safetensors"))
    copy.write_bytes(b"x")
    assert "other bytes" in backups.problems(1)[0]
    weights(1).write_bytes(b"y")
    with pytest.raises(RegistryError, match="cannot be used"):
        deployer().verify(restore=True)
    weights(1).write_bytes(save_folder(light / "models" / "1", 1).joinpath("model.safetensors").read_bytes())
    assert deployer().verify(back_up=True)[0].backup == ()


def test_older_versions_lose_their_files_and_keep_their_record(light: Path) -> None:
    desk = deployer(keep_previous_versions=1)
    for seed in range(1, 5):
        desk.deploy_model(add(light, seed))
    versions = {version.version: version for version in desk.list_versions()}
    assert [number for number in versions if versions[number].pruned] == [2, 1]
    assert versions[1].outcome == "pass" and versions[1].digest
    assert Backups(light / "var", NAME).versions() == [3, 4]
    pruned = [entry for entry in desk.history() if entry.action == "prune"]
    assert sorted(entry.version or 0 for entry in pruned) == [1, 2]
    assert codes("1") == ["pruned", "champion"]
    with pytest.raises(DeploymentRefusedError) as refused:
        desk.deploy_model("1", force=True, reason="but I want it")
    assert "--force" not in str(refused.value)
    assert desk.rollback().version == 3
    with pytest.raises(RegistryError, match="files of version 2 were pruned"):
        desk.rollback()


def test_what_is_needed_is_not_deleted(light: Path) -> None:
    desk = deployer()
    for seed in (1, 2, 3):
        desk.deploy_model(add(light, seed))
    add(light, 4)
    for version, why in (("1", "rollback leads"), ("2", "@previous"), ("3", "@champion"), ("4", "@challenger")):
        with pytest.raises(RegistryError, match=why):
            desk.delete_version(version)
    add(light, 5)
    files = weights(4)
    desk.delete_version("4", reason="a typing error")
    assert 4 not in stages_and_aliases() and not files.exists()
    assert desk.history(1)[0].action == "delete" and desk.history(1)[0].reason == "a typing error"


def test_rows_of_the_ledger_are_never_changed(light: Path) -> None:
    desk = deployer()
    seen: dict[int, str] = {}
    for step in (lambda: add(light, 1), lambda: desk.deploy_model("1"), lambda: add(light, 2),
                 lambda: desk.deploy_model("2"), desk.rollback):  # fmt: skip
        step()
        rows = {entry.id: entry.model_dump_json() for entry in Ledger.open(light / "var", NAME).everything()}
        assert seen.items() <= rows.items()
        seen = rows


def test_the_order_is_that_of_the_numbers_when_the_clock_goes_back(light: Path) -> None:
    desk = deployer()
    for seed in (1, 2):
        desk.deploy_model(add(light, seed))
    with sqlite3.connect(light / "var" / "mondegreen.db") as database:
        database.execute("UPDATE deployments SET at = '1999-01-01 00:00:00' WHERE action = 'deploy' AND version = 2")
    assert desk.rollback().version == 1
    assert [entry.action for entry in desk.history()][:2] == ["rollback", "deploy"]


def test_a_version_may_be_named_in_many_ways(light: Path) -> None:
    add(light, 1)
    for given in ("1", 1, "v1", f"{NAME}/1", f"models:/{NAME}/1", "@challenger", f"{NAME}@challenger"):
        assert deployer().get_version(given).version == 1
    for given in ("one", "1.5", "-1", "@nobody", "other/x", f"{NAME}1", f"{NAME}v1"):
        with pytest.raises((UsageError, RegistryError)):
            deployer().get_version(given)


def test_the_report_and_the_screen_say_what_happened(light: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = deployer()
    desk.deploy_model(add(light, 1), reason="why not | indeed")
    add(light, 2, llm_references=3)
    text = desk.generate_deployment_report(light / "report.md")
    assert text == (light / "report.md").read_text(encoding="utf-8")
    for part in ("@champion: version 1", "| 1 | Production |", "why not / indeed", "JUDGED BY 3 REFERENCES"):
        assert part in text
    desk.print_status()
    assert "@champion version 1" in capsys.readouterr().out


def test_an_override_covers_the_part_that_it_names_and_no_other(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    add(light, 2, regression=False, outcome="fail", passed=False)
    weights(2).write_bytes(weights(1).read_bytes())
    for override, refused in (
        ((), ["files", "verdict"]),
        (("verdict",), ["files"]),
        (("files", "regression"), ["verdict"]),
        (("champion",), ["files", "verdict"]),
    ):
        with pytest.raises(DeploymentRefusedError) as found:
            deployer().deploy_model("2", override=override, reason="a test")
        assert [refusal.part for refusal in found.value.refusals] == refused
        assert "--override" in found.value.next_step
    for wrong in ({"override": ("verdict",)}, {"override": ("unloadable",), "reason": "x"}):
        with pytest.raises(UsageError):
            deployer().deploy_model("2", **wrong)
    desk = deployer()
    done = desk.deploy_model("2", override=("verdict", "files"), reason="a test")
    assert done.entry and done.entry.forced and len(done.entry.details["overridden"]) == 2
    assert [note.startswith("Overridden: ") for note in desk.notes[-2:]] == [True, True]


def test_altered_files_need_a_verdict_and_suites_of_their_own(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    all_parts = ("files", "verdict", "regression")
    deployer().deploy_model(add(light, 1))
    add(light, 2)
    judged = model_digest(light / "models" / "2")
    weights(2).write_bytes(weights(1).read_bytes())
    with pytest.raises(DeploymentRefusedError, match=f"verdict is about model {judged[:12]}") as found:
        deployer().deploy_model("2", override=("files",), reason="a test")
    assert [refusal.part for refusal in found.value.refusals] == ["verdict", "regression"]
    with pytest.raises(DeploymentRefusedError, match="answers nobody"):
        deployer().start_canary(0.1, 0.0, override=("files",), reason="a test")
    with monkeypatch.context() as patch, pytest.raises(RegistryError, match="No space left"):
        patch.setattr("shutil.copytree", everything_full)
        deployer().deploy_model("2", override=all_parts, reason="a test")
    assert codes("2") == list(all_parts)  # nothing was moved, and nothing was taken for its own
    deployer().start_canary(0.1, 0.0, override=all_parts, reason="a test")
    assert codes("2") == ["verdict", "regression"] and deployer().verify("2")[0].ok
    done = deployer().deploy_model("2", override=all_parts, reason="a test")
    assert done.entry and done.entry.outcome == "none" and done.entry.digest == model_digest(light / "models" / "1")
    assert deployer().get_version("2").outcome == "none" and "is about model" in deployer().get_version("2").warning


def test_altered_files_that_were_judged_and_tested_themselves_are_only_altered(light: Path) -> None:
    (light / "params.yaml").write_text("regress: {required: true}\n")
    other = save_folder(light / "models" / "other", 2)
    digest = model_digest(other)
    add(light, 1, regression=False, model_digest=digest)
    assert codes("1") == ["digest", "regression"]
    weights(1).write_bytes((other / "model.safetensors").read_bytes())
    store_run(open_database(light / "var"), RegressionResults(passed=True, reason="", model=digest, suites=[]))
    assert codes("1") == ["files"]


def test_an_alias_that_somebody_else_gave_keeps_a_version_and_names_it(light: Path) -> None:
    desk = deployer(keep_previous_versions=1)
    for seed in (1, 2):
        add(light, seed)
    connect().set_registered_model_alias(NAME, "customer-a", "1")
    assert desk.get_version("@customer-a").aliases == ("customer-a",)
    with pytest.raises(RegistryError, match="it is @customer-a"):
        desk.delete_version("1")
    for seed in (3, 4):
        desk.deploy_model(add(light, seed))
    assert [version.version for version in desk.list_versions() if version.pruned] == [2]
    assert [check.version for check in desk.verify()] == [1, 3, 4] and all(check.ok for check in desk.verify())
    assert "@customer-a: version 1" in desk.generate_deployment_report()
    assert stages_and_aliases()[1] == ("Archived", ["customer-a"])
    connect().delete_registered_model_alias(NAME, "customer-a")
    assert desk.delete_version("1").action == "delete"
