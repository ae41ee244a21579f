"""A round: freeze the corrected cases, run the pipeline, read its verdict, end the job.

What dies on the way is found by the next `run` or `watch`: the steps can be repeated, `dvc repro` goes on where it
was, training goes on from its checkpoints. Whoever works on a round holds a file lock that the pipeline's process
inherits: when the runner is killed and its `dvc repro` lives on, nobody starts a second one beside it. On PostgreSQL,
which several machines may share, the runner also holds an advisory lock.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from mondegreen.cases.records import AUDIT
from mondegreen.cases.repository import DATA, FOLDER, POINTER
from mondegreen.db import Advisory, advisory_lock, reading
from mondegreen.errors import CaseError, JobError, MondegreenError, UsageError
from mondegreen.files import flock, read_json
from mondegreen.git import mend_lock
from mondegreen.loop.jobs import ENDED, WORKING, Job, Jobs, RoundState
from mondegreen.loop.pipeline import (
    PIPELINE,
    Interrupted,
    current_branch,
    enter_branch,
    free_branch,
    leave_branch,
    require_clean,
    run_pipeline,
    tail,
)
from mondegreen.records import RegisteredVersion, RegressionResults
from mondegreen.scoring.verdict import Verdict
from mondegreen.tables import CaseRow

_PATIENCE = 2.0  # seconds; somebody who only looks holds the lock for a moment
MAX_ATTEMPTS = 3  # runs of a job whose runner keeps dying
EVALUATION = frozenset({"evaluate", "validate", "regress", "register"})
_STAGE = re.compile(r"(?:Running stage|Stage) '([^':]+)'")
# Tries a write for half an hour while the database is away.
_patiently = Retrying(
    retry=retry_if_exception_type((CaseError, DBAPIError)),
    wait=wait_exponential(max=60),
    stop=stop_after_delay(1800),
    reraise=True,
)
_log = logging.getLogger(__name__)

TakeSnapshot = Callable[[], int]


@dataclass(frozen=True)
class StageProgress:
    """A line of the pipeline's output and where the round is."""

    line: str
    stage: str  # "" before the first
    number: int  # of the stage, from 1
    stages: int


OnStageProgress = Callable[[StageProgress], None]


@dataclass(frozen=True)
class Round:
    """What a round works with."""

    jobs: Jobs
    project: Path
    snapshot: TakeSnapshot
    pipeline: Sequence[str]
    branch: bool

    def hold(self) -> AbstractContextManager[int]:
        """The lock of whoever works on a round here."""
        return hold(self._lock, self.jobs.engine)

    def worker(self) -> str | None:
        """Who holds it."""
        return worker(self._lock, self.jobs.engine)

    def log(self, job_id: int) -> Path:
        """Where the pipeline's output goes."""
        return self.project / "var" / "jobs" / f"{job_id}.log"

    def move(self, job: Job, after: RoundState, reason: str, **facts: Any) -> Job:
        """A transition that outlasts a restart of the database: the work before it took hours."""
        return _patiently(self.jobs.move, job.id, job.state, after, reason, **facts)

    @property
    def _lock(self) -> Path:
        return self.project / "var" / "locks" / "round.lock"


def run_round(work: Round, job_id: int, on_progress: OnStageProgress | None = None) -> Job:
    """Runs a job that is approved, or whose runner died or was stopped, to its end.

    Returns:
        The job, completed or failed.

    Raises:
        JobError: it is in another state, somebody works on a round, data/ is not what it froze, or the disk refuses;
            but for the first, it waits for the next run as it was.
        Interrupted: the pipeline was stopped; the job waits for the next run.
    """
    if tuple(work.pipeline) == PIPELINE and not (work.project / "dvc.yaml").is_file():
        raise UsageError(f"{work.project.resolve()} has no dvc.yaml.", "Run from the project root.")
    with work.hold() as lock:
        job = work.jobs.get(job_id)
        _require_frozen(work, job)
        job = _start(work, job)
        if job.state == "failed":
            return job
        try:
            job = _prepare(work, job)
            return _finish(work, _run_stages(work, job, lock, on_progress))
        except (KeyboardInterrupt, SystemExit, Interrupted) as stop:
            _put_back(work, job_id, stop)
            raise
        except MondegreenError as error:
            return _fail(work, job_id, error)
        except OSError as error:
            _put_back(work, job_id, error)
            raise JobError(
                f"Job {job_id} cannot go on: {error}.",
                "Make room on the disk, or correct what it names; then run again.",
            ) from error


