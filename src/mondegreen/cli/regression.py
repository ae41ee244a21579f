"""`mondegreen regression`: suites that a new model must not be worse on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import STORE, Column, JsonOption, answer, require_project, table
from mondegreen.cli.models import LiveOption
from mondegreen.errors import UsageError
from mondegreen.progress import progress
from mondegreen.scoring.wording import percent

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.regression.tester import Listed, RegressionTester
    from mondegreen.speech.transcriber import BaselineSTTModel

app = typer.Typer(help="Suites that a new model must not be worse on.", no_args_is_help=True)

_WIDTH = 200  # columns of the tables where there is no terminal
_DVC = "Next: `dvc add data` records it, `git add data.dvc` and a commit share it."
BaselineModelOption = Annotated[str | None, typer.Option(help="Measure the baseline with this model.")]
SourceArgument = Annotated[
    Path | None,
    typer.Argument(metavar="SOURCE", help="A folder with references.csv, such a file, or .jsonl; not for silence."),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    source: SourceArgument = None,
    suite_type: Annotated[
        str, typer.Option("--type", help="benchmark, critical, edge_cases or behaviour.")
    ] = "benchmark",
    margin: Annotated[float | None, typer.Option(help="WER, or share of violations, that may be lost.")] = None,
    severity: Annotated[str, typer.Option(help="How bad a loss is.")] = "",
    owner: Annotated[str, typer.Option(help="Whom to ask.")] = "",
    baseline_wer: Annotated[float | None, typer.Option(help="What some version reached, a fraction.")] = None,
    baseline_cer: Annotated[float | None, typer.Option(help="The same.")] = None,
    baseline_version: Annotated[str, typer.Option(help="Which version.")] = "",
    model: BaselineModelOption = None,
    behaviour: Annotated[
        str | None, typer.Option(help="As in the index: '{kind: invariance, change: gain, values: [-6, 6]}'.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="The entry of that name; its recordings stay.")] = False,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a suite: every recording is decoded, then all is copied below data/regression and entered in the index.

    When a recording or a row is wrong, nothing is imported. Recordings that lie below data/regression stay there.
    """
    from mondegreen.regression.suites import load_index

    if model and (baseline_wer is not None or baseline_cer is not None):
        raise UsageError(
            "--model measures the baseline, --baseline-wer and --baseline-cer state it.", "Leave one of both out."
        )
    tester = _tester(store)
    heard = _load(model, tester) if model else None  # before anything is copied
    tester.register_test(
        name,
        suite_type,
        source,
        baseline_wer,
        baseline_cer,
        baseline_version,
        margin,
        severity,
        owner,
        behaviour=_mapping(behaviour) if behaviour else None,
        replace=replace,
        track=progress,
    )
    measured: dict[str, Any] = {}
    if heard is not None:
        version = baseline_version or str(model)
        measured = tester.measure_baseline(version, heard.transcribe, [name], progress)[name]
    baseline = [_baseline_line(name, measured)] if measured else []
    lines = (f"{tester.config.suites} has suite {name}.", *baseline, _DVC)
    suite = next(one for one in load_index(tester.config.suites) if one.name == name)
    answer(suite.model_dump(mode="json"), lines, as_json)


@app.command("list")
def list_suites(store: LiveOption = None, as_json: JsonOption = False) -> None:
    """List the suites, whether their data are whole, and whether their stored baseline still holds."""
    from mondegreen.regression.tester import list_suites as listed

    tester = _tester(store)
    rows = listed(tester.config.suites, tester.engine, tester.params)
    answer([row.model_dump(mode="json") for row in rows], [_suites(rows)], as_json, width=_WIDTH)
    for row in rows:
        if (said := row.problem or row.limit) and not as_json:
            typer.echo(f"{row.suite.name}: {said}", err=True)


