"""RegressionTester: the fine-tuning guide's regression suites, over the index, the data and the database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from mondegreen.config import GuideConfig, Params, RegressParams, params_of
from mondegreen.db import open_database
from mondegreen.errors import CaseError, MondegreenError, UsageError
from mondegreen.monitoring.records import Trend, printable
from mondegreen.monitoring.statistics import trend_through
from mondegreen.records import Outcome, RegressionResults
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.regression_runs import RegressionRun, last_of_each_model, latest_run, list_runs, store_run
from mondegreen.regression.adding import register_suite
from mondegreen.regression.judging import paired_limit, prepare_data, stored_baseline_fault
from mondegreen.regression.runner import ProgressBar, measure, run_suites, untracked
from mondegreen.regression.suites import Suite, load_index, set_fields
from mondegreen.reports.regression import SUITE_METRICS, suite_rate
from mondegreen.scoring.wording import many
from mondegreen.speech.corpus_transcription import TranscribeFn, corpus_transcriber

ReportFormat = Literal["markdown", "html", "json"]


class RegressionConfig(RegressParams, GuideConfig):
    """The section `regress` of params.yaml."""

    section = "regress"


class RegressionTester:
    """Suites that a new model must not be worse on.

    Args:
        config: the knobs; those of `params` when not given.
        params: validate, score and seed are read; params.yaml here, or the defaults without one.
        store: folder of the database of live state; the project's var/ when not given.
    """

    def __init__(
        self,
        config: RegressionConfig | None = None,
        *,
        params: Params | None = None,
        store: Path | str | None = None,
    ) -> None:
        given = params or params_of()
        self.config = config or RegressionConfig.from_params(given)
        self.params = given.model_copy(update={"regress": self.config})
        self.store = Path(store) if store is not None else live_state()

    @cached_property
    def engine(self) -> Engine:
        """The database. Raises CaseError when it cannot be opened."""
        return open_database(self.store)

    def register_test(
        self,
        test_name: str,
        test_type: str = "benchmark",
        test_data_path: Path | str | None = None,
        baseline_wer: float | None = None,
        baseline_cer: float | None = None,
        baseline_version: str | int = "",
        margin: float | None = None,
        severity: str = "",
        owner: str = "",
        *,
        behaviour: dict[str, Any] | None = None,
        replace: bool = False,
        track: ProgressBar = untracked,
    ) -> str:
        """Adds a suite to the index, or changes nothing when the same one is there; its name, by which it is known.

        Every recording is decoded first. Data that lie elsewhere are copied to a folder beside the index.

        Args:
            test_name: letters, digits, dots, dashes, underscores, and blanks between them.
            test_type: benchmark, critical, edge_cases or behaviour.
            test_data_path: a folder with references.csv, such a file, or JSON lines (.jsonl); none for silence.
            baseline_wer: what some version reached on these data, a fraction.
            baseline_cer: the same.
            baseline_version: which version.
            margin: that may be lost, absolute; `regress.margin` when not given.
            severity: how bad a loss is, for reports.
            owner: whom to ask.
            behaviour: what a suite of type behaviour does; docs/regression.md lists the kinds.
            replace: the entry that has this name.
            track: shows progress.

        Raises:
            UsageError: a field or a row is wrong, or another suite has that name.
            AudioError: recordings are damaged; names them.
        """
        fields: dict[str, Any] = {
            "name": test_name,
            "type": test_type,
            "margin": self.config.margin if margin is None else margin,
            "severity": severity,
            "owner": owner,
            "behaviour": behaviour,
            "baseline_wer": baseline_wer,
            "baseline_cer": baseline_cer,
            "baseline_version": baseline_version,
        }
        source = Path(test_data_path) if test_data_path is not None else None
        return register_suite(fields, source, self.params, self._lock, replace=replace, track=track).name

    def measure_baseline(
        self,
        model_version: str,
        model_transcribe_fn: TranscribeFn,
        test_names: Sequence[str] | None = None,
        track: ProgressBar = untracked,
    ) -> dict[str, dict[str, Any]]:
        """Scores a model on suites and stores what it reaches as their baseline.

        Args:
            test_names: all suites when not given.

        Returns:
            The fields that were stored, by suite.

        Raises:
            MondegreenError: there is no such suite, its data are wrong, or the model has no transcript of a recording.
        """
        suites = load_index(self.config.suites)
        if unknown := set(test_names or ()) - {suite.name for suite in suites}:
            raise UsageError(
                f"{self.config.suites} has no suite {', '.join(sorted(unknown))}.",
                "`mondegreen regression list` shows them.",
            )
        chosen = [suite for suite in suites if test_names is None or suite.name in test_names]
        model = corpus_transcriber(model_transcribe_fn)
        found = measure(chosen, self.config.suites, model, str(model_version), self.params, track)
        set_fields(self.config.suites, found, self._lock)
        return found

    def run_test_suite(
        self,
        model_version: str,
        model_transcribe_fn: TranscribeFn,
        baseline_transcribe_fn: TranscribeFn | None = None,
        track: ProgressBar = untracked,
    ) -> RegressionResults:
        """Runs every suite of the index and puts the run on record.

        Args:
            model_version: what the model is called.
            model_transcribe_fn: takes the path of a recording and gives its text (or a thing with a `text`). The
                method `transcribe` of a `BaselineSTTModel` is used in batches.
            baseline_transcribe_fn: of the model before it; without it the stored baselines are compared with.
            track: shows progress.

        Returns:
            passed only when every suite passed and the run is on record; reason, suites, to_dict().

        Raises:
            CaseError: the database cannot be opened. Nothing was run then.
            UsageError: the baseline is the model itself. Nothing was run either.
        """
        engine = self.engine
        results = run_suites(
            self.config.suites,
            corpus_transcriber(model_transcribe_fn),
            corpus_transcriber(baseline_transcribe_fn) if baseline_transcribe_fn else None,
            self.params,
            model_version=str(model_version),
            track=track,
        )
        try:
            store_run(engine, results)
        except CaseError as error:
            reason = f"{results.reason}; but the run is not on record, so it does not count: {error}"
            return results.model_copy(update={"passed": False, "reason": reason})
        return results

    def get_history(self, limit: int | None = None) -> list[RegressionRun]:
        """The runs on record, newest first."""
        return list_runs(self.engine, limit)

    def get_latest_run(self, model_digest: str) -> RegressionRun | None:
        """The last run of a model."""
        return latest_run(self.engine, model_digest)

    def get_trend(self, test_name: str, metric: str = "wer", time_window_days: float = 365.0) -> dict[str, Any]:
        """How a suite's rate went over the runs.

        Args:
            metric: wer, cer or violation_rate.

        Returns:
            values, latest, mean, slope (a day), improvement (positive is better), which are NaN where there are none,
            and reason, why.

        Raises:
            UsageError: there is no such metric.
        """
        since = datetime.now(UTC) - timedelta(days=time_window_days)
        return printable(suite_trend(list_runs(self.engine, since=since), test_name, metric).model_dump(mode="json"))

    def generate_regression_report(self, format: ReportFormat = "markdown", limit: int = 20) -> str:
        """The last run in words, and every suite over the versions.

        Args:
            format: markdown; html, a fragment for a page; or json.
            limit: that many models, the newest ones.
        """
        from mondegreen.reports import regression as page

        runs = last_of_each_model(self.engine, limit)
        return {"markdown": page.markdown, "html": page.html, "json": page.as_json}[format](runs)

    @property
    def _lock(self) -> Path:
        """Not below data/, whose digest DVC keeps."""
        return self.store / "locks" / "regression-index.lock"


def suite_trend(runs: Sequence[RegressionRun], name: str, metric: str) -> Trend:
    """The trend of a suite's rate over runs; a run that gave no rate is left out.

    Raises:
        UsageError: there is no such metric.
    """
    if metric not in SUITE_METRICS:
        raise UsageError(f"There is no metric {metric!r} of suites.", f"Choose one of {', '.join(SUITE_METRICS)}.")
    values = [
        (run.at, value)
        for run in runs
        for suite in run.results.suites
        if suite.name == name and (value := suite_rate(suite, metric)) is not None
    ]
    too_few = f"{many(len(values), 'run')} of suite {name} with a value, two at different times are needed"
    return trend_through(metric, values, too_few)


class Listed(BaseModel):
    """A suite of the index. `problem` says why it would fail before a model transcribes, "" when it would not.

    `limit` says why a model that loses a word cannot pass it, "" when it can.
    """

    model_config = ConfigDict(frozen=True)

    suite: Suite
    recordings: int
    stored_baseline_fault: str  # "" when it can be compared with
    last_outcome: Outcome | None  # in the newest run on record, None when it was not in there
    problem: str
    limit: str = ""


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
        prepared = prepare_data(suite, index, params)
    except (MondegreenError, OSError) as error:
        return Listed(suite=suite, recordings=0, stored_baseline_fault="", last_outcome=last, problem=str(error))
    fault = stored_baseline_fault(prepared, params)
    recordings = len(prepared.data.utterances)
    return Listed(
        suite=suite,
        recordings=recordings,
        stored_baseline_fault=fault,
        last_outcome=last,
        problem="",
        limit=paired_limit(prepared, params),
    )