def _require_frozen(work: Round, job: Job) -> None:
    """Raises JobError where data/ is not what a round that goes on has frozen, as after a checkout or elsewhere.

    It would train on something else, and its cases would count as used all the same.
    """
    if job.dataset_version is None or job.state in ENDED:
        return
    from mondegreen.cases.card import read_card
    from mondegreen.cases.versions import TAGS

    card = read_card(work.project / DATA / FOLDER)
    if card is None or card.version != job.dataset_version:
        holds = f"version {card.version}" if card else "none"
        raise JobError(
            f"Job {job.id} froze version {job.dataset_version} of the failed cases, data/{FOLDER} holds {holds}.",
            f"`git checkout {TAGS}/v{job.dataset_version} -- {POINTER} && dvc checkout {POINTER}` (`dvc pull` where the"
            f" cache lacks it), and run again; or `mondegreen reject {job.id} --reason …`, and ask for a new round.",
        )


def _start(work: Round, job: Job) -> Job:
    """To `preparing`, for the first time or again; to `failed` when its runners keep dying."""
    if job.state not in WORKING:
        return work.jobs.move(job.id, job.state, "preparing", "started")
    attempt = job.crashes + 2
    if attempt > MAX_ATTEMPTS:
        reason = f"its runner died {MAX_ATTEMPTS} times, the last time while {job.state}; see {work.log(job.id)}"
        leave(work, job, reason)
        return work.jobs.move(job.id, job.state, "failed", reason)
    reason = f"its runner died while {job.state}: attempt {attempt} of {MAX_ATTEMPTS}"
    return work.jobs.move(job.id, job.state, "preparing", reason)


def _prepare(work: Round, job: Job) -> Job:
    """The snapshot and the branch, as far as they are not there yet."""
    branching = work.branch and "branch" not in job.details
    if branching:
        require_clean(work.project)
    if job.dataset_version is None:
        job = work.jobs.learn(job.id, job.state, dataset_version=_freeze(work))
    if branching:
        branch = free_branch(work.project, f"round/{job.id}")
        if branch != f"round/{job.id}":
            _log.warning("there is a branch round/%s already, which is left alone: this round's is %s", job.id, branch)
        places = {"branch": branch, "former": current_branch(work.project)}
        job = work.jobs.learn(job.id, job.state, details=places)  # first written down, then done
    if "branch" in job.details:
        enter_branch(work.project, job.details["branch"])
    return job


def _freeze(work: Round) -> int | None:
    """The dataset version of this round: a new one, the present one when nothing is new, None without corrections."""
    with reading(work.jobs.engine) as session:
        taught = CaseRow.label_method.is_not(None) & (CaseRow.source != AUDIT)
        corrected = session.scalar(select(CaseRow.id).where(taught).limit(1))
    if corrected is None:
        _log.info("no case is corrected: the round trains without failed cases")
        return None
    return work.snapshot()


def _run_stages(work: Round, job: Job, lock: int, on_progress: OnStageProgress | None) -> Job:
    """Runs the pipeline and follows its stages; raises JobError when one fails."""
    stages = _stages(work.project)
    log = work.log(job.id)
    job = work.move(job, "training", " ".join(["runs", *work.pipeline]), details={"log": str(log)})
    stage = ""

    def on_line(line: str) -> None:
        nonlocal job, stage
        if found := _STAGE.search(line):
            stage = found[1]
            if stage in EVALUATION and job.state == "training":
                job = work.move(job, "evaluating", f"stage {stage}")
        if on_progress:
            number = stages.index(stage) + 1 if stage in stages else 0
            on_progress(StageProgress(line, stage, number, len(stages)))

    mend_lock(work.project)
    code = run_pipeline(work.pipeline, work.project, log, lock, on_line)
    if code:
        where = f"stage {stage}" if stage else "the pipeline"
        work.jobs.learn(job.id, job.state, details={"stage": stage})
        raise JobError(f"{where} failed with exit code {code}:\n{tail(log)}", f"The whole output is in {log}.")
    return job if job.state == "evaluating" else work.move(job, "evaluating", "the pipeline ended")


