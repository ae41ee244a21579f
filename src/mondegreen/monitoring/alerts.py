"""Thresholds of params.yaml against what was found, and telling people once: in the log, and by a signed webhook."""

import hashlib
import hmac
import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from sqlalchemy import Engine, select, update
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from mondegreen.config import AuditParams, MonitorParams, Seconds
from mondegreen.db import transaction
from mondegreen.monitoring.drift import measure_drift
from mondegreen.monitoring.production import production_wer
from mondegreen.monitoring.records import Check, CheckStatus, Delivery, Drift, InferenceStatistics, ProductionReport
from mondegreen.monitoring.statistics import window_statistics
from mondegreen.scoring.normalizer import NormalizerName
from mondegreen.scoring.wording import percent, points, span
from mondegreen.tables import AlertRow

logger = logging.getLogger(__name__)
_LONGEST_ANSWER = 65_536  # bytes; more than that nobody needs
_CLAIM = timedelta(minutes=10)  # longer than any delivery takes: after that whoever claimed the alert has died
NOT_CALIBRATED = (
    "without a calibration say no share (`mondegreen detector calibrate`, with --candidate for the fine-tuned model)"
)
_NEXT_STEPS = {
    "production_wer": "Compare the weeks (`mondegreen monitor --html`) with the moves (`mondegreen models history`): "
    "when a new version brought it, `mondegreen models rollback`; else correct recent cases and run a round.",
    "error_rate": "Look at what is misheard (`mondegreen cases stats`), correct it, and see whether a round is due "
    "(`mondegreen check`).",
    "latency_p95": "See what else runs on the machine and how long the recordings are; a smaller transcribe.beam_width "
    "or nbest is faster.",
    "confidence": "Listen to a few recent recordings: noise, another microphone or other speakers lower it first.",
    "drift": "Compare recent recordings with those of the first week; when the world has changed, correct recent cases "
    "and run a round.",
    "error_rate_rise": "Find since when (`mondegreen monitor --html`), correct recent cases; when the rise came with a "
    "new model (`mondegreen models history`), `mondegreen models rollback`.",
}


def measure(
    engine: Engine,
    window: timedelta,
    params: MonitorParams,
    audit: AuditParams,
    normalizer: NormalizerName,
    now: datetime,
) -> tuple[InferenceStatistics, Drift, ProductionReport, list[Check]]:
    """What the checks are of, and the checks, of the window that ends now; tells nobody of them.

    The WER in production is that of the window or of audit.window_days, whichever is longer.
    """
    found = window_statistics(engine, now - window, now)
    drift = measure_drift(engine, now - window, now, params.min_inferences)
    production = production_wer(engine, audit, normalizer, window, now)
    checks = check_production(production, window_name(production.total.until - production.total.since))
    return found, drift, production, checks + check_thresholds(found, drift, params, window_name(window))


def check_thresholds(statistics: InferenceStatistics, drift: Drift, params: MonitorParams, window: str) -> list[Check]:
    """One check a threshold. With fewer than `min_inferences` it is not measured, which is neither good nor bad.

    Args:
        statistics: of the window.
        drift: of the window.
        params: thresholds.
        window: its name in messages, see `window_name`.
    """
    found = []
    for metric, value, threshold, fires, detail in (*_of_traffic(statistics, params), *_of_drift(drift, params)):
        status: CheckStatus = "not measured" if value is None else "alert" if fires else "ok"
        if metric == "confidence" and not threshold:  # nothing can be below it
            status, detail = "off", f"{detail}; monitor.min_confidence sets no threshold"
        found.append(
            Check(
                metric=metric,
                status=status,
                value=value,
                threshold=threshold,
                window=window,
                detail=detail,
                next_step=_NEXT_STEPS[metric] if status == "alert" else "",
            )
        )
    return found


def check_production(found: ProductionReport, window: str) -> list[Check]:
    """Fires when the whole interval lies above audit.max_wer: of the version that answers now, or nobody's.

    What a version before it got wrong is no news of it: as long as too little of it was heard, nothing is measured.
    """
    if found.max_wer is None:
        return []
    present = found.versions[-1] if found.versions else found.total
    wer = present.wer
    status: CheckStatus = "not measured" if wer is None else "alert" if wer.interval.low > found.max_wer else "ok"
    if wer is None:
        detail = f"{present.label}: {present.reason}"
    else:
        interval = f"{percent(wer.interval.low)} to {percent(wer.interval.high)}"
        detail = f"{percent(wer.value)} (95 % interval {interval}), {present.label}"
    check = Check(
        metric="production_wer",
        status=status,
        value=wer.value if wer else None,
        threshold=found.max_wer,
        window=window,
        detail=detail,
        next_step=_NEXT_STEPS["production_wer"] if status == "alert" else "",
    )
    return [check]


