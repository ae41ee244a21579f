"""What is known of a version: a few tags, the rest in its record, and no proof where the two do not agree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mondegreen.registry.aliases import alone, opened
from mondegreen.registry.gate import DeploymentRefusedError
from mondegreen.registry.mlflow_store import connect, live_state
from mondegreen.registry.record import VerdictTags, facts_of, write_record
from mondegreen.registry.register import _record
from tests.registry.registered import NAME, Result, add, deployer, stages_and_aliases

JUDGED: dict[str, Any] = {"baseline_digest": "b" * 64, "reference_digest": "t" * 64}
SIX = {"digest", "files.sha256", "outcome", "regression", "champion.at.verdict", "record"}


def tags(number: int) -> dict[str, str]:
    return dict(connect().get_model_version(NAME, str(number)).tags)


def codes(number: int) -> list[str]:
    return [refusal.code for refusal in deployer().refusals(number)]


def record_file() -> Path:
    (file,) = Path("mlruns/artifacts").glob("*/artifacts/registered/version-1-*.json")
    return file


def as_an_earlier_release(number: int) -> None:
    """All that is known of a version as tags, and no record."""
    with opened(NAME, live_state()) as registry:
        registry.tag(number, facts_of(registry, number) | {"record": "", "run": "r"})
    record_file().unlink()


def test_a_version_has_six_tags_and_all_else_is_in_its_record(light: Path) -> None:
    add(light, 1, **JUDGED)
    assert set(tags(1)) == SIX and '"verdict.baseline": "bbb' in record_file().read_text()
    found = deployer().get_version(1)
    assert (found.outcome, found.tags["verdict.baseline"], found.warning) == ("pass", "b" * 64, "")
    assert codes(1) == []


def _removed() -> None:
    record_file().unlink()


def _altered() -> None:
    record_file().write_text(record_file().read_text().replace('"0.03"', '"0.3"'))


def _of_a_deleted_run() -> None:
    client = connect()
    run = client.get_run(str(client.get_model_version(NAME, "1").run_id))
    client.delete_run(run.info.run_id)
    record_file().unlink()  # as `mlflow gc` does


def _tagged(name: str, value: str) -> Callable[[], None]:
    return lambda: connect().set_model_version_tag(NAME, "1", name, value)


@pytest.mark.parametrize(
    ("damage", "refused"),
    [
        (_removed, ["verdict"]),
        (_altered, ["verdict"]),
        (_of_a_deleted_run, ["verdict"]),
        (_tagged("record", "0" * 64), ["verdict"]),
        (_tagged("outcome", "inconclusive"), ["verdict"]),
        (_tagged("champion.at.verdict", "7"), ["verdict", "champion"]),
        (lambda: connect().delete_model_version_tag(NAME, "1", "champion.at.verdict"), ["verdict", "champion"]),
    ],
    ids=["removed", "altered", "run", "another", "outcome", "champion", "no-champion"],
)
def test_a_record_proves_only_what_was_written(light: Path, damage: Callable[[], None], refused: list[str]) -> None:
    add(light, 1, **JUDGED)
    damage()
    assert codes(1) == refused and deployer().get_version(1).outcome == "none"
    with pytest.raises(DeploymentRefusedError) as said:
        deployer().deploy_model(1)
    assert "record" in str(said.value) and deployer().get_version(1).warning
    if refused != ["verdict"]:
        with pytest.raises(DeploymentRefusedError, match="who was champion"):
            deployer().deploy_model(1, override=["verdict"], reason="it is right")


def test_a_failed_version_does_not_pass_by_a_tag(light: Path) -> None:
    add(light, 1, outcome="fail", passed=False)
    _tagged("outcome", "pass")()
    _tagged("verdict.model", "anything")()
    assert codes(1) == ["verdict"]


def test_the_record_is_not_asked_for_where_files_are(light: Path) -> None:
    """A rollback at night needs the files, not the proof."""
    desk = deployer()
    for seed in (1, 2):
        desk.deploy_model(add(light, seed))
    _removed()
    assert desk.rollback().version == 1 and all(check.ok for check in desk.verify())


def test_versions_of_an_earlier_release_are_as_they_were(light: Path) -> None:
    first = add(light, 1, **JUDGED)
    known = deployer().get_version(1).tags
    as_an_earlier_release(1)
    assert {"verdict.model", "verdict.sha256", "run"} <= set(tags(1)) and "record" not in tags(1)
    assert deployer().get_version(1).tags == known | {"run": "r"} and codes(1) == []
    add(light, 2, **JUDGED | {"wer_improvement": 0.01})
    assert stages_and_aliases()[1] == ("Staging", ["challenger"]), "version 2 is worse, which its tags tell"
    deployer().deploy_model(first)
    assert codes(2) == ["champion"]


def test_a_version_of_an_earlier_release_gets_a_record_when_it_is_registered_again(light: Path) -> None:
    add(light, 1, **JUDGED)
    as_an_earlier_release(1)
    _tagged("FORGETTING", "OF THE VERDICT BEFORE")()
    registered_again("pass", 0.04)
    assert set(tags(1)) - {"run"} == SIX and deployer().get_version(1).warning == ""


def registered_again(outcome: str, improvement: float) -> None:
    """Another verdict on version 1."""
    with opened(NAME, live_state()) as registry, alone(registry):
        _record(registry, 1, VerdictTags(outcome, wer_improvement=improvement, model_digest=tags(1)["digest"]), {})


def test_cut_off_between_any_two_writes_half_a_verdict_proves_nothing(
    light: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def cut_off_after(number: int, outcome: str) -> bool:
        """Whether it was cut off before it was done."""
        written = 0

        def counting(method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                nonlocal written
                if written == number:
                    raise Cut
                written += 1
                return method(*given, **named)

            return call

        with monkeypatch.context() as patch:
            for name in ("log_text", "set_model_version_tag", "delete_model_version_tag"):
                patch.setattr(MlflowClient, name, counting(getattr(MlflowClient, name)))
            try:
                registered_again(outcome, 0.1)
            except Cut:
                return True
            return False

    add(light, 1, outcome="fail", passed=False)
    number = 0
    while cut_off_after(number, "pass"):
        assert codes(1) == ["verdict"], f"failed, then a pass that was cut off after {number} writes"
        registered_again("fail", 0.2 + number)
        number += 1
    assert number == 3 and codes(1) == [], "the whole of it is a pass"
    number = 0
    while cut_off_after(number, "fail"):
        assert codes(1) == ([] if number < 2 else ["verdict"]), number  # before the tag `record` it is the pass of then
        registered_again("pass", 0.3 + number)
        number += 1
    assert codes(1) == ["verdict"]


def test_a_record_that_is_made_anew_looks_no_newer(light: Path) -> None:
    add(light, 1)
    deployer().deploy_model(add(light, 2))
    _removed()
    again = VerdictTags.of(Result(model_digest=tags(1)["digest"]))  # type: ignore[arg-type]
    with opened(NAME, live_state()) as registry, alone(registry):
        _record(registry, 1, again, {})
    assert codes(1) == ["champion"], "the verdict is that of before, which the ledger knows"


def test_what_is_written_again_is_the_same_record(light: Path) -> None:
    add(light, 1)
    with opened(NAME, live_state()) as registry:
        before, known = tags(1), facts_of(registry, 1)
        for name in ("digest", "files.sha256", "regression"):
            known.pop(name)
        write_record(registry, 1, known)
    assert tags(1) == before and record_file().is_file()
