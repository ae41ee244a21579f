"""The guard: when the new champion is called worse, when not, and what is done then."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert

from mondegreen.config import DeployParams, Params
from mondegreen.db import open_database, transaction
from mondegreen.errors import RegistryError
from mondegreen.monitoring.canary import CanaryReport, act_on_canary, check_canary, watch_canary
from mondegreen.registry.ledger import Ledger
from mondegreen.tables import InferenceRow
from tests.monitoring.inferences import NOW
from tests.monitoring.listener import OK, listening

NAME = "fine-tuned-stt"
RULES = DeployParams(guard_min_inferences=200)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Service:
    """A database with a deployment of version 2 over 1, and what both heard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = open_database(folder)
        self.ledger = Ledger(self.engine, NAME)
        self.random = np.random.default_rng(0)

    def heard(self, model: str, count: int, errors: float = 0.1, work: float = 0.2, judged: bool = True) -> None:
        """Inferences of a model, spread as a service's are; the clock of later ones is behind."""
        wrong = self.random.random(count) < errors
        lengths = self.random.gamma(4, 1, count) + 0.5
        latency = lengths * work * self.random.gamma(9, 1 / 9, count)
        rows = [
            {
                "at": NOW - timedelta(seconds=index), "model_version": model, "audio_sha256": f"{index:064x}",
                "duration": float(lengths[index]), "latency": float(latency[index]), "confidence": 0.5,
                "error_score": 0.5, "is_error": bool(wrong[index]) if judged else None, "case_id": None,
            }
            for index in range(count)
        ]  # fmt: skip
        with transaction(self.engine) as session:
            session.execute(insert(InferenceRow), rows)

    def deploy(self, version: int, former: int | None, action: str = "deploy") -> None:
        before = {"champion": former} if former else {}
        details = {"before": before, "after": {"champion": version}, "inferences": self.ledger.last_inference()}
        details["former_digest"] = f"m{former}"
        self.ledger.note(action, version, former=former, digest=f"m{version}", details=details)

    def look(self, rules: DeployParams = RULES) -> CanaryReport:
        return check_canary(self.engine, NAME, rules, self.folder / "detector")


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service(tmp_path)
    made.deploy(1, None)
    made.heard("m1", 1000)
    made.deploy(2, 1)
    return made


def test_a_new_champion_with_more_errors_is_worse(service: Service) -> None:
    service.heard("m2", 400, errors=0.3)
    found = service.look()
    assert (found.decision, found.version, found.former, found.look) == ("worse", 2, 1, 1)
    errors, latency = found.comparisons
    assert errors.worse and not latency.worse and errors.lower_bound > 0.02
    assert "error rate" in found.text and "worse than version 1" in found.text


def test_a_slower_one_is_worse_by_work_for_a_second_of_audio(service: Service) -> None:
    service.heard("m2", 250, work=0.4)
    found = service.look()
    assert found.decision == "worse" and [c.metric for c in found.comparisons if c.worse] == ["latency"]
    assert found.comparisons[1].difference == pytest.approx(1.0, abs=0.15)


def test_one_as_good_is_fine_and_so_is_a_loss_within_the_margin(service: Service) -> None:
    service.heard("m2", 400)
    assert service.look().decision == "fine"
    service.deploy(3, 2)
    service.heard("m3", 400, errors=0.25, work=0.3)
    wide = DeployParams(guard_error_margin=0.3, guard_latency_margin=0.9)
    assert service.look(wide).decision == "fine" and service.look().decision == "worse"


def test_with_too_few_nothing_is_said(service: Service) -> None:
    service.heard("m2", 199, errors=1.0)
    found = service.look()
    assert found.decision == "too few" and "199 inferences" in found.text and "200 of each" in found.text


def test_a_detector_that_knows_only_one_of_the_two_says_nothing_of_errors(service: Service) -> None:
    service.heard("m2", 400, errors=0.5)
    (service.folder / "detector").mkdir()
    (service.folder / "detector" / "m2.json").write_text("{}")
    found = service.look()
    assert found.decision == "fine" and [c.metric for c in found.comparisons] == ["latency"]
    assert "do not compare" in found.text


