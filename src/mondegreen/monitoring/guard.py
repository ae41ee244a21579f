"""The guard: is a version worse in production than the one that it is to replace, or has replaced? Then it goes.

It looks at two things: a canary that runs, and the last deployment. What it reads it reads from the store, and what it
does is an entry of the ledger that is there once: killed between any two steps, the next look does what is left. The
test may be looked at as often as one likes, see `evidence`. `settle` puts back what was promoted by hand past the gate.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, select

from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import RegistryError
from mondegreen.monitoring.alerts import notify
from mondegreen.monitoring.comparing import Compared, Deployed, VersionComparison, compare_canary, compare_deployment
from mondegreen.monitoring.records import Check, MonitorRecord
from mondegreen.registry.canary import STOP, Canary, over, started
from mondegreen.registry.ledger import CHAMPION, Ledger, LedgerEntry
from mondegreen.registry.recovery import BY_HAND, PUT_BACK, external_changes
from mondegreen.tables import AlertRow

Decision = Literal["nothing to guard", "too few", "fine", "worse", "stopped", "rolled back"]
BY_GUARD = "guard: "  # how the reason of an entry begins that the guard made
_ROLLBACK = "rollback"
_NOT_TAKEN_BACK = (
    "It stays: work alone takes no deployment back, as what else the machine does now and did before is not known."
)
_OWED_FOR = timedelta(days=7)  # who names a webhook later need not hear of all that ever was


class GuardReport(MonitorRecord):
    """What was found of a canary or of a deployment, and what was done."""

    subject: Literal["canary", "deployment"]
    decision: Decision
    text: str  # a sentence or two
    version: int | None = None
    former: int | None = None  # whom it is compared with
    inferences: int = 0  # of the version
    comparisons: tuple[VersionComparison, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether a worsening is proven, whatever was done about it."""
        return self.decision in ("worse", "stopped", "rolled back")


class Guarded(MonitorRecord):
    """Both looks."""

    canary: GuardReport
    deployment: GuardReport

    @property
    def reports(self) -> tuple[GuardReport, GuardReport]:
        """One after the other."""
        return self.canary, self.deployment

    @property
    def worse(self) -> bool:
        """Whether either is worse."""
        return any(report.worse for report in self.reports)


class Moves:
    """What the guard may do: a deployer's moves, made alone and only while they still apply."""

    def __init__(self, model_name: str, params: Params, folder: Path) -> None:
        from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

        self._deployer = ModelDeployer(
            DeploymentConfig.from_params(params), model_name=model_name, local_storage_dir=folder
        )  # fmt: skip

    def stop(self, entry: int, reason: str) -> bool:
        """Stops the canary that began with this entry; False when somebody else has."""
        return self._deployer.stop_canary(reason=reason, entry=entry) is not None

    def roll_back(self, report: GuardReport, reason: str) -> None:
        """Back to the former champion. Raises RegistryError when it is refused, or another one is champion by now."""
        self._deployer.rollback(report.former, reason=reason, champion=report.version)


MakeMoves = Callable[[], Moves]


def look_at_canary(ledger: Ledger, params: Params) -> tuple[Canary | None, GuardReport]:
    """Compares what the canary gathered so far; moves nothing. Raises CaseError."""
    canary = started(ledger)
    if canary is None:
        return None, GuardReport(subject="canary", decision="nothing to guard", text="No canary runs.")
    report = GuardReport(
        subject="canary", decision="nothing to guard", text="", version=canary.version, former=canary.champion
    )  # fmt: skip
    found = compare_canary(ledger.engine, canary, params.deploy)
    if ended := over(canary, ledger):
        text = f"The canary of version {canary.version} is over: {ended}."
        return None, report.model_copy(update={"text": text, "comparisons": found.comparisons})
    return canary, _said(report, found)


def look_at_deployment(ledger: Ledger, params: Params) -> GuardReport:
    """Compares the champion with the one before on what the service logged; moves nothing. Raises CaseError.

    Returns:
        decision "nothing to guard" unless the last move of the champion was a deployment over another version.
    """
    entry = _last_deployment(ledger)
    if entry is None or entry.version is None or entry.former is None:
        text = "No version was deployed over another."
        return GuardReport(subject="deployment", decision="nothing to guard", text=text)
    report = GuardReport(
        subject="deployment", decision="too few", text="", version=entry.version, former=entry.former
    )  # fmt: skip
    former = Deployed(f"{ledger.model_name}/{entry.former}", str(entry.details.get("former_digest", "")))
    new = Deployed(f"{ledger.model_name}/{entry.version}", entry.digest)
    marker = int(entry.details.get("inferences", 0))
    return _said(report, compare_deployment(ledger.engine, former, new, marker, params.deploy))


