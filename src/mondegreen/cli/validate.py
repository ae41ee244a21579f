"""`mondegreen validate | report`: the verdict of the last `dvc repro` or on any two models, as text or as a page."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import BUILD, BuildOption, JsonOption, answer, require_outputs
from mondegreen.errors import UsageError
from mondegreen.progress import progress

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.loop.validator import ModelValidator, ValidationResult
    from mondegreen.records import Hypothesis
    from mondegreen.registry.regression_runs import RegressionRun
    from mondegreen.reports.validation import Findings
    from mondegreen.scoring.verdict import Verdict
    from mondegreen.speech.transcriber import BaselineSTTModel

_COLORS = {"pass": "green", "fail": "red", "inconclusive": "yellow", "trial": "cyan"}


def validate(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The candidate: folder, hub name or models:/name@challenger.")
    ] = None,
    baseline: Annotated[str | None, typer.Argument(metavar="BASELINE", help="What it is compared with.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Test set, CSV or .jsonl: path, text; optional speaker, condition, source.")
    ] = None,
    retention: Annotated[Path | None, typer.Option(help="The same of what the model must not forget.")] = None,
    no_retention: Annotated[bool, typer.Option("--no-retention", help="Do not ask what was forgotten.")] = False,
    on_dev: Annotated[
        bool, typer.Option("--dev", help="A trial: compare on dev (or --data) and spend no look; it never passes.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the result as Markdown to this file as well.")] = None,
    looks: Annotated[bool, typer.Option("--looks", help="Show how often each test set has judged, and stop.")] = False,
    build: BuildOption = BUILD,
    as_json: JsonOption = False,
) -> None:
    """Judge MODEL against BASELINE, or show the verdict of the last `dvc repro`.

    Without --data, on the project's human-referenced test set. Every look of a candidate at a test set is counted, and
    the next one may spend less: see docs/verdict.md. The exit code is 0 for `pass` and 1 for anything else.
    """
    from mondegreen.files import require_writable

    if retention and no_retention:
        raise UsageError("--retention names a set, --no-retention asks for none.", "Leave one of them out.")
    if looks:
        if model or data or retention or no_retention or report or on_dev:
            raise UsageError("--looks shows the record and judges nothing.", "Leave it out, or all but --json.")
        _looks(as_json)
        return
    validator: ModelValidator | None = None
    if model is None:
        if data or retention or no_retention or report or on_dev:
            raise UsageError(
                "--data, --retention, --dev and --report need two models.", "mondegreen validate MODEL BASELINE"
            )
        verdict: Verdict = _last(build)
    elif baseline is None:
        raise UsageError(f"{model} against what? One model is named.", "mondegreen validate MODEL BASELINE")
    else:
        if report:
            require_writable(report)
        validator, verdict = _judge(model, baseline, data, () if no_retention else retention, on_dev)
    answer(verdict.to_dict(), _lines(verdict), as_json, width=10_000)  # a line of a log is not broken
    if validator and report:  # behind the verdict, for which a look was spent
        validator.generate_validation_report(report)
    if not verdict.passed:
        raise typer.Exit(1)


def _last(build: Path) -> "Verdict":
    from mondegreen.scoring.verdict import Verdict

    require_outputs(build)
    return Verdict.read(build / "validate" / "verdict.json")


def _judge(
    model: str, baseline: str, data: Path | None, retention: "Path | tuple[()] | None", on_dev: bool
) -> "tuple[ModelValidator, ValidationResult]":
    """The verdict on two models by name. `retention` is () when forgetting is not asked about."""
    from mondegreen.config import params_of
    from mondegreen.loop.validator import ModelValidator, ValidationConfig
    from mondegreen.speech.corpus_transcription import transcribe_corpus
    from mondegreen.speech.transcriber import load_transcriber

    params = params_of()
    config = ValidationConfig.from_params(params)
    if retention == ():
        config = config.model_copy(update={"require_retention": False})
    if on_dev:
        config = config.model_copy(update={"on": "dev"})
    validator = ModelValidator(config, params=params)
    utterances = validator.utterances(data, retention)

    # Both are loaded before one of them works for an hour: a name may be wrong.
    models = [(name, load_transcriber(name, params)) for name in (baseline, model)]

    def hypotheses(name: str, stt: "BaselineSTTModel") -> "list[Hypothesis]":
        with progress(name, len(utterances)) as advance:
            return transcribe_corpus(utterances, stt, on_progress=advance)

    old, new = (hypotheses(name, stt) for name, stt in models)
    return validator, validator.judge_hypotheses(utterances, old, new, model_id=model, baseline_id=baseline)


def _lines(verdict: "Verdict") -> "Iterator[str | RenderableType]":
    from rich.padding import Padding
    from rich.text import Text

    yield Text(verdict.outcome, f"bold {_COLORS[verdict.outcome]}")
    yield Text(verdict.failure_reason or verdict.reason)
    yield from (Padding.indent(Text(note), 2) for note in verdict.notes)


def _looks(as_json: bool) -> None:
    """How often each test set has judged, and what the next look may spend."""
    from mondegreen.config import params_of
    from mondegreen.loop.alpha_ledger import open_ledger
    from mondegreen.scoring.decision import fewest_clusters
    from mondegreen.scoring.planning import share

    rules = params_of().validate_
    with open_ledger() as ledger:
        found = ledger.history()

    def lines() -> Iterator[str]:
        for family in dict.fromkeys(record.family for record in found):
            spent = [record for record in found if record.family == family]
            following = len(spent) + 1
            alpha = share(rules.alpha, following)
            least = fewest_clusters(alpha, rules.permutations) if rules.require_significance else 1
            if following > rules.max_looks or least is None:
                yield f"test set {family[:12]}: spent"
            else:
                yield f"test set {family[:12]}: look {following} may spend {alpha:.2g} of alpha {rules.alpha:g}"
                if least > 1:
                    yield f"  which no set of fewer than {least} clusters (speakers, else recordings) can meet"
            for look in spent:
                when = f"{look.at:%Y-%m-%d %H:%M}"
                yield f"  look {look.look}  {when}  candidate {look.candidate[:12]}  alpha {look.alpha:.2g}"
        if not found:
            yield "No candidate has looked at a test set yet."

    answer([record.model_dump(mode="json") for record in found], lines(), as_json)


def report(
    build: BuildOption = BUILD,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; Markdown goes to stdout without it.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Markdown for a pull request instead of a page.")
    ] = False,
    clips: Annotated[
        int | None, typer.Option(min=0, help="Recordings that play in the page; without it validate.report_clips.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the validation report, with regression suites and version as far as they exist.

    Exits with 0 whatever the verdict is, as long as there is one. The page goes to build/report.html;
    build/validate/report.html is the validate stage's own, made before the regression suites ran.
    """
    own = build / "validate"
    if output and output.resolve().parent == own.resolve():
        raise UsageError(
            f"{output} is in {own}, which belongs to the validate stage: DVC would run it again.",
            "Name another file; without --output the page goes to build/report.html.",
        )
    if markdown and show:
        raise UsageError("--open shows a page, --markdown writes none.", "Leave one of them out.")
    if markdown and clips:
        raise UsageError("--clips play in a page, --markdown writes none.", "Leave one of them out.")

    from mondegreen.reports.outputs import read_outputs
    from mondegreen.reports.validation import find

    require_outputs(build)
    found = find(replace(read_outputs(build), suite_runs=_suite_runs()))
    target = output or (None if markdown else build / "report.html")
    text = _write(target, found, markdown, clips)
    verdict = found.verdict
    facts: dict[str, Any] = {"outcome": verdict.outcome, "sentence": verdict.sentence, "warning": verdict.warning}
    facts |= {"path": str(target), "bytes": target.stat().st_size} if target else {"markdown": text}
    answer(facts, f"{verdict.outcome}: {target}" if target else text.removesuffix("\n"), as_json)
    if show and target:
        typer.launch(target.resolve().as_uri())


def _suite_runs() -> "tuple[RegressionRun, ...]":
    """Those on record; a database that cannot be read costs the report its history, and nothing else."""
    from mondegreen.registry.mlflow_store import live_state

    folder = live_state()
    if not os.environ.get("MONDEGREEN_DATABASE_URL") and not (folder / "mondegreen.db").exists():
        return ()  # opening it would make one

    from mondegreen.db import open_database
    from mondegreen.errors import CaseError
    from mondegreen.registry.regression_runs import last_of_each_model

    try:
        engine = open_database(folder)
        try:
            return tuple(last_of_each_model(engine, limit=20))
        finally:
            engine.dispose()
    except CaseError as error:
        typer.echo(f"warning: without the history of the regression suites: {error}", err=True)
        return ()


def _write(target: Path | None, found: "Findings", markdown: bool, clips: int | None) -> str:
    """Writes the file, if there is one; returns the text of the Markdown."""
    from mondegreen.files import save_text, writing
    from mondegreen.reports.validation import render_markdown, write_page

    if not markdown and target:
        with writing(target):
            write_page(target, found, clips)
        return ""
    text = render_markdown(found)
    if target:
        save_text(target, text)
    return text
