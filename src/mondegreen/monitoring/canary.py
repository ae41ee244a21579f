"""Canary: is the new champion worse in production than the one before? By the logged inferences; then taken back.

Looked at again and again, a test at level alpha would sooner or later call any model worse. So there is a look only at
`guard_min_inferences`, at twice as many, at four times as many, …, always on the first so many inferences of the new
champion, and look k (from 0) spends alpha / 2^(k+1): all looks together spend alpha, by Bonferroni's inequality. Each
look halves its share between error rate and latency."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sqlalchemy import ColumnElement, Engine, select
from sqlalchemy.orm import Session

from mondegreen.config import DeployParams, Params
from mondegreen.db import reading
from mondegreen.errors import RegistryError
from mondegreen.monitoring.alerts import notify
from mondegreen.monitoring.drift import error_rate_drift
from mondegreen.monitoring.records import Check, MonitorRecord
from mondegreen.registry.ledger import CHAMPION, Ledger, LedgerEntry
from mondegreen.scoring.wording import confidence, percent, points, unsigned
from mondegreen.tables import InferenceRow

CanaryDecision = Literal["nothing to guard", "too few", "fine", "worse", "rolled back"]
_MOST = 50_000  # inferences of each side that are looked at
Values = npt.NDArray[np.float64]


class CanaryTest(MonitorRecord):
    """One quantity under both champions, and the test whether the new one lost more than the margin."""

    metric: Literal["error rate", "latency"]
    before: float
    after: float
    difference: float  # error rate: absolute; latency: relative
    lower_bound: float  # one-sided, at `level`
    margin: float
    level: float

    @property
    def worse(self) -> bool:
        """Whether even the lower bound of what was lost is above the margin."""
        return self.lower_bound > self.margin

    @property
    def text(self) -> str:
        """Both values, the difference with its bound, and what is allowed."""
        if self.metric == "error rate":
            values = f"{percent(self.before)} -> {percent(self.after)}"
            lost, least, allowed = points(self.difference), points(self.lower_bound), unsigned(self.margin)
        else:
            values = f"{self.before:.3g} -> {self.after:.3g} s for a second of audio"
            lost, least, allowed = map(percent, (self.difference, self.lower_bound, self.margin))
        bound = f"at least {least} (one-sided, {confidence(self.level)})"
        return f"{self.metric} {values}, a loss of {lost}, {bound}; {allowed} are allowed"


class CanaryReport(MonitorRecord):
    """What was found of the last deployment."""

    decision: CanaryDecision
    text: str  # a sentence
    model_name: str
    version: int | None = None  # the new champion
    former: int | None = None
    inferences: int = 0  # of the new champion
    look: int | None = None  # from 0
    comparisons: tuple[CanaryTest, ...] = ()


RollBack = Callable[[CanaryReport, str], None]


def check_canary(engine: Engine, model_name: str, params: DeployParams, detectors: Path) -> CanaryReport:
    """Compares the champion with the one before on what the service logged; moves nothing.

    Args:
        engine: the database of live state: ledger and inferences.
        detectors: folder of the error detector's calibrations: rates of a calibrated and an uncalibrated detector do
            not compare, so then only latency is looked at.

    Returns:
        decision "nothing to guard" unless the last move of the champion was a deployment over another version.
    """
    entry = _last_deployment(Ledger(engine, model_name))
    if entry is None or entry.version is None or entry.former is None:
        text = "No version was deployed over another."
        return CanaryReport(decision="nothing to guard", text=text, model_name=model_name)
    report = CanaryReport(
        decision="too few", text="", model_name=model_name, version=entry.version, former=entry.former
    )  # fmt: skip
    old_digest = str(entry.details.get("former_digest", ""))
    marker = int(entry.details.get("inferences", 0))
    with reading(engine) as session:
        new = _rows(session, entry.digest, InferenceRow.id > marker)
        old = _rows(session, old_digest, InferenceRow.id <= marker, newest=True)
    least = params.guard_min_inferences
    if min(len(new), len(old)) < least:
        text = f"Version {entry.version} has {len(new)} inferences, version {entry.former} had {len(old)}"
        return report.model_copy(update={"text": f"{text}: {least} of each are needed.", "inferences": len(new)})
    look = int(np.log2(len(new) / least))
    new = new[: least * 2**look]
    alike = _calibrated(detectors, entry.digest) == _calibrated(detectors, old_digest)
    tests = _tests(old, new, params, 1 - params.guard_alpha / 2 ** (look + 1) / 2, alike)
    worse = [test for test in tests if test.worse]
    how = "worse" if worse else "not shown to be worse"
    text = f"Version {entry.version} is {how} than version {entry.former}: "
    text += "; ".join(test.text for test in worse or tests) + "."
    if not alike:
        text += " Error rates do not compare: the detector is calibrated for one of the two only."
    facts = {"text": text, "inferences": len(new), "look": look, "comparisons": tuple(tests)}
    return report.model_copy(update={"decision": "worse" if worse else "fine", **facts})


def act_on_canary(
    engine: Engine,
    model_name: str,
    params: Params,
    folder: Path,
    *,
    act: bool,
    roll_back: RollBack | None = None,
    now: datetime | None = None,
) -> CanaryReport:
    """`check_canary`, then, when the champion is worse and `act` is set, back to the one before it; alerts either way.

    Args:
        folder: of live state.
        roll_back: for tests; by default `ModelDeployer.rollback`.

    Raises:
        RegistryError: the rollback is refused. The alert is sent all the same.
    """
    found = check_canary(engine, model_name, params.deploy, folder / "detector")
    if found.decision != "worse" or found.former is None:
        return found
    try:
        if act:
            (roll_back or _rollback(model_name, params, folder))(found, f"auto-rollback: {found.text}")
            text = f"Rolled back to version {found.former}. {found.text}"
            found = found.model_copy(update={"decision": "rolled back", "text": text})
    finally:
        _alert(engine, found, params, now or datetime.now(UTC))
    return found


def watch_canary(engine: Engine, params: Params, folder: Path) -> str:
    """What `mondegreen watch` does at each look, with deploy.auto_rollback; says what it did, or what keeps it from it.

    Raises:
        CaseError: the database is away.
    """
    if not params.deploy.auto_rollback:
        return ""
    try:
        found = act_on_canary(engine, params.register_.model_name, params, folder, act=True)
    except RegistryError as error:
        return f"auto-rollback: {error.problem}"
    return found.text if found.decision == "rolled back" else ""


def _rollback(model_name: str, params: Params, folder: Path) -> RollBack:
    def act(found: CanaryReport, reason: str) -> None:
        from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

        deployer = ModelDeployer(
            DeploymentConfig.from_params(params), model_name=model_name, local_storage_dir=folder
        )  # fmt: skip
        deployer.rollback(found.former, reason=reason, champion=found.version)

    return act


def _alert(engine: Engine, found: CanaryReport, params: Params, now: datetime) -> None:
    worst = max(found.comparisons, key=lambda comparison: comparison.lower_bound - comparison.margin)
    done = found.decision == "rolled back"
    step = "See what it mishears, and train another." if done else "`mondegreen models rollback` takes it back."
    alert = Check(
        metric=f"deployment of version {found.version}",
        status="alert",
        value=worst.difference,
        threshold=worst.margin,
        window="its deployment",
        detail=found.text,
        next_step=step,
    )
    notify(engine, [alert], params.monitor, now)


def _last_deployment(ledger: Ledger) -> LedgerEntry | None:
    """The entry that made the champion what it is, if that was a deployment; a rollback is watched by nobody."""
    entries = ledger.entries()
    if not entries:
        return None
    champion = entries[-1].after.get(CHAMPION)
    moved = [entry for entry in entries if entry.after.get(CHAMPION) != entry.before.get(CHAMPION)]
    last = moved[-1] if moved else None
    return last if last and last.action == "deploy" and last.version == champion else None


def _rows(session: Session, digest: str, *conditions: ColumnElement[bool], newest: bool = False) -> Values:
    """Latency, duration, and whether it was misheard (NaN: nobody looked): float64 (num_inferences, 3).

    In the order of their numbers, whatever the clock said.
    """
    order = InferenceRow.id.desc() if newest else InferenceRow.id
    query = (
        select(InferenceRow.latency, InferenceRow.duration, InferenceRow.is_error)
        .where(InferenceRow.model_version == digest, InferenceRow.duration > 0, *conditions)
        .order_by(order)
        .limit(_MOST)
    )
    rows = [(work, length, np.nan if wrong is None else float(wrong)) for work, length, wrong in session.execute(query)]
    return np.array(rows, np.float64).reshape(-1, 3)


def _tests(old: Values, new: Values, params: DeployParams, level: float, alike: bool) -> list[CanaryTest]:
    """The tests of one look, each at `level`; the error rate's only where the detector judges both `alike`."""
    rates = _error_rate(old, new, params.guard_error_margin, level, params.guard_min_inferences) if alike else None
    return [*([rates] if rates else []), _latency(old, new, params.guard_latency_margin, level)]