def guard(
    engine: Engine,
    model_name: str,
    params: Params,
    folder: Path,
    *,
    roll_back: bool,
    moves: MakeMoves | None = None,
    now: datetime | None = None,
) -> Guarded:
    """Looks at both; a canary that is worse is stopped, a deployment that is worse taken back if that is allowed.

    Args:
        engine: the database of live state: ledger and inferences.
        folder: of live state.
        roll_back: whether a deployment may be taken back; one that is only slower never is.
        moves: for tests; by default those of a `ModelDeployer`.

    Raises:
        RegistryError: what should be done is refused. The alert is sent all the same.
        CaseError: the database is away.
    """
    ledger, now = Ledger(engine, model_name), now or datetime.now(UTC)
    make = moves or (lambda: Moves(model_name, params, folder))
    announce(ledger, params, now)
    canary, first = look_at_canary(ledger, params)
    if canary and first.worse:
        first = _stop_canary(ledger, canary, first, params, make, now)
    second = look_at_deployment(ledger, params)
    if second.worse:
        second = _take_back(ledger, second, params, make if roll_back else None, now)
    return Guarded(canary=first, deployment=second)


def watch_guard(engine: Engine, params: Params, folder: Path) -> str:
    """What `mondegreen watch` does at each look; says what it did, or what keeps it from it.

    Raises:
        CaseError: the database is away.
    """
    name = params.register_.model_name
    if not params.deploy.auto_rollback and started(Ledger(engine, name)) is None:
        return ""
    try:
        found = guard(engine, name, params, folder, roll_back=params.deploy.auto_rollback)
    except RegistryError as error:
        return f"guard: {error.problem}"
    return " ".join(report.text for report in found.reports if report.decision in ("stopped", "rolled back"))


def _said(report: GuardReport, found: Compared) -> GuardReport:
    """The report with its decision, in words."""
    version, former = f"Version {report.version}", f"version {report.former}"
    facts = {"inferences": found.inferences, "comparisons": found.comparisons}
    if not found.comparisons:
        text = f"{version} has {found.inferences} inferences: nothing of it compares with {former} yet."
        return report.model_copy(update=facts | {"decision": "too few", "text": " ".join([text, *found.notes])})
    if all(one.too_few for one in found.comparisons):
        best = max(found.comparisons, key=lambda one: one.reach / one.needed)
        text = (
            f"{version} has {found.inferences} inferences, {best.callers} callers: too few to say whether it is worse "
            f"than {former} (evidence of at most {best.reach:.3g}, {best.needed:.4g} would prove it)."
        )
        return report.model_copy(update=facts | {"decision": "too few", "text": " ".join([text, *found.notes])})
    worse = [one for one in found.comparisons if one.worse]
    how = "worse" if worse else "not shown to be worse"
    text = f"{version} is {how} than {former}: {'; '.join(one.text for one in worse or found.comparisons)}."
    decision: Decision = "worse" if worse else "fine"
    return report.model_copy(update=facts | {"decision": decision, "text": " ".join([text, *found.notes])})


def _stop_canary(
    ledger: Ledger, canary: Canary, found: GuardReport, params: Params, make: MakeMoves, now: datetime
) -> GuardReport:
    try:
        done = make().stop(canary.entry, f"{BY_GUARD}{found.text}")
    except RegistryError:
        _warn(ledger, found, params, now)
        raise
    if not done:  # somebody was faster, and says so
        return found
    _say(ledger, params, now)
    return found.model_copy(update={"decision": "stopped", "text": f"The canary is stopped. {found.text}"})


def _take_back(
    ledger: Ledger, found: GuardReport, params: Params, make: MakeMoves | None, now: datetime
) -> GuardReport:
    if make and all(one.metric == "latency" for one in found.comparisons if one.worse):
        found, make = found.model_copy(update={"text": f"{found.text} {_NOT_TAKEN_BACK}"}), None
    if make is None:
        _warn(ledger, found, params, now)
        return found
    try:
        make().roll_back(found, f"{BY_GUARD}{found.text}")
    except RegistryError:
        _warn(ledger, found, params, now)
        raise
    _say(ledger, params, now)
    text = f"Rolled back to version {found.former}. {found.text}"
    return found.model_copy(update={"decision": "rolled back", "text": text})


