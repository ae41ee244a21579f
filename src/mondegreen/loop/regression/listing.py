"""The suites as a person looks at them: what they hold, what is wrong with them, what they were measured at."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from mondegreen.cases.regression_runs import list_runs
from mondegreen.config import Params
from mondegreen.errors import MondegreenError
from mondegreen.loop.regression.index import Suite, load_index
from mondegreen.loop.regression.judging import stored_baseline_fault
from mondegreen.loop.regression.plans import plan_data
from mondegreen.records import Outcome


class Listed(BaseModel):
    """A suite of the index. `problem` says why it would fail before a model is heard, "" when it would not."""

    model_config = ConfigDict(frozen=True)

    suite: Suite
    recordings: int
    stored_baseline_fault: str  # "" when it can be compared with
    last_outcome: Outcome | None  # in the newest run on record, None when it was not in there
    problem: str


def list_suites(index: Path, engine: Engine, params: Params) -> list[Listed]:
    """Reads every suite's data; no model is loaded.

    Raises:
        UsageError: the index is wrong.
        CaseError: the database cannot be read.
    """
    newest = next(iter(list_runs(engine, limit=1)), None)
    last = {suite.name: suite.outcome for suite in newest.results.suites} if newest else {}
    return [_listed(suite, index, last.get(suite.name), params) for suite in load_index(index)]


def _listed(suite: Suite, index: Path, last: Outcome | None, params: Params) -> Listed:
    try:
        plan = plan_data(suite, index, params.score.normalizer)
    except (MondegreenError, OSError) as error:
        return Listed(suite=suite, recordings=0, stored_baseline_fault="", last_outcome=last, problem=str(error))
    fault = stored_baseline_fault(plan, params)
    recordings = len(plan.data.utterances)
    return Listed(suite=suite, recordings=recordings, stored_baseline_fault=fault, last_outcome=last, problem="")