@app.command()
def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, a hub name or models:/name@alias.")],
    baseline: Annotated[
        str | None, typer.Option(help="The model before it; model.base of params.yaml when not given.")
    ] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Compare with the stored baselines only.")] = False,
    version: Annotated[str | None, typer.Option(help="What the model is called; MODEL when not given.")] = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every suite and put the run on record. The exit code is 0 only when all of them passed."""
    if stored and baseline:
        raise UsageError("--stored compares with no model, --baseline names one.", "Leave one of them out.")
    tester = _tester(store)
    _ = tester.engine  # opened now, so that what is wrong is said before the work
    candidate = _load(model, tester)
    before = None if stored else _load(baseline, tester) if baseline else _base(tester)
    results = tester.run_test_suite(
        version or model, candidate.transcribe, before.transcribe if before else None, progress
    )

    from mondegreen.reports.regression import render_results

    answer(results, [render_results(results)], as_json, width=_WIDTH)
    if not results.passed:
        raise typer.Exit(1)


@app.command("baseline")
def measure_baseline(
    model: Annotated[str, typer.Option(help="A folder, a hub name or models:/name@alias.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All suites when not given.")] = None,
    version: Annotated[str | None, typer.Option(help="What the model is called; MODEL when not given.")] = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a model on suites and store what it reaches as their baseline, in the index."""
    tester = _tester(store)
    found = tester.measure_baseline(version or model, _load(model, tester).transcribe, names or None, progress)
    answer(found, (*(_baseline_line(name, fields) for name, fields in found.items()), _DVC), as_json)


@app.command()
def report(
    limit: Annotated[int, typer.Option(min=1, help="That many models, the newest ones.")] = 20,
    html: Annotated[Path | None, typer.Option(help="Write a fragment for a page, with a plot, to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown to this file.")] = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the last run of each model, and every suite over the versions."""
    from mondegreen.files import save_text
    from mondegreen.registry.regression_runs import last_of_each_model
    from mondegreen.reports.regression import render_history

    tester = _tester(store)
    if html:
        save_text(html, tester.generate_regression_report("html", limit))
    if markdown:
        save_text(markdown, tester.generate_regression_report("markdown", limit))
    for path in filter(None, (html, markdown)):
        typer.echo(f"Wrote {path}.", err=True)
    if as_json:
        typer.echo(tester.generate_regression_report("json", limit))
    else:
        answer(None, [render_history(last_of_each_model(tester.engine, limit))], as_json=False, width=_WIDTH)


def _tester(store: Path | None) -> "RegressionTester":
    from mondegreen.regression.tester import RegressionTester

    require_project(store or STORE)
    return RegressionTester(store=store)


def _load(model: str, tester: "RegressionTester") -> "BaselineSTTModel":
    from mondegreen.speech.transcriber import load_transcriber

    return load_transcriber(model, tester.params)


def _base(tester: "RegressionTester") -> "BaselineSTTModel":
    """model.base as the stage `regress` hears it: beside another baseline a run would not replace the stage's."""
    from mondegreen.speech.corpus_transcription import pipeline_transcriber

    return pipeline_transcriber(tester.params.model.base, tester.params)


def _mapping(text: str) -> dict[str, Any]:
    from mondegreen.yaml_text import read_yaml

    step = "Write it as {kind: invariance, change: gain}."
    found, _ = read_yaml(text, f"--behaviour {text!r}", step)
    if not isinstance(found, dict):
        raise UsageError(f"--behaviour {text!r} is no mapping.", step)
    return found


def _suites(rows: "Sequence[Listed]") -> "RenderableType":
    return table(
        rows,
        Column("suite,\ntype", lambda row: f"{row.suite.name}\n{row.suite.type}"),
        Column("recordings", lambda row: row.recordings, "right"),
        Column("margin", lambda row: f"{row.suite.margin:g}", "right"),
        Column("severity", lambda row: row.suite.severity),
        Column("owner", lambda row: row.suite.owner),
        Column("baseline", _stored),
        Column("last run", lambda row: row.last_outcome or ""),
        box=None,  # whole words at 80 columns
        padding=(0, 2, 1, 0),
        pad_edge=False,
    )


def _stored(row: "Listed") -> str:
    """The stored baseline of a listed suite, and why it cannot be compared with."""
    suite = row.suite
    if not suite.has_baseline:
        return ""
    rate = suite.baseline_violation_rate if suite.behaviour else suite.baseline_wer
    version = f", version {suite.baseline_version}" if suite.baseline_version else ""
    fault = f"; {row.stored_baseline_fault}" if row.stored_baseline_fault else ""
    return f"{percent(rate or 0)}{version}{fault}"


def _baseline_line(name: str, fields: dict[str, Any]) -> str:
    labels = (("baseline_wer", "WER"), ("baseline_cer", "CER"), ("baseline_violation_rate", "violations"))
    rates = ", ".join(f"{label} {percent(fields[key])}" for key, label in labels if fields[key] is not None)
    return f"{name}: {rates} (version {fields['baseline_version']})"
