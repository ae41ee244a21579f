"""`mondegreen report`: the last verdict as a page or as Markdown, from what the stages left, with nothing rerun."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.options import JsonOption

if TYPE_CHECKING:
    from mondegreen.cases.regression_runs import RegressionRun
    from mondegreen.reports.findings import Findings
    from mondegreen.reports.judgement import Judgement


def report(
    build: Annotated[Path, typer.Option(help="The folder of the stage outputs.")] = Path("build"),
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
    from mondegreen.errors import UsageError

    own = build / "validate"
    if output and output.resolve().parent == own.resolve():
        raise UsageError(
            f"{output} is in {own}, which belongs to the validate stage: DVC would run it again.",
            "Name another file; without --output the page goes to build/report.html.",
        )
    if markdown and show:
        raise UsageError("--open shows a page, --markdown writes none.", "Leave one of them out.")

    from mondegreen.reports.findings import find
    from mondegreen.reports.outputs import read_outputs

    found = find(replace(read_outputs(build), suite_runs=_suite_runs()))
    target = output or (None if markdown else build / "report.html")
    text = _write(target, found, markdown, clips)
    if as_json:
        typer.echo(_described(found.verdict, target, text))
    elif target is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"{found.verdict.outcome}: {target}")
    if show and target:
        typer.launch(target.resolve().as_uri())


def _suite_runs() -> "tuple[RegressionRun, ...]":
    """Those on record; a database that cannot be read costs the report its history, and nothing else."""
    from mondegreen.registry.location import live_state

    folder = live_state()
    if not os.environ.get("MONDEGREEN_DATABASE_URL") and not (folder / "mondegreen.db").exists():
        return ()  # opening it would make one

    from mondegreen.cases.database import open_database
    from mondegreen.cases.regression_runs import last_of_each_model
    from mondegreen.errors import CaseError

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
    from mondegreen.files import write_text
    from mondegreen.reports.html import write_page
    from mondegreen.reports.markdown import render_markdown

    if not markdown and target:
        write_page(target, found, clips)
        return ""
    text = render_markdown(found)
    if target:
        write_text(target, text)
    return text


def _described(verdict: "Judgement", target: Path | None, text: str) -> str:
    import json

    described = {"outcome": verdict.outcome, "sentence": verdict.sentence, "warning": verdict.warning}
    where = {"path": str(target), "bytes": target.stat().st_size} if target else {"markdown": text}
    return json.dumps(described | where)
