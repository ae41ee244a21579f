"""RegressionTester: the fine-tuning guide's regression suites, over the index, the data and the database."""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine

from mondegreen.config import GuideConfig, Params, RegressParams, params_of
from mondegreen.db import open_database
from mondegreen.errors import AudioError, CaseError, MondegreenError, UsageError
from mondegreen.files import lock, sha256_file, sha256_tree, sync
from mondegreen.monitoring.records import Trend, printable
from mondegreen.monitoring.statistics import trend_through
from mondegreen.records import Outcome, RegressionResults
from mondegreen.registry.mlflow_store import live_state
from mondegreen.registry.regression_runs import RegressionRun, last_of_each_model, latest_run, list_runs, store_run
from mondegreen.regression import json_lines
from mondegreen.regression.judging import PreparedSuite, prepare_data, stored_baseline_fault
from mondegreen.regression.runner import ProgressBar, measure, provenance, run_suites, untracked
from mondegreen.regression.suites import Suite, SuiteData, load_index, put_suite, read_suite_data, set_fields, suite_of
from mondegreen.reports.regression import SUITE_METRICS, suite_rate
from mondegreen.scoring.wording import many
from mondegreen.speech.audio import load_audio
from mondegreen.speech.corpus_transcription import TranscribeFn, corpus_transcriber

ReportFormat = Literal["markdown", "html", "json"]
TABLE = "references.csv"
_STAGING = ".adding-"  # a folder that a killed import left; the next one removes it
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?")
_NAMED = 10  # damaged recordings that an error names


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
        """The last run of a model, which is the one that counts."""
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
    """A suite of the index. `problem` says why it would fail before a model transcribes, "" when it would not."""

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
        prepared = prepare_data(suite, index, params.score.normalizer)
    except (MondegreenError, OSError) as error:
        return Listed(suite=suite, recordings=0, stored_baseline_fault="", last_outcome=last, problem=str(error))
    fault = stored_baseline_fault(prepared, params)
    recordings = len(prepared.data.utterances)
    return Listed(suite=suite, recordings=recordings, stored_baseline_fault=fault, last_outcome=last, problem="")


def register_suite(
    fields: Mapping[str, Any],
    source: Path | None,
    params: Params,
    lock_file: Path,
    *,
    replace: bool,
    track: ProgressBar,
) -> Suite:
    """Adds a suite; see `RegressionTester.register_test`.

    Args:
        fields: of its entry, without references.
        source: a folder with references.csv, such a file, or JSON lines. None for silence.
    """
    if not _NAME.fullmatch(fields["name"]):
        raise UsageError(
            f"{fields['name']!r} is no name for a suite.",
            "Use letters, digits, dots, dashes, underscores, and blanks between them; at most 64.",
        )
    if source is None or source.suffix.lower() not in json_lines.SUFFIXES:
        table = _table(source) if source is not None else None
        return _register_table(fields, table, params, lock_file, replace, track)
    with tempfile.TemporaryDirectory() as scratch:
        table = json_lines.table_of(source, Path(scratch))
        return _register_table(fields, table, params, lock_file, replace, track)


def _register_table(
    fields: Mapping[str, Any], table: Path | None, params: Params, lock_file: Path, replace: bool, track: ProgressBar
) -> Suite:
    name, index = fields["name"], params.regress.suites
    here = table is None or table.resolve().is_relative_to(index.parent.resolve())
    references = None
    if table is not None:
        references = table.resolve().relative_to(index.parent.resolve()) if here else Path(name) / TABLE
    suite = suite_of({**fields, "references": references})
    data = SuiteData()
    if table is not None:
        data = read_suite_data(name, table, params.score.normalizer)
        _check_recordings(data, track)
    if suite.has_baseline:
        known = provenance(PreparedSuite(suite, data), suite.baseline_version, params)
        suite = suite_of(suite.model_dump() | known)
    _check_free(suite, index, replace)
    if table is not None and not here:
        import_suite(name, table, data, index, lock_file)
    put_suite(index, suite, lock_file, replace)
    return suite


def import_suite(name: str, table: Path, data: SuiteData, index: Path, lock_file: Path) -> None:
    """Copies the CSV and what it names to a folder of its own beside the index.

    The copy is made under a hidden name and renamed when it is complete. After a crash in between, the same call
    finds the folder that was renamed already, or makes it anew.

    Args:
        table: the CSV.
        data: what it names, checked.
        lock_file: held meanwhile.

    Raises:
        UsageError: there is a folder of that name with something else in it.
    """
    folder = index.parent / name
    with lock(lock_file):
        for leftover in index.parent.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover)
        staging = index.parent / f"{_STAGING}{name}"
        try:
            _copy(data, table, staging)
            if not folder.exists():
                _sync(staging)
                staging.replace(folder)
            elif sha256_tree(folder) != sha256_tree(staging):
                raise UsageError(
                    f"{folder} exists already, with other contents.", "Choose another name, or remove the folder."
                )
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _copy(data: SuiteData, table: Path, staging: Path) -> None:
    staging.mkdir(parents=True)
    shutil.copyfile(table, staging / TABLE)
    for row in data.utterances:
        target = staging / row.recording
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(row.path, target)
        if sha256_file(target) != row.sha256:
            raise UsageError(f"{row.path} changed while it was copied.", "Nothing was imported; run it again.")


def _sync(folder: Path) -> None:
    """Everything in it on the disk, so that the name which it then gets holds nothing half, also after a power cut."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _table(source: Path) -> Path:
    table = source / TABLE if source.is_dir() else source
    if not table.is_file():
        raise UsageError(
            f"{table} does not exist.",
            f"Give a folder with a {TABLE} (path,text), such a file, or JSON lines (.jsonl).",
        )
    return table


def _check_recordings(data: SuiteData, track: ProgressBar) -> None:
    """Decodes every recording to its end; raises AudioError naming those that are damaged."""
    problems = []
    with track("checking recordings", len(data.utterances)) as on_progress:
        for done, row in enumerate(data.utterances, 1):
            try:
                load_audio(Path(row.path))
            except AudioError as error:
                problems.append(error)
            on_progress(done)
    if problems:
        several = " ".join(problem.problem for problem in problems[:_NAMED])
        raise AudioError(
            f"{len(problems)} of {len(data.utterances)} recordings cannot be used: {several}",
            "Nothing was imported. Repair them, or remove their rows.",
            problems[0].reason,
        )


def _check_free(suite: Suite, index: Path, replace: bool) -> None:
    """Said before anything is copied; `put_suite` asks again under its lock."""
    entries = load_index(index) if index.exists() else []
    if not replace and any(entry.name == suite.name and entry != suite for entry in entries):
        raise UsageError(
            f"{index} has another suite {suite.name} already.", "Choose another name, or add it with --replace."
        )