def _say(ledger: Ledger, params: Params, now: datetime) -> None:
    """Alerts of what the guard did just now."""
    entry = ledger.last(STOP, _ROLLBACK)
    if entry and (alert := _alert_of(entry, params)):
        notify(ledger.engine, [alert], params.monitor, now)


def announce(ledger: Ledger, params: Params, now: datetime | None = None) -> None:
    """Alerts of what the guard did and of what was put back in the last week, once each, where there is a webhook.

    They follow from the ledger: so they are sent also when the guard was killed after its move, or when the webhook was
    away, whatever was moved since. Raises CaseError.
    """
    if not params.monitor.webhook:
        return
    recent = [entry for entry in ledger.entries() if entry.at >= datetime.now(UTC) - _OWED_FOR]
    alerts = [alert for entry in recent if (alert := _alert_of(entry, params)) and _is_owed(ledger, alert.metric)]
    notify(ledger.engine, alerts, params.monitor, now or datetime.now(UTC))


def _alert_of(entry: LedgerEntry, params: Params) -> Check | None:
    """The alert of an entry, which names it; None where nobody waits for one."""
    if entry.action == PUT_BACK:
        what, text = f"promotion by hand of version {entry.details['promoted']}", entry.reason
        return _alert(f"{what}, ledger entry {entry.id}", text, "`mondegreen models history` shows it.", params)
    if entry.action not in (STOP, _ROLLBACK) or not entry.reason.startswith(BY_GUARD):
        return None
    stopped = entry.action == STOP
    what = f"canary of version {entry.version}" if stopped else f"deployment of version {entry.former}"
    done = "The canary is stopped." if stopped else f"Rolled back to version {entry.version}."
    text = f"{done} {entry.reason.removeprefix(BY_GUARD)}"
    return _alert(f"{what}, ledger entry {entry.id}", text, "See what it mishears, and train another.", params)


def _is_owed(ledger: Ledger, metric: str) -> bool:
    """Whether the webhook has not had an alert yet. Raises CaseError."""
    with reading(ledger.engine) as session:
        sent = select(AlertRow.id).where(AlertRow.metric == metric, AlertRow.delivered.is_(True)).limit(1)
        return session.scalar(sent) is None


def _warn(ledger: Ledger, found: GuardReport, params: Params, now: datetime) -> None:
    """Alerts of what is worse and stays."""
    undo = "`mondegreen models canary stop`" if found.subject == "canary" else "`mondegreen models rollback`"
    alert = _alert(f"{found.subject} of version {found.version}", found.text, f"{undo} takes it back.", params)
    notify(ledger.engine, [alert], params.monitor, now)


def _alert(metric: str, text: str, next_step: str, params: Params) -> Check:
    return Check(
        metric=metric,
        status="alert",
        value=None,
        threshold=params.deploy.guard_alpha,
        window="all that was logged of it",
        detail=text,
        next_step=next_step,
    )


def _last_deployment(ledger: Ledger) -> LedgerEntry | None:
    """The entry that made the champion what it is, if that was a deployment or a first promotion by hand.

    A rollback is watched by nobody, nor is who goes back by hand. Of a promotion by hand the registry had the new
    champion before its entry was made, so what counts is who was champion after each.
    """
    last, champion = None, None
    served: set[int | None] = set()
    for entry in ledger.entries():
        if (now := entry.after.get(CHAMPION)) != champion:
            back = entry.action == BY_HAND and now in served
            last, champion = (None if back else entry), now
            served.add(now)
    return last if last and last.action in ("deploy", BY_HAND) and last.version == champion else None


def settle(engine: Engine, params: Params, folder: Path) -> list[str]:
    """What `watch` and `status --settle` do: settles what was moved outside of mondegreen; a sentence on each.

    MLflow is loaded only where there is something to settle.

    Raises:
        RegistryError: the registry cannot be used.
        CaseError: the ledger cannot be written.
    """
    name, said = params.register_.model_name, []
    try:
        if external_changes(name, folder):
            from mondegreen.registry.deployer import DeploymentConfig, ModelDeployer

            config = DeploymentConfig.from_params(params)
            said = ModelDeployer(config, model_name=name, local_storage_dir=folder).settle()
    finally:  # also while the registry is away: the ledger says what is owed
        announce(Ledger(engine, name), params)
    return said