def _finish(work: Round, job: Job) -> Job:
    """Reads what the pipeline found and completes the job; a closed gate is a completed round too."""
    build = work.project / "build"
    verdict = Verdict.read(build / "validate" / "verdict.json")
    if verdict.outcome == "trial":
        raise JobError(
            "A round judges, and validate.on is dev, which only tries.", "Set validate.on to test, and run again."
        )
    suites = read_json(build / "regress" / "results.json", RegressionResults)
    version = read_json(build / "register" / "version.json", RegisteredVersion)
    passed = verdict.outcome == "pass" and suites.outcome != "fail"
    gate = "the gate opened" if passed else "the gate stayed closed"
    reason = f"{gate}: {verdict.outcome}. {verdict.reason} Regression suites: {suites.reason}. {version}."
    leave(work, job, f"Round {job.id}: {verdict.outcome}")
    _log_in_mlflow(work, job, reason, completed=True, candidate=version.run_id)
    return work.move(
        job,
        "completed",
        reason,
        run_id=version.run_id,
        outcome=verdict.outcome,
        gain=verdict.wer_improvement,
        details={
            "passed": passed,
            "verdict": verdict.reason,
            "regression": suites.reason,
            "corrected": verdict.corrected.model_dump(mode="json") if verdict.corrected else None,
            "version": version.model_dump(mode="json"),
        },
    )


def _fail(work: Round, job_id: int, error: MondegreenError) -> Job:
    job = work.jobs.get(job_id)
    if job.state not in WORKING:  # somebody else moved it: theirs is the last word
        raise error
    _log.error("job %s failed while %s: %s", job_id, job.state, error.problem)
    leave(work, job, f"Round {job.id} failed while {job.state}")
    _log_in_mlflow(work, job, f"while {job.state}: {error}", completed=False)
    return work.move(job, "failed", f"while {job.state}: {error}")


def _log_in_mlflow(work: Round, job: Job, told: str, completed: bool, candidate: str = "") -> None:
    """The round's run, above that of its candidate. The job is what counts: a registry that is away only warns."""
    from mondegreen.registry.mlflow_store import registry_file, tracking_root
    from mondegreen.registry.run_logs import log_round

    database = registry_file()
    if tracking_root() != work.project.resolve() or (database and not database.is_file()):
        return  # nothing of this project was ever logged here
    try:
        log_round(job.id, job.requested_at, told, completed, candidate)
    except Exception as error:  # a full disk, a server that breaks off, a database that MLflow cannot migrate: any
        _log.warning("round %s has no run in MLflow: %s", job.id, error)


def _put_back(work: Round, job_id: int, stop: BaseException) -> None:
    """To `approved`: the next run goes on, and this one does not count as a crash."""
    why = str(stop) or type(stop).__name__
    try:
        job = work.jobs.get(job_id)
        if job.state in WORKING:
            work.jobs.move(job_id, job.state, "approved", f"stopped while {job.state} ({why}); the next run goes on")
    except (MondegreenError, DBAPIError) as error:
        _log.warning("job %s stays as it is, the next run finds it: %s", job_id, error)


def leave(work: Round, job: Job, message: str) -> None:
    """Back from the round's branch; where git refuses, the round's own end matters more."""
    if "branch" not in job.details:
        return
    try:
        leave_branch(work.project, job.details["branch"], job.details["former"], message)
    except JobError as error:
        _log.warning("the work tree stays on %s: %s", job.details["branch"], error)


def _stages(project: Path) -> list[str]:
    """The stages as dvc.yaml lists them, none where there is no such file."""
    path = project / "dvc.yaml"
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]) if path.is_file() else []


@contextmanager
def hold(path: Path, engine: Engine) -> Iterator[int]:
    """Holds the lock; yields its file descriptor, for a child that shall hold it too.

    Raises:
        JobError: somebody else holds it.
    """
    with flock(path, _PATIENCE) as handle:
        if handle is None:
            raise JobError(f"A round is being worked on by {_holder(path)} ({path}).", "Wait for it, or stop it first.")
        with advisory_lock(engine, Advisory.ROUND, _PATIENCE) as free:
            if not free:
                raise JobError("A round is being worked on by another machine.", "Wait for it, or stop it first.")
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield handle


def worker(path: Path, engine: Engine) -> str | None:
    """Who holds the lock, None when it is free."""
    if path.is_file():
        with flock(path, 0, shared=True) as handle:
            if handle is None:
                return _holder(path)
    with advisory_lock(engine, Advisory.ROUND) as free:
        return None if free else "another machine"


def _holder(path: Path) -> str:
    """The runner as it wrote itself down; a pipeline that outlived it holds the lock in its name."""
    pid = path.read_text(errors="replace").strip()
    return f"process {pid}" if pid.isdigit() and _lives(int(pid)) else f"the pipeline that process {pid} left behind"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
