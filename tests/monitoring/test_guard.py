"""The guard: when a challenger or a new champion is called worse, when not, and what is done then, once."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select

from mondegreen.config import DeployParams, Params
from mondegreen.db import open_database, transaction
from mondegreen.errors import RegistryError
from mondegreen.monitoring.comparing import ShadowPair, log_pairs
from mondegreen.monitoring.guard import Guarded, GuardReport, guard, look_at_canary, watch_guard
from mondegreen.registry.canary import START, Canary, running, stop
from mondegreen.registry.ledger import Ledger
from mondegreen.tables import DeploymentRow, InferenceRow
from tests.monitoring.inferences import NOW
from tests.monitoring.listener import OK, listening

NAME = "fine-tuned-stt"


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Service:
    """A database, what its versions heard, and a deployer whose moves are entries of the ledger alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = open_database(folder)
        self.ledger = Ledger(self.engine, NAME)
        self.random = np.random.default_rng(0)
        self.refusal: RegistryError | None = None
        self.killed = False

    def heard(
        self, model: str, count: int, score: float = 0.2, work: float = 0.2, judged: bool = True, prefix: str = "",
        callers: int = 0, **columns: Any,
    ) -> None:  # fmt: skip
        """Inferences of a model, spread as a service's are; the clock of later ones is behind."""
        scores = np.clip(self.random.normal(score, 0.1, count), 0, 1)
        lengths = self.random.gamma(4, 1, count) + 0.5
        latency = lengths * work * self.random.gamma(9, 1 / 9, count)
        rows = [
            {
                "at": NOW - timedelta(seconds=index), "model_version": model,
                "audio_sha256": f"{prefix}{index:x}".rjust(64, "0"), "duration": float(lengths[index]),
                "latency": float(latency[index]), "confidence": 0.5, "error_score": float(scores[index]),
                "is_error": bool(scores[index] > 0.5) if judged else None, "case_id": None,
                "caller": f"{prefix}{index % callers}" if callers else None, "batch": 1, **columns,
            }
            for index in range(count)
        ]  # fmt: skip
        with transaction(self.engine) as session:
            session.execute(insert(InferenceRow), rows)

    def deploy(self, version: int, former: int | None, action: str = "deploy", reason: str = "") -> None:
        before = {"champion": former} if former else {}
        after = {"champion": version, "challenger": 2}
        details = {"before": before, "after": after, "inferences": self.ledger.last_inference()}
        details["former_digest"] = f"m{former}"
        self.ledger.note(action, version, former=former, digest=f"m{version}", details=details, reason=reason)

    def canary(self, share: float = 0.5, shadow: float = 0.5) -> Canary:
        held = {"champion": 1, "challenger": 2}
        facts = {"share": share, "shadow": shadow, "salt": "s"}
        details = {"before": held, "after": held, "canary": facts}
        return Canary.of(self.ledger.note(START, 2, former=1, details=details))

    def answered(self, canary: Canary, count: int, score: float = 0.2, work: float = 0.2, **more: Any) -> None:
        """Answers of both, turn by turn; the challenger's have this score and this work."""
        for part in range(4):
            here = {"canary": canary.entry, **more}
            self.heard("m1", count // 4, role="champion", prefix=f"a{part}", **here)
            self.heard("m2", count // 4, score, work, role="canary", prefix=f"b{part}", **here)

    def shadowed(self, canary: Canary, count: int, lost: float = 0.0, errors: int = 1, comparable: bool = True) -> None:
        requests = [f"r{canary.entry}-{number}" for number in range(count)]
        with transaction(self.engine) as session:
            session.execute(
                insert(InferenceRow),
                [
                    {
                        "at": NOW, "model_version": "m1", "audio_sha256": request.rjust(64, "0"), "duration": 1.0,
                        "latency": 0.2, "request_id": request, "role": "champion", "canary": canary.entry,
                    }
                    for request in requests
                ],
            )  # fmt: skip
        scores = np.clip(self.random.normal(0.3, 0.1, count), 0, 1)
        log_pairs(
            self.engine,
            [
                ShadowPair(
                    request_id=request, at=NOW, canary=canary.entry, served=f"{NAME}/1", shadow=f"{NAME}/2",
                    errors=errors, words=5, served_score=score,
                    shadow_score=min(1.0, max(0.0, score + lost + self.random.normal(0, 0.05))), comparable=comparable,
                )
                for request, score in zip(requests, scores.tolist(), strict=True)
            ],
        )  # fmt: skip

    def stop(self, entry: int, reason: str) -> bool:
        if self.refusal:
            raise self.refusal
        done = stop(self.ledger, reason=reason, entry=entry) is not None
        if self.killed:
            raise KeyboardInterrupt
        return done

    def roll_back(self, report: GuardReport, reason: str) -> None:
        if self.refusal:
            raise self.refusal
        assert report.former and report.version
        self.deploy(report.former, report.version, "rollback", reason)

    def look(self, roll_back: bool = False, **rules: Any) -> Guarded:
        params = Params.model_validate({"deploy": rules.pop("deploy", {}), "monitor": rules})
        return guard(
            self.engine, NAME, params, self.folder, roll_back=roll_back, moves=lambda: self, now=NOW,
        )  # type: ignore[arg-type]  # fmt: skip

    def actions(self) -> list[str]:
        return [entry.action for entry in self.ledger.entries()]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    """Version 1 is champion, version 2 challenger."""
    made = Service(tmp_path)
    made.deploy(1, None)
    return made


@pytest.fixture
def deployed(service: Service) -> Service:
    """Version 2 was deployed over version 1, which had heard a thousand recordings."""
    service.heard("m1", 1000)
    service.deploy(2, 1)
    return service


def worse_in(report: GuardReport) -> list[str]:
    return [one.metric for one in report.comparisons if one.worse]


@pytest.mark.parametrize(
    ("planted", "proven"),
    [
        ({"answered": {"score": 0.6}}, ["error score"]),
        ({"answered": {"work": 0.5}}, ["latency"]),
        ({"shadowed": {"lost": 0.4}}, ["shadow error score"]),
        ({"shadowed": {"errors": 5}}, ["shadow disagreement"]),
        ({"shadowed": {"lost": 0.4, "comparable": False}}, []),
        ({}, []),
    ],
)
def test_a_planted_worsening_of_the_challenger_is_found_and_stopped(
    service: Service, planted: dict[str, dict[str, Any]], proven: list[str]
) -> None:
    canary = service.canary()
    service.answered(canary, 240, **planted.get("answered", {}))
    service.shadowed(canary, 120, **planted.get("shadowed", {}))
    found = service.look().canary
    assert worse_in(found) == proven and found.worse == bool(proven)
    if proven:
        assert found.decision == "stopped" and proven[0] in found.text and running(service.ledger) is None
        last = service.ledger.entries()[-1]
        assert (last.action, last.version, last.details["started"]) == ("canary stop", 2, canary.entry)
        assert last.reason.startswith("guard: Version 2 is worse than version 1: ")
    else:
        assert found.decision == "fine" and running(service.ledger) == canary


def test_one_bad_caller_is_no_proof_however_often_it_calls(service: Service) -> None:
    canary = service.canary(share=0.5, shadow=0)
    service.answered(canary, 2000, score=0.9, callers=1)
    assert service.look().canary.decision == "too few"
    service.answered(canary, 2000, score=0.9, callers=30)
    assert service.look().canary.decision == "stopped"


def test_a_few_answers_are_too_few_to_say_that_all_is_well(service: Service) -> None:
    canary = service.canary(share=0.5, shadow=0)
    service.answered(canary, 8)
    found = service.look().canary
    assert found.decision == "too few" and found.comparisons and "too few to say whether it is worse" in found.text
    service.answered(canary, 240)
    assert service.look().canary.decision == "fine"


def test_answers_outside_the_canary_do_not_count_and_a_new_one_begins_anew(service: Service) -> None:
    former = service.canary()
    service.answered(former, 400, score=0.9)
    canary = service.canary(share=0.2)
    service.heard("m1", 300, role="champion")  # while the challenger could not be loaded
    service.heard("m2", 300, 0.9)
    found = service.look().canary
    assert (found.decision, found.inferences, found.comparisons) == ("too few", 0, ())
    assert running(service.ledger) == canary


def test_scores_of_which_one_is_not_calibrated_do_not_compare(service: Service) -> None:
    canary = service.canary(shadow=0)
    service.heard("m1", 200, role="champion", canary=canary.entry, prefix="a")
    service.heard("m2", 200, 0.9, role="canary", canary=canary.entry, prefix="b", judged=False)
    found = service.look().canary
    assert [one.metric for one in found.comparisons] == ["latency"] and "do not compare" in found.text


def test_a_canary_is_over_when_one_of_its_versions_moves(service: Service) -> None:
    service.answered(service.canary(), 400, score=0.9)
    service.deploy(3, 1)
    found = service.look().canary
    assert (found.decision, running(service.ledger)) == ("nothing to guard", None)
    assert "version 1 is not @champion any more" in found.text and "error score" in worse_in(found)


def test_a_look_alone_stops_nothing(service: Service) -> None:
    canary = service.canary()
    service.answered(canary, 400, score=0.9)
    assert look_at_canary(service.ledger, Params())[1].decision == "worse"
    assert running(service.ledger) == canary


@contextmanager
def webhook() -> Iterator[Any]:
    with listening(OK) as server:
        yield server


def test_it_is_done_and_told_once_however_often_it_looks(service: Service) -> None:
    service.answered(service.canary(), 400, score=0.9)
    with webhook() as server:
        decisions = [service.look(webhook=server.url, cooldown_hours=0).canary.decision for _ in range(3)]
    assert decisions == ["stopped", "nothing to guard", "nothing to guard"]
    assert service.actions().count("canary stop") == 1
    (body,) = [json.loads(body) for _, body in server.requests]
    assert body["alerts"][0]["metric"].startswith("canary of version 2, ledger entry ")
    assert "The canary is stopped. Version 2 is worse than version 1" in body["text"]


def test_killed_between_the_stop_and_the_alert_it_alerts_at_the_next_look(service: Service) -> None:
    service.answered(service.canary(), 400, score=0.9)
    service.killed = True
    with webhook() as server:
        with pytest.raises(KeyboardInterrupt):
            service.look(webhook=server.url)
        assert not server.requests and running(service.ledger) is None
        service.killed = False
        for _ in range(2):
            assert service.look(webhook=server.url, cooldown_hours=0).canary.decision == "nothing to guard"
    assert len(server.requests) == 1 and service.actions().count("canary stop") == 1


def test_every_alert_of_the_week_that_the_webhook_missed_is_sent_whatever_was_moved_since(service: Service) -> None:
    for _ in range(3):
        service.answered(service.canary(), 400, score=0.9)
        service.killed = True
        with pytest.raises(KeyboardInterrupt):
            service.look()
    service.killed = False
    with transaction(service.engine) as session:
        stops = select(DeploymentRow).where(DeploymentRow.action == "canary stop").order_by(DeploymentRow.id)
        session.scalars(stops).all()[0].at -= timedelta(days=8)
    held = {"champion": 1, "challenger": 2}
    service.ledger.note(
        "put back", 1, details={"before": held, "after": held, "promoted": 3}, reason="It was put back."
    )
    service.canary()
    stop(service.ledger, reason="lunch")
    with webhook() as server:
        for _ in range(2):
            service.look(webhook=server.url, cooldown_hours=0)
    (body,) = [json.loads(body) for _, body in server.requests]
    told = [alert["metric"].partition(", ledger entry ")[0] for alert in body["alerts"]]
    assert told == ["canary of version 2", "canary of version 2", "promotion by hand of version 3"]


def test_somebody_elses_stop_is_not_announced(service: Service) -> None:
    service.canary()
    stop(service.ledger, reason="lunch")
    with webhook() as server:
        service.look(webhook=server.url)
    assert not server.requests


def test_what_is_refused_is_alerted_all_the_same(deployed: Service) -> None:
    deployed.heard("m2", 400, score=0.6)
    deployed.refusal = RegistryError("Version 1 cannot be served.", "")
    with webhook() as server, pytest.raises(RegistryError):
        deployed.look(roll_back=True, webhook=server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("heard", "proven"), [({"score": 0.6}, ["error score"]), ({}, []), ({"score": 0.6, "judged": False}, [])]
)
def test_a_new_champion_is_taken_back_when_it_is_worse_and_that_is_allowed(
    deployed: Service, heard: dict[str, Any], proven: list[str]
) -> None:
    deployed.heard("m2", 400, **heard)
    found = deployed.look().deployment
    assert (worse_in(found), found.version, found.former) == (proven, 2, 1)
    assert found.decision == ("worse" if proven else "fine") and "rollback" not in deployed.actions()
    found = deployed.look(roll_back=True).deployment
    assert found.decision == ("rolled back" if proven else "fine")
    if proven:
        assert deployed.ledger.entries()[-1].reason.startswith("guard: Version 2 is worse")
        assert deployed.look(roll_back=True).deployment.decision == "nothing to guard"


def test_a_deployment_that_is_only_slower_is_told_and_stays(deployed: Service) -> None:
    deployed.heard("m2", 400, work=0.5)
    with webhook() as server:
        found = deployed.look(roll_back=True, webhook=server.url).deployment
    assert (worse_in(found), found.decision) == (["latency"], "worse") and "rollback" not in deployed.actions()
    assert "work alone takes no deployment back" in found.text and len(server.requests) == 1
    deployed.heard("m2", 400, score=0.6, work=0.5, prefix="b")
    assert deployed.look(roll_back=True).deployment.decision == "rolled back"


def test_more_traffic_is_no_slower_model(deployed: Service) -> None:
    deployed.heard("m2", 400, work=0.5, batch=8)  # halves that are heard at once are charged the same seconds each
    found = deployed.look().deployment
    assert found.decision == "fine" and [one.metric for one in found.comparisons] == ["error score"]
    assert "no recording is known to have been heard alone" in found.text
    deployed.heard("m2", 400, prefix="b")
    found = deployed.look().deployment
    assert found.decision == "fine" and [one.metric for one in found.comparisons] == ["error score", "latency"]


def test_a_challenger_heard_alone_does_not_hide_that_it_is_slower(service: Service) -> None:
    canary = service.canary(share=0.5, shadow=0)
    for part in range(8):
        service.heard("m1", 100, work=0.6, batch=8, role="champion", prefix=f"a{part}", canary=canary.entry)
        service.heard("m1", 25, role="champion", prefix=f"b{part}", canary=canary.entry)
        service.heard("m2", 50, work=0.5, role="canary", prefix=f"c{part}", canary=canary.entry)
    found = service.look().canary
    assert (worse_in(found), found.decision) == (["latency"], "stopped")


def test_answers_by_another_list_than_the_versions_own_are_the_versions(service: Service) -> None:
    service.heard("m1 and serve.phrases", 1000, score=0.1, served=f"{NAME}/1")
    service.deploy(2, 1)
    service.heard("m2", 400, score=0.1, served="another/2")
    assert service.look().deployment.inferences == 0
    service.heard("m2 and serve.phrases", 400, score=0.9, served=f"{NAME}/2")
    found = service.look(roll_back=True).deployment
    assert (found.decision, found.inferences) == ("rolled back", 400)


@pytest.mark.parametrize("served", [None, f"{NAME}/1"])
def test_only_the_newest_of_a_former_champion_are_read(
    service: Service, monkeypatch: pytest.MonkeyPatch, served: str | None
) -> None:
    monkeypatch.setattr("mondegreen.monitoring.comparing._MOST", 300)
    service.heard("m1", 1000, score=0.9, work=0.9, served=served)
    service.heard("m1", 300, prefix="b", served=served)
    service.deploy(2, 1)
    service.heard("m2", 200, score=0.3, prefix="c")
    found = service.look().deployment
    assert [one.before for one in found.comparisons] == pytest.approx([0.2, 0.2], abs=0.02)
    assert "error score" in worse_in(found)


def test_a_champion_that_was_promoted_by_hand_is_taken_back_too(service: Service) -> None:
    service.heard("m1", 1000)
    service.deploy(2, 1, action="by hand")
    service.heard("m2", 400, score=0.6)
    tried = {"before": {"champion": 3}, "after": {"champion": 2, "challenger": 2}, "promoted": 3}
    service.ledger.note("put back", 2, details=tried)  # which leaves the champion what it is
    assert service.look(roll_back=True).deployment.decision == "rolled back"


def test_margins_are_what_may_be_lost(deployed: Service) -> None:
    deployed.heard("m2", 400, score=0.5, work=0.3)
    wide = {"guard_error_margin": 0.4, "guard_latency_margin": 0.9}
    assert deployed.look(deploy=wide).deployment.decision == "fine"
    found = deployed.look().deployment
    (scores,) = [one for one in found.comparisons if one.metric == "error score"]
    assert found.decision == "worse" and 0.02 < scores.lower_bound < scores.lost == pytest.approx(0.3, abs=0.03)


def test_only_the_last_deployment_is_guarded(deployed: Service) -> None:
    assert deployed.look().deployment.decision == "too few"
    deployed.heard("m2", 400, score=0.9)
    deployed.deploy(1, 2, action="rollback")
    assert deployed.look().deployment.decision == "nothing to guard"
    another = guard(deployed.engine, "another", Params(), deployed.folder, roll_back=False)
    assert another.canary.decision == another.deployment.decision == "nothing to guard"


def test_watch_takes_nothing_back_unless_it_is_allowed_and_always_stops_a_canary(
    deployed: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.heard("m2", 400, score=0.9)
    monkeypatch.setattr("mondegreen.monitoring.guard.Moves", lambda *_: deployed)
    assert watch_guard(deployed.engine, Params(), deployed.folder) == "" and "rollback" not in deployed.actions()
    on = Params(deploy=DeployParams(auto_rollback=True))
    assert watch_guard(deployed.engine, on, deployed.folder).startswith("Rolled back to version 1.")
    deployed.answered(deployed.canary(), 400, score=0.9)
    assert watch_guard(deployed.engine, Params(), deployed.folder).startswith("The canary is stopped.")
