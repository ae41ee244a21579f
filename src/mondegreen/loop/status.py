"""The status of the whole system, as data and on one screen: cases, trigger, rounds, registry, errors, what to do."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from mondegreen.cases.selecting import overdue
from mondegreen.config import params_of
from mondegreen.db import reading
from mondegreen.errors import MondegreenError, RegistryError
from mondegreen.loop.jobs import WORKING, Job
from mondegreen.loop.orchestrator import FinetuningOrchestrator
from mondegreen.loop.trigger import count
from mondegreen.registry.aliases import OUTCOME_TAG, holdings, tag_of
from mondegreen.registry.ledger import CHALLENGER, CHAMPION, Aliases
from mondegreen.registry.record import NO_VERDICT
from mondegreen.registry.recovery import external_changes
from mondegreen.registry.resolving import AGAIN, lost_candidate
from mondegreen.reports.monitor import HEAR, present_line
from mondegreen.scoring.wording import many, percent, points
from mondegreen.tables import InferenceRow

DAY = 24.0  # hours
_SIGNS = {True: "[green]yes[/]", False: "[yellow]no[/]"}


def system_status(orchestrator: FinetuningOrchestrator) -> dict[str, Any]:
    """Everything on one screen, as plain data.

    Returns:
        cases, orchestrator (trigger_conditions, open_job, worker, last_round), validation (rounds, passed, pass_rate),
        deployer (active_version, challenger, …, problem), inferences of the last day, production (wer of the version
        that answers now, waiting recordings of the audit), alerts that fire, next_step.
    """
    conditions = orchestrator.check_trigger_conditions()
    jobs = orchestrator.list_jobs()
    open_job = next((job for job in jobs if job.open), None)
    last = next((job for job in jobs if not job.open), None)
    worker = orchestrator.worker() if open_job and open_job.state in WORKING else None
    model_name = params_of(orchestrator.project).register_.model_name
    aliases, problem = _aliases(model_name)
    outcome = _outcome(model_name, aliases)
    production, alerts = _production(orchestrator)
    return {
        "at": datetime.now(UTC).isoformat(),
        "cases": _cases(conditions["metrics"]),
        "orchestrator": {
            "trigger_conditions": conditions,
            "open_job": open_job.to_dict() if open_job else None,
            "worker": worker,
            "last_round": last.to_dict() if last else None,
        },
        "validation": _validation(jobs),
        "deployer": {
            "model_name": model_name,
            "active_version": aliases.get("champion"),
            "challenger": aliases.get("challenger"),
            "previous": aliases.get("previous"),
            "problem": problem,
            "noticed": _noticed(model_name, orchestrator.data_manager.folder),
        },
        "inferences": _last_day(orchestrator),
        "production": production,
        "alerts": alerts,
        "overdue": overdue(
            orchestrator.data_manager.engine,
            orchestrator.data_manager.folder,
            params_of(orchestrator.project).retention_days,
        ),
        "next_step": next_step(open_job, worker, conditions, last, aliases, alerts, production["waiting"], outcome),
    }


def _cases(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        "total": metrics["total_error_cases"],
        "corrected": metrics["corrected_cases"],
        "uncorrected": metrics["total_error_cases"] - metrics["corrected_cases"],
        "by_method": metrics["by_method"],
        "new": metrics["new_error_cases"],
        "new_corrected": metrics["new_corrected_cases"],
    }


def _validation(jobs: list[Job]) -> dict[str, Any]:
    completed = [job for job in jobs if job.state == "completed"]
    passed = sum(job.passed for job in completed)
    return {"rounds": len(completed), "passed": passed, "pass_rate": passed / len(completed) if completed else None}


def next_step(
    open_job: Job | None,
    worker: str | None,
    conditions: dict[str, Any],
    last: Job | None,
    aliases: Aliases,
    alerts: Sequence[dict[str, Any]] = (),
    unheard: int = 0,
    outcome: str | None = None,
) -> str:
    """The one thing that a person should do now.

    Args:
        unheard: recordings of the audit that wait.
        outcome: of the verdict on @challenger; None where that is not known.
    """
    if open_job:
        return _next_of(open_job, worker)
    if alerts:
        return f"Alert {alerts[0]['metric']}: {alerts[0]['next_step']}"
    if conditions["should_trigger"] and not conditions["rest"]:
        return "Ask for a round: `mondegreen trigger` (or let `mondegreen watch` do it)."
    version = last.details.get("version", {}).get("version") if last and last.passed else None
    if version is not None and version == aliases.get("challenger"):
        waits = f"Version {version} passed and waits in Staging as @challenger"
        return f"{waits}: look at its report, then `mondegreen models deploy {version}`."
    if last and last.state == "failed":
        return f"See why round {last.id} failed: `mondegreen jobs {last.id}`."
    metrics = conditions["metrics"]
    uncorrected = metrics["new_error_cases"] - metrics["new_corrected_cases"]
    waiting = aliases.get(CHALLENGER)
    if waiting is not None and aliases.get(CHAMPION) is None:  # such as `dvc repro` registered, without a round
        return _first_version(waiting, outcome, uncorrected)
    if uncorrected:
        return f"Correct {many(uncorrected, 'case')}: `mondegreen review` (`mondegreen cases list --uncorrected`)."
    if unheard:
        return f"Hear {many(unheard, 'recording')} of the audit, which says the WER in production: {HEAR}."
    if not aliases and not metrics["new_error_cases"]:
        return "Put recordings into data/, look at them with `mondegreen data check`, then `dvc repro`."
    return "Nothing: failed cases come in with `mondegreen transcribe --log` and `mondegreen cases add`."


def _first_version(version: int, outcome: str | None, uncorrected: int) -> str:
    """What a challenger needs where nothing is in production; the gate is named only where it may open."""
    so_far = f"Nothing is in production, and version {version} is @challenger"
    if outcome in (None, "pass"):
        return (
            f"{so_far}: `mondegreen models show {version}` says what it proved, `mondegreen models deploy {version}` "
            "asks the gate."
        )
    if outcome in ("", NO_VERDICT):
        return f"{so_far}, which nobody has judged, so that the gate refuses it: `dvc repro` judges it."
    waits = f"correct {many(uncorrected, 'case')} (`mondegreen review`)" if uncorrected else "correct more cases"
    return (
        f"{so_far}, whose verdict is `{outcome}`, which the gate refuses: `mondegreen models show {version}` says what "
        f"is missing. Collect recordings of more speakers, {waits}, then ask for another round: `mondegreen trigger`."
    )


def _next_of(job: Job, worker: str | None) -> str:
    if job.state == "pending_approval":
        return f"Decide on job {job.id}: `mondegreen approve {job.id}` or `mondegreen reject {job.id} --reason …`."
    if job.state == "approved":
        return f"Run job {job.id}: `mondegreen run`."
    if worker:
        return f"Wait: {worker} works on job {job.id}; it writes {job.details.get('log', 'its log when stages start')}."
    return f"Go on with job {job.id}, whose runner died: `mondegreen run`."


def _aliases(model_name: str) -> tuple[Aliases, str | None]:
    """Who holds which alias; a registry that cannot be read must not hide the rest."""
    try:
        return holdings(model_name, stages=False).aliases, None
    except RegistryError as error:
        return {}, error.problem


def _outcome(model_name: str, aliases: Aliases) -> str | None:
    """Of the verdict on @challenger, by the version's tag; None where there is no challenger, or nobody can say."""
    try:
        return tag_of(model_name, aliases[CHALLENGER], OUTCOME_TAG) if CHALLENGER in aliases else None
    except RegistryError:
        return None