def _error_rate(old: Values, new: Values, margin: float, level: float, least: int) -> CanaryTest | None:
    """Newcombe's lower bound of the difference of two proportions against the margin; None when too few were judged."""
    before, after = old[~np.isnan(old[:, 2]), 2], new[~np.isnan(new[:, 2]), 2]
    if min(len(before), len(after)) < least:
        return None
    counts = (int(before.sum()), len(before)), (int(after.sum()), len(after))
    found = error_rate_drift(*counts, level=2 * level - 1)  # one-sided: its lower bound alone
    return CanaryTest(
        metric="error rate",
        before=found.reference_rate,
        after=found.window_rate,
        difference=found.difference,
        lower_bound=found.interval.low,
        margin=margin,
        level=level,
    )


def _latency(old: Values, new: Values, margin: float, level: float) -> CanaryTest:
    """Work for a second of audio, new over old, with the lower bound of its logarithm's normal approximation.

    A ratio of sums, since long recordings take longer under any model; its variance is that of the ratio estimator
    (Cochran, Sampling Techniques, 3rd edition 1977, section 6.4).
    """
    before, after = (float(side[:, 0].sum() / side[:, 1].sum()) for side in (old, new))
    if not before or not after:
        ratio = lower = 1.0  # nothing that could be compared was measured
    else:
        ratio = after / before
        error = math.sqrt(_relative_variance(old, before) + _relative_variance(new, after))
        lower = ratio * math.exp(-float(norm.ppf(level)) * error)
    return CanaryTest(
        metric="latency",
        before=before,
        after=after,
        difference=ratio - 1,
        lower_bound=lower - 1,
        margin=margin,
        level=level,
    )


def _relative_variance(side: Values, ratio: float) -> float:
    """Of sum(work) / sum(audio), over its square."""
    residuals = side[:, 0] - ratio * side[:, 1]
    return float(len(side) * residuals.var(ddof=1) / (side[:, 1].sum() * ratio) ** 2)


def _calibrated(folder: Path, digest: str) -> bool:
    from mondegreen.detector.detector import calibration_path

    return calibration_path(folder, digest).is_file()
