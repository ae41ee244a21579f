"""`mondegreen check | trigger | approve | reject | jobs | run | watch`: when a round starts, who lets it, its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import (
    STORE,
    Column,
    JsonOption,
    StoreOption,
    answer,
    duration,
    require_project,
    round_progress,
    table,
)
from mondegreen.errors import UsageError
from mondegreen.progress import terminable, until_stopped
from mondegreen.scoring.wording import points

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.loop.jobs import Job
    from mondegreen.loop.orchestrator import FinetuningOrchestrator

JobArgument = Annotated[int, typer.Argument(metavar="ID", help="Number of the job.")]


@contextmanager
def orchestrator(store: Path) -> "Iterator[FinetuningOrchestrator]":
    """The orchestrator of the project here, on a store that only opens the database.

    Raises:
        UsageError: here is neither a project nor a store.
    """
    from mondegreen.loop.jobs import LiveState
    from mondegreen.loop.orchestrator import FinetuningOrchestrator

    require_project(store)
    live = LiveState(store)
    try:
        yield FinetuningOrchestrator(live)
    finally:
        live.close()


def check(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Say whether a round should start, and why.

    Exits with 0 when it should, with 1 when not: `mondegreen check && mondegreen trigger`.
    """
    with orchestrator(store) as found:
        conditions = found.check_trigger_conditions()
        job = found.open_job()
    answer(conditions | {"open_job": job.to_dict() if job else None}, _check_lines(conditions, job), as_json)
    if not conditions["should_trigger"]:
        raise typer.Exit(1)


def trigger(
    force: Annotated[bool, typer.Option("--force", help="Also when the conditions are not met.")] = False,
    approve: Annotated[
        bool | None,
        typer.Option("--approve/--no-approve", help="Let it run at once; trigger.auto_approve_finetuning otherwise."),
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Ask for a round. There is one open round at a time.

    Exits with 1 when the conditions are not met.
    """
    with orchestrator(store) as found:
        job = found.trigger_finetuning(force=force, approve=approve)
    answer(job.to_dict(), job.note or f"Job {job.id}: {job.state}. {' '.join(job.reasons)}", as_json)


def approve(
    job_id: JobArgument,
    by: Annotated[str | None, typer.Option(help="Who approves; your login name when not given.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Let a round run that waits for approval."""
    with orchestrator(store) as found:
        job = found.approve_job(job_id, by)
    text = f"Job {job.id} is approved: `mondegreen run` runs it, and so does `mondegreen watch`."
    answer(job.to_dict(), text, as_json)


def reject(
    job_id: JobArgument,
    reason: Annotated[str, typer.Option(help="Why; kept with the job.")],
    by: Annotated[str | None, typer.Option(help="Who rejects; your login name when not given.")] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """End a round that waits, or one that was interrupted."""
    with orchestrator(store) as found:
        job = found.reject_job(job_id, reason, by)
    answer(job.to_dict(), f"Job {job.id} is rejected: {reason}", as_json)


def jobs(
    job_id: Annotated[int | None, typer.Argument(metavar="[ID]", help="Only this one, with its history.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """List the rounds, newest first, or show one."""
    with orchestrator(store) as found:
        if job_id is not None:
            job = found.get_job(job_id)
            answer(job.to_dict(), _history(job), as_json)
            return
        listed = found.list_jobs(limit)
    answer([job.to_dict() for job in listed], _jobs(listed), as_json)


def run(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """Run the approved round, or go on with one that was interrupted.

    Exits with 0 when the candidate passed, with 1 when the gate stayed closed or the round failed.
    """
    with terminable(), orchestrator(store) as found, round_progress(stream=True) as progress:
        job = found.run_job(on_progress=progress)
    answer(job.to_dict(), f"Job {job.id} {job.state}: {job.events[-1].reason}", as_json)
    if not job.passed:
        raise typer.Exit(1)


def watch(
    once: Annotated[bool, typer.Option("--once", help="One look, for cron, systemd timers and CI.")] = False,
    interval: Annotated[str | None, typer.Option(help="Look so often: 30s, 5m, 1h. Without --once: 5m.")] = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a look, one a line.")] = False,
) -> None:
    """Check, ask for a round, and run it when it is approved; go on with one that was interrupted.

    Prints a line a look. With --once it exits with 1 when the round that it ran failed or found the gate closed. A
    database that is away is waited for. SIGTERM and ctrl-C stop a round that runs; the next look goes on with it.
    """
    from mondegreen.loop.orchestrator import watch as turns

    if once and interval:
        raise UsageError("--once and --interval exclude each other.", "Give one of them.")
    advice = "Give seconds, minutes or hours: 30s, 5m, 1h."
    pause = None if once else duration(interval or "5m", "--interval", "smhd", advice).total_seconds()
    found = None
    with terminable() if once else until_stopped():
        for found in turns(lambda: orchestrator(store), pause, _warn, lambda: round_progress(stream=False)):
            answer(found, f"{found.at:%Y-%m-%d %H:%M:%S} {found.text}", as_json)
    if once and found and not found.ok:
        raise typer.Exit(1)


def _check_lines(conditions: dict[str, Any], job: "Job | None") -> Iterator[str]:
    yield "A round should start." if conditions["should_trigger"] else "No round should start."
    yield from (f"  {reason}" for reason in conditions["reasons"])
    yield "The rule: enough new error cases and enough of them corrected, or a high error rate on enough inferences."
    for step in conditions["adaptive"]:
        yield f"  Adaptive: {step['before']} -> {step['after']} error cases after job {step['job']} ({step['text']})."
    if conditions["rest"]:
        yield conditions["rest"]["text"]
    if job:
        yield f"Job {job.id} is open ({job.state}): a new one starts when it has ended."


def _history(job: "Job") -> Iterator[str]:
    yield f"Job {job.id}: {job.state}"
    facts = {
        "dataset version": job.dataset_version,
        "MLflow run": job.run_id,
        "verdict": job.outcome,
        "gain (WER)": None if job.gain is None else points(job.gain),
        "log": job.details.get("log"),
        "branch": job.details.get("branch"),
    }
    yield from (f"{name}: {value}" for name, value in facts.items() if value is not None)
    for event in job.events:
        yield f"{event.at:%Y-%m-%d %H:%M:%S}  {event.before or '-'} -> {event.after}: {event.reason}"


def _jobs(listed: "list[Job]") -> "Iterator[str | RenderableType]":
    if not listed:
        yield "No round was asked for yet: `mondegreen check` says whether one should start."
        return
    yield table(
        listed,
        Column("job", lambda job: job.id),
        Column("state", lambda job: job.state),
        Column("asked for", lambda job: f"{job.requested_at:%Y-%m-%d %H:%M}"),
        Column("dataset", lambda job: f"v{job.dataset_version}" if job.dataset_version else ""),
        Column("verdict", lambda job: job.outcome or ""),
        Column("gain", lambda job: "" if job.gain is None else points(job.gain)),
    )


def _warn(text: str) -> None:
    typer.echo(text, err=True)