def _noticed(model_name: str, folder: Path) -> list[str]:
    """What people moved in the registry by hand, or a crash left half done; and a candidate that is not there."""
    found: list[str] = []
    for look in (partial(external_changes, model_name, folder), partial(_missing, model_name)):
        try:
            found += look()
        except MondegreenError as error:
            found.append(error.problem)
    return list(dict.fromkeys(found))


def _missing(model_name: str) -> list[str]:
    _, said = lost_candidate(model_name)
    return [f"{said} {AGAIN}"] if said else []


def _last_day(orchestrator: FinetuningOrchestrator) -> dict[str, Any]:
    counts = count(orchestrator.jobs.engine, DAY, datetime.now(UTC))
    measured = {"inferences": counts.inferences, "errors": counts.errors, "error_rate": counts.error_rate}
    return {"hours": DAY, **measured, "unmeasured": counts.unmeasured, "uncalibrated": counts.uncalibrated}


def _production(orchestrator: FinetuningOrchestrator) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is known of the version that answers now, and what `mondegreen monitor` would alert of; tells nobody."""
    engine = orchestrator.jobs.engine
    with reading(engine) as session:
        if session.scalar(select(InferenceRow.id).limit(1)) is None:
            return {"said": "nothing was transcribed in production yet", "wer": None, "waiting": 0}, []
    from mondegreen.monitoring.alerts import measure  # numpy, which a screen without traffic does not wait for

    params, window = params_of(orchestrator.project), timedelta(hours=DAY)
    now = datetime.now(UTC)
    *_, found, checks = measure(engine, window, params.monitor, params.audit, params.score.normalizer, now)
    present = found.versions[-1] if found.versions else found.total
    said = {"said": present_line(found), "waiting": found.total.drawn - found.total.audited}
    alerts = [check.model_dump(mode="json", exclude={"status"}) for check in checks if check.status == "alert"]
    return said | present.model_dump(mode="json"), alerts


def render_status(status: dict[str, Any]) -> RenderableType:
    """The screen for `rich`, from `system_status`."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, lines in (
        ("cases", _show_cases(status["cases"])),
        ("round needed", _show_trigger(status["orchestrator"]["trigger_conditions"])),
        ("open job", _show_open_job(status["orchestrator"])),
        ("last round", _show_last_round(status["orchestrator"]["last_round"])),
        ("rounds", _show_rounds(status["validation"])),
        ("registry", _show_registry(status["deployer"])),
        ("last day", _show_last_day(status["inferences"])),
        ("production", _show_production(status["production"], status["alerts"])),
        ("to erase", _show_overdue(status["overdue"])),
    ):
        table.add_row(name, "\n".join(lines))
    return Group(table, "", f"[bold]What now[/]  {escape(status['next_step'])}")


