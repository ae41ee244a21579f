"""Running the regression suites: all are heard in one batch, and all must pass. No suites is not a pass.

That every one must pass is an intersection-union test: its level is that of the single tests, without a correction
(Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from mondegreen.config import Params
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.loop.ears import Ear, OnProgress
from mondegreen.loop.regression.behaviours import Heard
from mondegreen.loop.regression.index import Suite, load_index
from mondegreen.loop.regression.judging import judge
from mondegreen.loop.regression.plans import Plan, Track, hear_plans, plan_suite
from mondegreen.records import RegressionResults, SuiteResult

Made = TypeVar("Made")
logger = logging.getLogger(__name__)


@contextmanager
def untracked(what: str, total: int) -> Iterator[OnProgress]:
    """No progress bar."""
    yield lambda done: None


def run_suites(
    index: Path,
    candidate: Ear,
    baseline: Ear | None,
    params: Params,
    *,
    model_version: str = "",
    track: Track = untracked,
) -> RegressionResults:
    """Runs every suite; a suite that raises fails and the others still run.

    Args:
        index: suites.yaml.
        candidate: the model that must not be worse.
        baseline: the model before it; without it the suites' stored baselines are compared with.
        params: validate, score, regress and seed are read.
        model_version: what the results call the candidate.
        track: shows progress.
    """
    names = {"model": candidate.digest, "model_version": model_version, "baseline_model": ""}
    if baseline is not None:
        names["baseline_model"] = baseline.digest
    try:
        suites = _suites_to_run(index, candidate, baseline)
    except MondegreenError as error:
        return RegressionResults(passed=False, reason=str(error), suites=[], **names)
    with TemporaryDirectory(prefix="mondegreen-") as folder:
        results = _run(suites, index, Path(folder), candidate, baseline, params, track)
    shut = [result.name for result in results if result.outcome != "pass"]
    critical = [result.name for result in results if result.critical]
    reason = f"not passed: {', '.join(shut)}" if shut else f"{len(results)} suites passed"
    if critical:
        reason = f"CRITICAL DEGRADATION in {', '.join(critical)}; {reason}"
    return RegressionResults(passed=not shut, reason=reason, suites=results, **names)


def _suites_to_run(index: Path, candidate: Ear, baseline: Ear | None) -> list[Suite]:
    """The suites of the index; raises UsageError when nothing could be shown with them."""
    if baseline is not None and candidate.digest and baseline.digest == candidate.digest:
        raise UsageError(
            f"The baseline is the same model ({candidate.digest[:12]}): nothing was shown.",
            "Name the model before it, or compare with the stored baselines alone.",
        )
    if not (suites := load_index(index)):
        raise UsageError(f"{index} lists no suites: nothing was shown.", "`mondegreen regression add` adds one.")
    return suites


def _run(
    suites: Sequence[Suite],
    index: Path,
    folder: Path,
    candidate: Ear,
    baseline: Ear | None,
    params: Params,
    track: Track,
) -> list[SuiteResult]:
    planned = [
        _or_failed(suite, partial(plan_suite, suite, index, folder, params.score.normalizer)) for suite in suites
    ]
    plans = [plan for plan in planned if isinstance(plan, Plan)]
    before = hear_plans(baseline, plans, "baseline", track) if baseline and plans else None
    after = hear_plans(candidate, plans, "candidate", track) if plans else {}
    return [
        item if isinstance(item, SuiteResult) else _or_failed(item.suite, partial(_judge, item, before, after, params))
        for item in planned
    ]


def _judge(
    plan: Plan,
    before: dict[str, Heard | Exception] | None,
    after: dict[str, Heard | Exception],
    params: Params,
) -> SuiteResult:
    def heard(of: dict[str, Heard | Exception]) -> Heard:
        found = of[plan.suite.name]
        if isinstance(found, Exception):
            raise found
        return found

    return judge(plan, heard(before) if before is not None else None, heard(after), params)


def _or_failed(suite: Suite, work: Callable[[], Made]) -> Made | SuiteResult:
    """What the work gives; when it raises, a suite that failed: one that did not run shows nothing."""
    try:
        return work()
    except Exception as error:  # the other suites still run
        if not isinstance(error, (MondegreenError, OSError)):
            logger.exception("Suite %s raised.", suite.name)
        reason = str(error) if isinstance(error, MondegreenError) else f"{type(error).__name__}: {error}"
        return SuiteResult(
            name=suite.name,
            kind=suite.type,
            outcome="fail",
            reason=f"the suite did not run: {reason}",
            severity=suite.severity,
            owner=suite.owner,
        )
