"""What the stages wrote: all of it for a report, and the short table that ends `make repro`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.config import Params, params_of
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.files import no_collection, path_text, read_json, read_jsonl
from mondegreen.records import (
    Alternative,
    Hypothesis,
    Problem,
    RegisteredVersion,
    Registration,
    RegressionResults,
    RunInfo,
    TrainingHistory,
    Utterance,
    Word,
)
from mondegreen.registry.aliases import holdings
from mondegreen.registry.resolving import AGAIN, lost
from mondegreen.scoring.normalizer import Measure
from mondegreen.scoring.verdict import Interval, Verdict, VerdictOutcome, slice_label
from mondegreen.scoring.wording import confidence, percent, points, probability, span

if TYPE_CHECKING:
    from mondegreen.registry.regression_runs import RegressionRun
    from mondegreen.scoring.paired_sets import PairedTestSets

Record = TypeVar("Record", bound=BaseModel)


class _Transcript(Hypothesis):
    """A hypothesis without its words' times and its N-best list, which no report shows and which are most of a file."""

    model_config = ConfigDict(extra="ignore")

    words: list[Word] = Field(default=[], validation_alias="no words")
    nbest: list[Alternative] = Field(default=[], validation_alias="no nbest")


@dataclass(frozen=True)
class StageOutputs:
    """A verdict, what it was made from, and what else is known; None or empty where a stage has not run."""

    verdict: Verdict
    sets: "PairedTestSets"
    params: Params
    run: RunInfo | None = None
    history: TrainingHistory | None = None
    audit: Mapping[str, Any] | None = None
    problems: tuple[Problem, ...] = ()
    regression: RegressionResults | None = None
    registered: RegisteredVersion | None = None
    suite_runs: "tuple[RegressionRun, ...]" = ()  # the last one of each model, oldest first
    project: Path = Path()  # what the utterances' paths are relative to


def read_outputs(build: Path = Path("build")) -> StageOutputs:
    """Reads the outputs of `dvc repro`. Regression results and version of another candidate are left out.

    Args:
        build: the folder of the stage outputs. Recordings and params.yaml are looked for from the current folder.

    Raises:
        RegistryError: the verdict is not as it was written.
        UsageError: validate has not run yet, a file is damaged, or hypotheses, manifest and params do not belong
            together.
    """
    from mondegreen.scoring.paired_sets import pair_test_sets
    from mondegreen.speech.manifest import Report

    verdict = Verdict.read(build / "validate" / "verdict.json")
    params = params_of()
    with no_collection():
        sets = pair_test_sets(
            read_jsonl(build / "prepare" / "manifest.jsonl", Utterance),
            read_jsonl(build / "transcribe" / "hypotheses.jsonl", _Transcript),
            read_jsonl(build / "evaluate" / "hypotheses.jsonl", _Transcript),
            params,
            trial=verdict.outcome == "trial",
        )
    report = _optional(build / "prepare" / "report.json", Report)
    return StageOutputs(
        verdict=verdict,
        sets=sets,
        params=params,
        run=_optional(build / "train" / "run.json", RunInfo),
        history=_optional(build / "train" / "history.json", TrainingHistory),
        audit=_tree(build / "label" / "audit.json"),
        problems=tuple(report.problems) if report else (),
        regression=_regression(build, verdict),
        registered=_registered(build, verdict),
    )


def _regression(build: Path, verdict: Verdict) -> RegressionResults | None:
    """Of the candidate that the verdict is about; another one's say nothing of it."""
    found = _optional(build / "regress" / "results.json", RegressionResults)
    return found if found and found.model == verdict.candidate_model else None


def _registered(build: Path, verdict: Verdict) -> RegisteredVersion | None:
    """The same."""
    found = _optional(build / "register" / "version.json", Registration)
    version = found.root if found and isinstance(found.root, RegisteredVersion) else None
    same = version and (version.digest, version.outcome) == (verdict.candidate_model, verdict.outcome)
    return version if same else None


def _optional(path: Path, kind: type[Record]) -> Record | None:
    return read_json(path, kind) if path.exists() else None


def _tree(path: Path) -> Mapping[str, Any] | None:
    if not path.exists():
        return None
    try:
        tree = json.loads(path_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}.", "Run `dvc repro --force label`.") from None
    if not isinstance(tree, dict):
        raise UsageError(f"{path} is not a JSON object.", "Run `dvc repro --force label`.")
    return tree


_COLORS: dict[VerdictOutcome, str] = {"pass": "green", "fail": "red", "inconclusive": "yellow", "trial": "cyan"}


class SummaryRow(BaseModel):
    """A slice under both models, rates as fractions."""

    model_config = ConfigDict(frozen=True)

    slice: str
    utterances: int
    baseline_wer: float
    candidate_wer: float
    baseline_cer: float
    candidate_cer: float


