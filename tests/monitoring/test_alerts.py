"""Alerts: when they fire, and that they arrive, once."""

import json
import logging
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, select, update

from mondegreen.config import MonitorParams
from mondegreen.db import open_database, reading, transaction
from mondegreen.monitoring.alerts import _NEXT_STEPS, Webhook, check_thresholds, notify, sentence, signature
from mondegreen.monitoring.drift import error_rate_drift
from mondegreen.monitoring.records import Check, Drift, Percentiles
from mondegreen.tables import AlertRow
from tests.monitoring.inferences import NOW, empty_statistics
from tests.monitoring.listener import CUT_SHORT, HANG, OK, SILENT_CLOSE, listening, status
from tests.support.ports import closed_port

HOUR = timedelta(hours=1)
UNMEASURED = Drift(
    model_version=None, reference=None, confidence=None, confidence_reason="no", error_rate=None, error_rate_reason="no"
)


@pytest.fixture(autouse=True)
def local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MONDEGREEN_DATABASE_URL", raising=False)
    monkeypatch.delenv("MONDEGREEN_WEBHOOK_SECRET", raising=False)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(tmp_path)


def hook(url: str, **changes: Any) -> Webhook:
    return Webhook(url, **({"timeout": 0.3, "backoff": 0.02} | changes))


def alert(metric: str = "error_rate") -> Check:
    return Check(
        metric=metric, status="alert", value=0.5, threshold=0.3, window="24h", detail="50.0 % of 200 were misheard",
        next_step="Do this.",
    )  # fmt: skip


def checks(drift: Drift = UNMEASURED, params: MonitorParams | None = None, **numbers: Any) -> dict[str, Check]:
    found = check_thresholds(empty_statistics(**numbers), drift, params or MonitorParams(), "24h")
    return {check.metric: check for check in found}


@pytest.mark.parametrize(("rate", "expected"), [(0.29, "ok"), (0.3, "ok"), (0.31, "alert")])
def test_a_rate_over_the_threshold_is_an_alert(rate: float, expected: str) -> None:
    found = checks(count=200, measured=200, errors=round(200 * rate), error_detection_rate=rate)["error_rate"]
    assert found.status == expected and found.threshold == 0.3 and found.window == "24h"
    assert bool(found.next_step) == (expected == "alert")


def test_every_threshold_has_its_alert_which_says_what_to_do() -> None:
    drift = UNMEASURED.model_copy(update={"error_rate": error_rate_drift((10, 200), (80, 200))})
    found = checks(
        drift, MonitorParams(min_confidence=0.6), count=200, measured=200, errors=80, error_detection_rate=0.4,
        mean_confidence=0.5, latency=Percentiles(p50=1, p95=11, p99=20),
    )  # fmt: skip
    fired = [name for name, check in found.items() if check.status == "alert"]
    assert fired == ["error_rate", "latency_p95", "confidence", "error_rate_rise"]
    for name in fired:
        text = sentence(found[name])
        assert text.startswith(f"{name} over 24h: ") and f"{found[name].threshold:g}" in text
        assert len(found[name].next_step) > 20
    assert "11.00 s" in found["latency_p95"].detail


def test_too_few_inferences_are_neither_good_nor_bad() -> None:
    found = checks(
        count=99, measured=99, errors=99, error_detection_rate=1.0, mean_confidence=0.0,
        latency=Percentiles(p50=99, p95=99, p99=99),
    )  # fmt: skip
    assert found.pop("confidence").status == "off"  # no threshold is set, however much was heard
    assert {check.status for check in found.values()} == {"not measured"}
    assert "99 of the 100" in found["error_rate"].detail and found["error_rate"].value is None


def test_a_rise_that_may_be_chance_is_no_alert() -> None:
    drift = UNMEASURED.model_copy(update={"error_rate": error_rate_drift((2, 10), (5, 12))})
    assert checks(drift)["error_rate_rise"].status == "ok"


