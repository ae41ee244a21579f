"""Putting a run of the suites on record, from a stage or a tester."""

from pathlib import Path

from mondegreen.cases.database import open_database
from mondegreen.cases.regression_runs import RegressionRun, store_run
from mondegreen.records import RegressionResults
from mondegreen.registry.location import tracking_root


def live_folder() -> Path:
    """Where live state is: of the workspace, also from DVC's temporary copies of it."""
    return tracking_root() / "var"


def record(results: RegressionResults) -> RegressionRun:
    """Stores a run in the project's database, which it opens and closes.

    Raises:
        CaseError: the database is locked, read-only or gone; a run that is not on record does not count.
    """
    engine = open_database(live_folder())
    try:
        return store_run(engine, results)
    finally:
        engine.dispose()
