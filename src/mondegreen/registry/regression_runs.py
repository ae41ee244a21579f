"""Runs of the regression suites in the database: stored, listed, the latest one of a model; and whether any are due."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Engine, Select, case, func, select

from mondegreen.config import RegressParams
from mondegreen.db import open_database, reading, transaction
from mondegreen.errors import CaseError, UsageError, first_fault
from mondegreen.files import path_text
from mondegreen.records import RegressionResults
from mondegreen.registry.mlflow_store import live_state
from mondegreen.tables import RegressionRunRow
from mondegreen.yaml_text import read_yaml

NO_SUITES = "no suites are registered"


def suites_registered(regress: RegressParams, project: Path = Path()) -> bool:
    """Whether a candidate must pass regression suites: the project has some, or regress.required says so.

    Only a project that plainly has none is let off: no data/regression at all, or an index whose list is empty.
    """
    try:
        return regress.required or bool(suites_named(regress, project))
    except UsageError:
        return True


def suites_named(regress: RegressParams, project: Path = Path()) -> frozenset[str]:
    """The names of the suites in the index; none where there plainly are none.

    Raises:
        UsageError: suites that cannot run: an index that cannot be read or that is named and not there, files without
            an index.
    """
    index = project / regress.suites
    step = f"Correct {regress.suites}; docs/regression.md says what it holds."
    if not index.is_file():
        if regress.suites != RegressParams().suites or any(index.parent.glob("*")):
            raise UsageError(f"{index} does not exist.", "Restore it (`dvc checkout`).")
        return frozenset()
    match read_yaml(path_text(index), str(index), step)[0]:
        case {"suites": [*suites], **others} if not others:
            names = [suite.get("name") if isinstance(suite, dict) else None for suite in suites]
            if all(isinstance(name, str) and name for name in names):
                return frozenset(map(str, names))
    raise UsageError(f"{index} is no list of suites with a name each.", step)


class RegressionRun(BaseModel):
    """A run as it was stored. `id` tells which of two came later; the clock may have moved."""

    model_config = ConfigDict(frozen=True)

    id: int
    at: datetime
    model_version: str
    model_digest: str  # "" when the caller gave only a function
    passed: bool
    reason: str
    results: RegressionResults


def store_run(engine: Engine, results: RegressionResults, at: datetime | None = None) -> RegressionRun:
    """Stores a run; when this returns it is on the disk.

    Raises:
        CaseError: the database refuses; then the run counts as none.
    """
    row = RegressionRunRow(
        at=at or datetime.now(UTC),
        model_version=results.model_version,
        model_digest=results.model,
        passed=results.passed,
        reason=results.reason,
        results=results.to_dict(),
    )
    with transaction(engine) as session:
        session.add(row)
        session.flush()
        return _run(row)


def record_run(results: RegressionResults) -> RegressionRun:
    """Stores a run in the project's database, which it opens and closes.

    Raises:
        CaseError: the database is locked, read-only or gone; a run that is not on record does not count.
    """
    engine = open_database(live_state())
    try:
        return store_run(engine, results)
    finally:
        engine.dispose()


def list_runs(engine: Engine, limit: int | None = None, since: datetime | None = None) -> list[RegressionRun]:
    """The runs, newest first.

    Raises:
        CaseError: the database is damaged, or a row is not what this version writes.
    """
    query = select(RegressionRunRow).order_by(RegressionRunRow.id.desc()).limit(limit)
    return _runs(engine, query if since is None else query.where(RegressionRunRow.at >= since))


def latest_run(engine: Engine, digest: str) -> RegressionRun | None:
    """The last run of a model. None when it has none; "" names no model.

    Raises:
        CaseError: like `list_runs`.
    """
    return next(iter(runs_of_model(engine, digest, limit=1)), None)


def runs_of_model(engine: Engine, digest: str, limit: int | None = None) -> list[RegressionRun]:
    """The runs of a model, newest first; none of "", which names no model.

    Raises:
        CaseError: like `list_runs`.
    """
    query = select(RegressionRunRow).where(RegressionRunRow.model_digest == digest)
    return _runs(engine, query.order_by(RegressionRunRow.id.desc()).limit(limit)) if digest else []


def last_of_each_model(engine: Engine, limit: int | None = None) -> list[RegressionRun]:
    """The last run of each model (each version, where nobody knows the digest), oldest first.

    Args:
        limit: that many models, the newest ones.

    Raises:
        CaseError: like `list_runs`.
    """
    digest, version = RegressionRunRow.model_digest, RegressionRunRow.model_version
    model = case((digest == "", "version " + version), else_=digest)
    newest = select(func.max(RegressionRunRow.id).label("id")).group_by(model)
    newest = newest.order_by(func.max(RegressionRunRow.id).desc()).limit(limit)
    chosen = RegressionRunRow.id.in_(select(newest.subquery().c.id))
    return _runs(engine, select(RegressionRunRow).where(chosen).order_by(RegressionRunRow.id))


def _runs(engine: Engine, query: Select[RegressionRunRow]) -> list[RegressionRun]:
    with reading(engine) as session:
        return [_run(row) for row in session.scalars(query)]


def _run(row: RegressionRunRow) -> RegressionRun:
    try:
        return RegressionRun.model_validate(row, from_attributes=True)
    except ValidationError as error:
        fault = first_fault(error, RegressionRun)
        raise CaseError(
            f"Run {row.id} of regression_runs: field {fault.field}: {fault.message}.",
            "It was changed by hand or written by another version: run the suites again.",
        ) from None
