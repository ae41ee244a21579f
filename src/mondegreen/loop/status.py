"""The state of the whole system as data: cases, trigger, rounds, registry, errors, and the next thing to do."""

from datetime import UTC, datetime
from typing import Any

from mondegreen.errors import RegistryError
from mondegreen.loop.counts import count
from mondegreen.loop.jobs import WORKING, Job
from mondegreen.loop.orchestrator import FinetuningOrchestrator, params_of
from mondegreen.registry.noticing import problem_of
from mondegreen.registry.standing import Standing, standing

DAY = 24.0  # hours


def system_status(orchestrator: FinetuningOrchestrator) -> dict[str, Any]:
    """Everything on one screen, as plain data.

    Returns:
        cases, orchestrator (trigger_conditions, open_job, worker, last_round), validation (rounds, passed, pass_rate),
        deployer (active_version, challenger, …, problem), inferences of the last day, next_step.
    """
    conditions = orchestrator.check_trigger_conditions()
    jobs = orchestrator.list_jobs()
    open_job = next((job for job in jobs if job.open), None)
    last = next((job for job in jobs if not job.open), None)
    worker = orchestrator.worker() if open_job and open_job.state in WORKING else None
    registered, problem = _registry(orchestrator)
    completed = [job for job in jobs if job.state == "completed"]
    passed = sum(job.passed for job in completed)
    metrics = conditions["metrics"]
    return {
        "at": datetime.now(UTC).isoformat(),
        "cases": {
            "total": metrics["total_error_cases"],
            "corrected": metrics["corrected_cases"],
            "uncorrected": metrics["total_error_cases"] - metrics["corrected_cases"],
            "by_method": metrics["by_method"],
            "new": metrics["new_error_cases"],
            "new_corrected": metrics["new_corrected_cases"],
        },
        "orchestrator": {
            "trigger_conditions": conditions,
            "open_job": open_job.to_dict() if open_job else None,
            "worker": worker,
            "last_round": last.to_dict() if last else None,
        },
        "validation": {
            "rounds": len(completed),
            "passed": passed,
            "pass_rate": passed / len(completed) if completed else None,
        },
        "deployer": {
            "model_name": registered.name,
            "active_version": registered.champion,
            "challenger": registered.challenger,
            "previous": registered.previous,
            "problem": problem,
            "noticed": _noticed(orchestrator),
        },
        "inferences": _last_day(orchestrator),
        "next_step": next_step(open_job, worker, conditions, last, registered),
    }


def next_step(
    open_job: Job | None, worker: str | None, conditions: dict[str, Any], last: Job | None, registered: Standing
) -> str:
    """The one thing that a person should do now."""
    if open_job:
        return _next_of(open_job, worker)
    if conditions["should_trigger"] and not conditions["rest"]:
        return "Ask for a round: `mondegreen trigger` (or let `mondegreen watch` do it)."
    version = last.details.get("version", {}).get("version") if last and last.passed else None
    if version is not None and version == registered.challenger:
        waits = f"Version {version} passed and waits in Staging as @challenger"
        return f"{waits}: look at its report, then `mondegreen models deploy {version}`."
    if last and last.state == "failed":
        return f"See why round {last.id} failed: `mondegreen jobs {last.id}`."
    metrics = conditions["metrics"]
    uncorrected = metrics["new_error_cases"] - metrics["new_corrected_cases"]
    if uncorrected:
        return f"Correct cases, {uncorrected:,} wait: `mondegreen cases list --uncorrected`."
    return "Nothing: failed cases come in with `mondegreen transcribe --log` and `mondegreen cases add`."


def _next_of(job: Job, worker: str | None) -> str:
    if job.state == "pending_approval":
        return f"Decide on job {job.id}: `mondegreen approve {job.id}` or `mondegreen reject {job.id} --reason …`."
    if job.state == "approved":
        return f"Run job {job.id}: `mondegreen run`."
    if worker:
        return f"Wait: {worker} works on job {job.id}; it writes {job.details.get('log', 'its log when stages start')}."
    return f"Go on with job {job.id}, whose runner died: `mondegreen run`."


def _registry(orchestrator: FinetuningOrchestrator) -> tuple[Standing, str | None]:
    """Who holds which alias; a registry that cannot be read must not hide the rest."""
    name = params_of(orchestrator.project).register_.model_name
    try:
        return standing(name), None
    except RegistryError as error:
        return Standing(name=name), error.problem


def _noticed(orchestrator: FinetuningOrchestrator) -> list[str]:
    """What people moved in the registry by hand, entered in its ledger now, or what a crash left half done."""
    noticed, problem = problem_of(
        params_of(orchestrator.project).register_.model_name, orchestrator.data_manager.folder
    )
    return [*noticed, problem] if problem else noticed


def _last_day(orchestrator: FinetuningOrchestrator) -> dict[str, Any]:
    counts = count(orchestrator.jobs.engine, DAY, datetime.now(UTC))
    measured = {"inferences": counts.inferences, "errors": counts.errors, "error_rate": counts.error_rate}
    return {"hours": DAY, **measured, "unmeasured": counts.unmeasured}