def test_the_server_gets_what_was_signed() -> None:
    with listening(OK) as server:
        assert hook(server.url, secret="s3cret").post({"text": "Größe"}) == ""
    (headers, body), *rest = server.requests
    assert not rest and json.loads(body) == {"text": "Größe"} and headers["Content-Type"] == "application/json"
    assert headers["X-Mondegreen-Signature"] == signature("s3cret", headers["X-Mondegreen-Timestamp"], body)
    assert abs(time.time() - int(headers["X-Mondegreen-Timestamp"])) < 5
    assert signature("s3cret", "1", b"{}") != signature("s3cret", "2", b"{}")


def test_the_signature_is_the_known_answer() -> None:
    # printf '1795449600.{"a": 1}' | openssl dgst -sha256 -hmac key
    assert signature("key", "1795449600", b'{"a": 1}') == (
        "sha256=80424be39d1bb4c2802ea5a9c22a9bf07067be1a05261e24e611d89391ad73c5"
    )


def test_without_a_secret_nothing_pretends_to_be_signed() -> None:
    with listening(OK) as server:
        hook(server.url).post({})
    assert not any(name.startswith(("X-Mondegreen-S", "X-Mondegreen-T")) for name in server.requests[0][0])


def test_a_server_that_fails_twice_gets_it_the_third_time_as_one_delivery() -> None:
    with listening(status(500), status(503), OK) as server:
        assert hook(server.url, backoff=0.1).post({}) == ""
    assert len(server.requests) == 3 and len({headers["X-Mondegreen-Delivery"] for headers, _ in server.requests}) == 1
    waits = [server.times[1] - server.times[0], server.times[2] - server.times[1]]
    assert waits[0] >= 0.1 and waits[1] >= 0.2


@pytest.mark.parametrize(
    ("answer", "tries", "problem"),
    [
        (status(500), 3, "answered 500, 3 tries"),
        (status(404), 1, "answered 404"),
        (status(429), 1, "answered 429"),
        (status(302, "Location: http://127.0.0.1:1/\r\n"), 1, "answered 302"),
        (HANG, 3, "did not answer within 0.3 s, 3 tries"),
        (CUT_SHORT, 3, "broke off"),
        (SILENT_CLOSE, 3, "broke off"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 3, "broke off"),
    ],
)
def test_what_the_server_does_wrong_is_reported_and_never_raised(answer: bytes, tries: int, problem: str) -> None:
    with listening(answer) as server:
        said = hook(server.url).post({})
    assert problem in said and len(server.requests) == tries
    assert "SECRET" not in said and "hooks" not in said


def test_a_server_that_refuses_or_does_not_exist_is_reported() -> None:
    assert "cannot be reached" in hook(f"http://127.0.0.1:{closed_port()}/SECRET").post({})
    assert "cannot be" in hook("http://no-such-host.invalid/SECRET").post({})
    assert "cannot be" in hook("http://[broken/SECRET").post({})
    assert "SECRET" not in hook("nothing://a/SECRET").post({})


def test_a_long_answer_is_not_read_for_ever() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 2_000_000
    with listening(endless) as server:
        assert hook(server.url).post({}) == ""