class Summary(BaseModel):
    """What came out of `dvc repro`; `model_dump(mode="json")` is the `--json` output."""

    model_config = ConfigDict(frozen=True)

    outcome: VerdictOutcome
    reason: str
    measure: Measure = "WER"  # CER: the rates under `wer` count characters
    forgetting: str  # in capital letters, when nothing shows what was forgotten; else ""
    rows: list[SummaryRow]
    wer_improvement: float | None
    interval: Interval | None
    p_value: float | None
    regression: str
    registered: RegisteredVersion | None
    lost: str  # a sentence when the registry that is asked does not have it
    now: str  # the aliases that it holds by now, where they are others than those that it was registered with
    report: str


def summary(build: Path = Path("build")) -> Summary:
    """Reads the stage outputs.

    Raises:
        UsageError: validate has not run yet, or one of its files is damaged.
        RegistryError: the verdict is not as it was written.
    """
    verdict = Verdict.read(build / "validate" / "verdict.json")
    suites, registered = _regression(build, verdict), _registered(build, verdict)
    missing = _lost(registered) if registered else ""
    return Summary(
        outcome=verdict.outcome,
        reason=verdict.reason,
        measure=verdict.measure,
        forgetting=verdict.retention.warning,
        rows=[_row(verdict, name) for name in verdict.shown_slices],
        wer_improvement=verdict.wer_improvement,
        interval=verdict.interval,
        p_value=verdict.p_value,
        regression=_suites(suites) if suites else "not run for this candidate",
        registered=registered,
        lost=missing,
        now=_now(registered) if registered and not missing else "",
        report=str(build / "validate" / "report.html"),
    )


def render(found: Summary) -> RenderableType:
    """The table and what to do next, for `rich`."""
    table = Table("slice", title="Error rates on human references", title_justify="left")
    more = found.measure == "WER"
    for heading in ("utterances", f"{found.measure} before", "after", *(("CER before", "after") if more else ())):
        table.add_column(heading, justify="right")
    for row in found.rows:
        rates = (row.baseline_wer, row.candidate_wer, *((row.baseline_cer, row.candidate_cer) if more else ()))
        table.add_row(row.slice, str(row.utterances), *map(percent, rates), style="bold" if row.slice == "all" else "")
    color = _COLORS[found.outcome]
    lines = [f"verdict      [{color} bold]{found.outcome}[/]  {escape(found.reason)}"]
    if found.interval:
        bounds = span(found.interval.low, found.interval.high)
        level, chance = confidence(found.interval.level), probability(found.p_value)
        lines.insert(
            0, f"improvement  {points(found.wer_improvement)} {found.measure} ({level} interval {bounds}, p = {chance})"
        )
    if found.forgetting:
        lines.append(f"retention    [red bold]{found.forgetting}[/]")
    lines += [
        f"regression   {escape(found.regression)}",
        f"registered   {_version(found.registered)}{found.now and f'; now {found.now}'}",
        *([f"             [red bold]{escape(found.lost)}[/]"] if found.lost else []),
        f"report       {escape(found.report)}{'' if Path(found.report).is_file() else ' is gone: `dvc checkout`'}",
        "MLflow       make ui",
    ]
    return Group(table, *lines)


def _lost(version: RegisteredVersion) -> str:
    """What to say of a version that is not in this registry; nothing where nobody can be asked."""
    try:
        missing = lost(version)
    except MondegreenError:
        return ""
    return f"{missing} {AGAIN}" if missing else ""


def _now(version: RegisteredVersion) -> str:
    """Which aliases it holds, where that has changed; nothing where nobody can be asked."""
    try:
        aliases = holdings(version.name, stages=False).aliases
    except MondegreenError:
        return ""
    held = [alias for alias, number in aliases.items() if number == version.version]
    if held == ([version.alias] if version.alias else []):
        return ""
    return " and ".join(f"@{alias}" for alias in held) or "no alias"


def _row(verdict: Verdict, name: str) -> SummaryRow:
    old, new = verdict.slices[name].baseline, verdict.slices[name].candidate
    return SummaryRow(
        slice=slice_label(name),
        utterances=new.utterances,
        baseline_wer=old.wer.rate,
        candidate_wer=new.wer.rate,
        baseline_cer=old.cer.rate,
        candidate_cer=new.cer.rate,
    )


def _suites(results: RegressionResults) -> str:
    if not results.suites:
        return f"not run: {results.reason}"
    good = sum(suite.outcome == "pass" for suite in results.suites)
    word = "passed" if results.passed else "not passed"
    return f"{word}: {good} of {len(results.suites)} suites pass"


def _version(version: RegisteredVersion | None) -> str:
    return escape(str(version)) if version else "not registered"