def test_inferences_that_no_detector_judged_do_not_count_as_right(service: Service) -> None:
    service.heard("m2", 400, judged=False)
    assert [c.metric for c in service.look().comparisons] == ["latency"]


def test_only_the_last_deployment_is_guarded(service: Service) -> None:
    service.heard("m2", 400, errors=0.9)
    service.deploy(1, 2, action="rollback")
    assert service.look().decision == "nothing to guard"
    assert check_canary(service.engine, "another", RULES, service.folder).decision == "nothing to guard"


def test_looking_often_does_not_look_more_often(service: Service) -> None:
    """Between two looks nothing new is tested, however many inferences came; each look is on a fixed number."""
    service.heard("m2", 250)
    first = service.look()
    service.heard("m2", 140, errors=1.0)
    assert service.look() == first
    service.heard("m2", 10, errors=1.0)
    assert service.look().look == 1 and service.look().decision == "worse"


def test_equal_models_are_rarely_called_worse_over_all_looks(tmp_path: Path) -> None:
    """With no margin at all, and a look at every doubling, under 5 % + 3 standard errors of 200 services."""
    from mondegreen.monitoring.canary import _error_rate, _latency

    random = np.random.default_rng(7)
    alarms, services = 0, 200
    for _ in range(services):
        old, new = _same(random, 2000), _same(random, 1600)
        called = False
        for look in range(4):
            part, level = new[: 200 * 2**look], 1 - 0.05 / 2 ** (look + 1) / 2
            rates = _error_rate(old, part, 0.0, level, 200)
            called |= bool(rates and rates.worse) or _latency(old, part, 0.0, level).worse
        alarms += called
    assert alarms / services < 0.05 + 3 * (0.05 * 0.95 / services) ** 0.5


def _same(random: np.random.Generator, count: int) -> np.ndarray:
    lengths = random.gamma(4, 1, count) + 0.5
    return np.stack([lengths * random.gamma(9, 1 / 45, count), lengths, random.random(count) < 0.15], axis=1)


def test_what_is_worse_is_rolled_back_and_people_are_told_once(service: Service) -> None:
    service.heard("m2", 400, errors=0.3)
    asked: list[tuple[int | None, int | None, str]] = []

    def roll_back(found: CanaryReport, reason: str) -> None:
        asked.append((found.former, found.version, reason))
        service.deploy(1, 2, action="rollback")

    with listening(OK) as server:
        params = Params.model_validate({"monitor": {"webhook": server.url}, "deploy": {"guard_min_inferences": 200}})
        for act in (False, True, True):
            found = act_on_canary(service.engine, NAME, params, service.folder, act=act, roll_back=roll_back)
            if act is False:
                assert found.decision == "worse" and not asked
    assert [(former, version) for former, version, _ in asked] == [(1, 2)] and "auto-rollback" in asked[0][2]
    assert found.decision == "nothing to guard"
    bodies: Sequence[bytes] = [body for _, body in server.requests]
    assert len(bodies) == 1 and b"version 2 is worse than version 1" in bodies[0].replace(b"Version", b"version")


def test_a_rollback_that_is_refused_is_alerted_all_the_same(service: Service) -> None:
    service.heard("m2", 400, errors=0.3)

    def refuse(found: CanaryReport, reason: str) -> None:
        raise RegistryError("Version 1 cannot be served.", "")

    with listening(OK) as server:
        params = Params.model_validate({"monitor": {"webhook": server.url}, "deploy": {"guard_min_inferences": 200}})
        with pytest.raises(RegistryError):
            act_on_canary(service.engine, NAME, params, service.folder, act=True, roll_back=refuse)
    assert len(server.requests) == 1


def test_watch_leaves_it_alone_unless_it_is_switched_on(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.heard("m2", 400, errors=0.3)
    done: list[str] = []

    def rollback(*arguments: object) -> object:
        return lambda found, reason: done.append(reason)

    monkeypatch.setattr("mondegreen.monitoring.canary._rollback", rollback)
    assert watch_canary(service.engine, Params(), service.folder) == "" and not done
    on = Params.model_validate({"deploy": {"auto_rollback": True}})
    assert watch_canary(service.engine, on, service.folder).startswith("Rolled back to version 1.") and len(done) == 1