def window_name(window: timedelta) -> str:
    """90 minutes as "90m", a day as "24h", ten days as "10d"."""
    for letter, unit, least in (("d", timedelta(days=1), 2), ("h", timedelta(hours=1), 1)):
        if window >= least * unit and not window % unit:
            return f"{window // unit}{letter}"
    return f"{window / timedelta(minutes=1):g}m"


# Metric, value (None: not measured), threshold, whether it fires, and both in words.
_Compared = tuple[str, float | None, float, bool, str]


def _of_traffic(found: InferenceStatistics, params: MonitorParams) -> Iterator[_Compared]:
    few = f"{{}} of the {params.min_inferences} inferences that it needs"
    enough = found.count >= params.min_inferences
    rate = found.error_detection_rate if found.measured >= params.min_inferences else None
    said = few.format(found.measured) if rate is None else f"{percent(rate)} of {found.measured:,} look misheard"
    said += f"; {found.uncalibrated:,} more {NOT_CALIBRATED}" if found.uncalibrated else ""
    yield "error_rate", rate, params.max_error_rate, rate is not None and rate > params.max_error_rate, said
    p95 = found.latency.p95 if found.latency and enough else None
    said = few.format(found.count) if p95 is None else f"{p95:.2f} s of work for the slowest of 20 recordings"
    yield "latency_p95", p95, params.max_latency_p95, p95 is not None and p95 > params.max_latency_p95, said
    mean = found.mean_confidence if enough else None
    said = few.format(found.count) if mean is None else f"{mean:.3f} on average"
    yield "confidence", mean, params.min_confidence, mean is not None and mean < params.min_confidence, said


def _of_drift(drift: Drift, params: MonitorParams) -> Iterator[_Compared]:
    if moved := drift.confidence:
        # The index alone exceeds any threshold by chance when there are few inferences.
        fires = moved.psi > params.max_drift and moved.ks_p_value < params.drift_alpha
        said = f"PSI {moved.psi:.3f}, KS distance {moved.ks_statistic:.3f} (p = {moved.ks_p_value:.2g})"
        yield "drift", moved.psi, params.max_drift, fires, said
    else:
        yield "drift", None, params.max_drift, False, drift.confidence_reason
    if rise := drift.error_rate:
        fires = rise.difference > params.max_error_rise and rise.interval.low > 0
        said = f"{points(rise.difference)} (95 % interval {span(rise.interval.low, rise.interval.high)})"
        yield "error_rate_rise", rise.difference, params.max_error_rise, fires, said
    else:
        yield "error_rate_rise", None, params.max_error_rise, False, drift.error_rate_reason


def notify(engine: Engine, alerts: Sequence[Check], params: MonitorParams, now: datetime) -> Delivery | None:
    """Warns in the log of every alert, and sends the webhook those that it has not had for `cooldown_hours`.

    Returns:
        None without a webhook or without alerts. A failed delivery is in `problem`, and is due again at the next call.
    """
    for alert in alerts:
        logger.warning(sentence(alert))
    if not alerts or not params.webhook:
        return None
    fresh = _claim(engine, alerts, timedelta(hours=params.cooldown_hours), now)
    cooling = [alert.metric for alert in alerts if alert.metric not in fresh]
    if not fresh:
        return Delivery(sent=[], cooling_down=cooling)
    due = [alert for alert in alerts if alert.metric in fresh]
    webhook = Webhook(params.webhook, os.environ.get("MONDEGREEN_WEBHOOK_SECRET"), timeout=params.webhook_timeout)
    problem = webhook.post(_payload(due, now))
    with transaction(engine) as session:
        session.execute(update(AlertRow).where(AlertRow.id.in_(fresh.values())).values(delivered=not problem))
    if problem:
        logger.warning("The webhook did not get the alerts: %s.", problem)
    return Delivery(sent=[] if problem else list(fresh), cooling_down=cooling, problem=problem)


def sentence(alert: Check) -> str:
    """Metric, value, threshold, window and what to do."""
    return (
        f"{alert.metric} over {alert.window}: {alert.detail}; the threshold is {alert.threshold:g}. {alert.next_step}"
    )