def test_an_alert_is_sent_once_until_it_has_cooled_down(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with listening(OK) as server:
        params = MonitorParams(webhook=server.url, cooldown_hours=6)
        first = notify(engine, [alert()], params, NOW)
        again = notify(engine, [alert(), alert("drift")], params, NOW + HOUR)
        later = notify(engine, [alert()], params, NOW + 6 * HOUR)
    assert first is not None and again is not None and later is not None
    assert (first.sent, again.sent, again.cooling_down, later.sent) == (
        ["error_rate"], ["drift"], ["error_rate"], ["error_rate"],
    )  # fmt: skip
    bodies = [json.loads(body) for _, body in server.requests]
    assert [[sent["metric"] for sent in body["alerts"]] for body in bodies] == [
        ["error_rate"],
        ["drift"],
        ["error_rate"],
    ]
    assert {"metric", "value", "threshold", "window", "detail", "next_step"} <= bodies[0]["alerts"][0].keys()
    # Whoever is woken by it knows where to look.
    assert (bodies[0]["host"], bodies[0]["project"]) == (socket.gethostname(), str(Path.cwd()))
    assert bodies[0]["text"].endswith(f"In {Path.cwd()} on {socket.gethostname()}.")
    # The log has them all.
    assert len([entry for entry in caplog.records if entry.levelno == logging.WARNING]) == 4


def test_the_cool_down_outlives_the_process(tmp_path: Path) -> None:
    with listening(OK) as server:
        params = MonitorParams(webhook=server.url)
        notify(open_database(tmp_path), [alert()], params, NOW)
        found = notify(open_database(tmp_path), [alert()], params, NOW + HOUR)
    assert found is not None and found.cooling_down == ["error_rate"] and len(server.requests) == 1


def test_what_did_not_arrive_is_due_again_at_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with listening(status(403), OK) as server:
        params = MonitorParams(webhook=server.url)
        failed = notify(engine, [alert()], params, NOW)
        again = notify(engine, [alert()], params, NOW + timedelta(seconds=1))
    assert failed is not None and failed.sent == [] and "403" in failed.problem
    assert "did not get the alerts" in caplog.text and "SECRET" not in caplog.text
    assert again is not None and again.sent == ["error_rate"]


def test_a_sender_that_died_holds_an_alert_up_for_minutes_only(engine: Engine) -> None:
    with listening(OK) as server:
        params = MonitorParams(webhook=server.url)
        notify(engine, [alert()], params, NOW)
        with transaction(engine) as session:  # as kill -9 between claim and answer leaves it
            session.execute(update(AlertRow).values(delivered=None))
        soon = notify(engine, [alert()], params, NOW + timedelta(minutes=1))
        later = notify(engine, [alert()], params, NOW + timedelta(minutes=11))
    assert soon is not None and soon.cooling_down == ["error_rate"]
    assert later is not None and later.sent == ["error_rate"]


def test_a_clock_moved_back_silences_nothing(engine: Engine) -> None:
    with listening(OK) as server:
        params = MonitorParams(webhook=server.url)
        notify(engine, [alert()], params, NOW + 1000 * HOUR)
        found = notify(engine, [alert()], params, NOW)
        again = notify(engine, [alert()], params, NOW + HOUR)
    assert found is not None and found.sent == ["error_rate"]
    assert again is not None and again.cooling_down == ["error_rate"]


def test_without_alerts_or_webhook_nothing_is_sent(engine: Engine) -> None:
    assert notify(engine, [], MonitorParams(webhook="http://127.0.0.1:1/"), NOW) is None
    assert notify(engine, [alert()], MonitorParams(), NOW) is None
    with reading(engine) as session:
        assert session.scalars(select(AlertRow)).all() == []


@pytest.mark.parametrize("url", ["ftp://a/b", "hooks.example.org", ""])
def test_a_webhook_is_a_web_address(url: str) -> None:
    with pytest.raises(ValidationError):
        MonitorParams(webhook=url)


def test_the_receivers_check_of_the_how_to_accepts_what_is_sent() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    snippet = next(block for block in page.split("```python\n") if "def is_genuine" in block).split("```")[0]
    names: dict[str, Any] = {}
    exec(snippet, names)
    with listening(OK) as server:
        hook(server.url, secret="s3cret").post({"text": "hello"})
    headers, body = server.requests[0]
    assert names["is_genuine"]("s3cret", headers, body)
    assert not names["is_genuine"]("other", headers, body)
    assert not names["is_genuine"]("s3cret", headers, body + b" ")
    assert not names["is_genuine"]("s3cret", headers | {"X-Mondegreen-Timestamp": "1"}, body)


@pytest.mark.parametrize("metric", ["production_wer", "error_rate_rise"])
def test_what_a_new_version_may_have_brought_names_the_way_back(metric: str) -> None:
    step = _NEXT_STEPS[metric]
    assert "`mondegreen models history`" in step and "`mondegreen models rollback`" in step