def _show_cases(cases: dict[str, Any]) -> list[str]:
    methods = ", ".join(f"{count:,} {method}" for method, count in sorted(cases["by_method"].items()))
    corrected = f"{cases['corrected']:,} corrected{f' ({methods})' if methods else ''}"
    return [
        f"{many(cases['total'], 'failed case')}: {corrected}, waiting for a correction: {cases['uncorrected']:,}",
        f"{cases['new']:,} of them new since the last completed round, {cases['new_corrected']:,} of these corrected",
    ]


def _show_trigger(conditions: dict[str, Any]) -> list[str]:
    lines = [_SIGNS[conditions["should_trigger"]], *map(escape, conditions["reasons"])]
    if conditions["rest"]:
        lines.append(escape(conditions["rest"]["text"]))
    return lines


def _show_open_job(orchestrator: dict[str, Any]) -> list[str]:
    job = orchestrator["open_job"]
    if not job:
        return ["none"]
    worker = orchestrator["worker"]
    since = job["events"][-1]
    working = f", {worker} works on it" if worker else ""
    return [escape(f"job {job['id']}: {job['state']} since {_minute(since['at'])}{working}. {since['reason']}")]


def _show_last_round(job: dict[str, Any] | None) -> list[str]:
    if not job:
        return ["none yet"]
    end = job["events"][-1]
    gain = f", WER {points(job['gain'])} better" if job["gain"] is not None else ""
    verdict = f", verdict {job['outcome']}" if job["outcome"] else ""
    return [escape(f"job {job['id']}: {job['state']} at {_minute(end['at'])}{verdict}{gain}"), escape(end["reason"])]


def _show_rounds(validation: dict[str, Any]) -> list[str]:
    if not validation["rounds"]:
        return ["none completed"]
    return [f"{validation['rounds']} completed, {validation['passed']} passed ({percent(validation['pass_rate'], 0)})"]


def _show_registry(deployer: dict[str, Any]) -> list[str]:
    if deployer["problem"]:
        return [f"[red]{escape(deployer['problem'])}[/]"]
    held = [
        f"{alias} version {version}" if version else f"no {alias}"
        for alias, version in (("champion", deployer["active_version"]), ("challenger", deployer["challenger"]))
    ]
    noticed = [f"[yellow]{escape(sentence)}[/]" for sentence in deployer["noticed"]]
    return [escape(f"{deployer['model_name']}: {', '.join(held)}"), *noticed]


def _show_last_day(found: dict[str, Any]) -> list[str]:
    if not found["inferences"] and found["uncalibrated"]:
        return [
            f"error rate not calibrated: {many(found['uncalibrated'], 'inference')}, "
            "`mondegreen detector calibrate`, with --candidate for the fine-tuned model"
        ]
    if not found["inferences"]:
        unmeasured = f" ({found['unmeasured']:,} that no detector looked at)" if found["unmeasured"] else ""
        return [f"no inference was measured{unmeasured}"]
    rate = percent(found["error_rate"])
    return [f"{many(found['inferences'], 'inference')}, {many(found['errors'], 'error')}: error rate {rate}"]


def _show_production(found: dict[str, Any], alerts: list[dict[str, Any]]) -> list[str]:
    fires = [f"[red]alert[/] {escape(alert['metric'])}: {escape(alert['detail'])}" for alert in alerts]
    return [escape(found["said"]), *fires]


def _show_overdue(found: dict[str, int]) -> list[str]:
    lines = (
        ["[yellow]an erasure was interrupted: `mondegreen cases erase` goes on[/]"] if "interrupted" in found else []
    )
    if old := ", ".join(f"{count:,} {name}" for name, count in found.items() if name != "interrupted"):
        lines.append(f"{old} older than retention_days allows: `mondegreen cases erase --expired --reason …`")
    return lines or ["nothing"]


def _minute(at: str) -> str:
    return f"{at[:16].replace('T', ' ')} UTC"