def _claim(engine: Engine, alerts: Sequence[Check], cooldown: timedelta, now: datetime) -> dict[str, int]:
    """Metric to row of those that are due. Written down before they are sent, so that of two monitors one sends.

    A time in the future (the clock was moved back) holds nothing up.
    """
    claimed = {}
    with transaction(engine) as session:
        for alert in alerts:
            recent = session.execute(
                select(AlertRow.at, AlertRow.delivered).where(
                    AlertRow.metric == alert.metric, AlertRow.at > now - max(cooldown, _CLAIM), AlertRow.at <= now
                )
            ).all()
            if any(
                at > now - (cooldown if delivered else _CLAIM) for at, delivered in recent if delivered is not False
            ):
                continue
            row = AlertRow(
                at=now, metric=alert.metric, value=alert.value, threshold=alert.threshold, window=alert.window
            )
            session.add(row)
            session.flush()
            claimed[alert.metric] = row.id
    return claimed


def _payload(alerts: Sequence[Check], now: datetime) -> dict[str, Any]:
    """`text` is what chat services show; whoever reads it at night has to know where to go."""
    host, project = socket.gethostname(), str(Path.cwd())
    return {
        "source": "mondegreen",
        "host": host,
        "project": project,
        "at": now.isoformat(),
        "text": "\n".join((*map(sentence, alerts), f"In {project} on {host}.")),
        "alerts": [alert.model_dump(mode="json", exclude={"status"}) for alert in alerts],
    }


@dataclass(frozen=True)
class Webhook:
    """Where alerts go.

    Args:
        url: takes a POST of JSON. Its path is a secret at many services, so no message names it.
        secret: signs timestamp and body, see `signature`; None sends unsigned.
        timeout: for the connection, and for each wait for bytes of the answer.
        attempts: tries in all, when the server is not reached, does not answer in full, or answers 5xx.
        backoff: wait before the second try; it doubles from try to try.
    """

    url: str
    secret: str | None = None
    timeout: Seconds = 10.0
    attempts: int = 3
    backoff: Seconds = 1.0

    def post(self, payload: Mapping[str, Any]) -> str:
        """Delivers `payload`; "" when the server took it, else what went wrong.

        The answer is read to its end: a server that breaks off in the middle may not have taken anything. It may get
        the same delivery again then; X-Mondegreen-Delivery stays the same.
        """
        body = json.dumps(payload, ensure_ascii=False, sort_keys=True).encode()
        delivery = str(uuid.uuid4())
        tries = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_exponential_jitter(initial=self.backoff, max=60, jitter=self.backoff / 2),
            retry=retry_if_exception_type(_TryAgainError),
        )
        try:
            return tries(self._once, body, delivery)
        except RetryError as error:
            return f"{error.last_attempt.exception()}, {self.attempts} tries"

    def _once(self, body: bytes, delivery: str) -> str:
        headers = {"Content-Type": "application/json", "X-Mondegreen-Delivery": delivery}
        if self.secret:
            moment = str(int(time.time()))
            headers |= {
                "X-Mondegreen-Timestamp": moment,
                "X-Mondegreen-Signature": signature(self.secret, moment, body),
            }
        try:
            # A redirect would carry the signed body to a place that nobody named.
            with requests.post(
                self.url, data=body, headers=headers, timeout=self.timeout, allow_redirects=False, stream=True
            ) as answer:
                for read, _ in enumerate(answer.iter_content(1024)):
                    if read * 1024 > _LONGEST_ANSWER:
                        break
                status = answer.status_code
        except requests.Timeout:
            raise _TryAgainError(f"{self._host} did not answer within {self.timeout:g} s") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgainError(f"{self._host} cannot be reached, or broke off ({type(error).__name__})") from None
        except (requests.RequestException, ValueError) as error:
            return f"the webhook's URL cannot be used ({type(error).__name__})"
        if status >= 500:
            raise _TryAgainError(f"{self._host} answered {status}")
        return "" if 200 <= status < 300 else f"{self._host} answered {status}"

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "the webhook"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Mondegreen-Signature: sha256= and the hex HMAC-SHA256 over timestamp, a dot, and the body.

    Args:
        secret: MONDEGREEN_WEBHOOK_SECRET.
        timestamp: X-Mondegreen-Timestamp, seconds since 1970; a receiver refuses old ones, so that none is replayed.
        body: the bytes as sent.
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class _TryAgainError(Exception):
    """The server is not able just now; the message says how."""
