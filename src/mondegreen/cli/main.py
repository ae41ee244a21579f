"""The `mondegreen` command. Commands import what they need when they run: `--help` loads no model library."""

import os
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mondegreen.cli import (
    case_exchange,
    cases,
    compare,
    data,
    detector,
    finetune,
    jobs,
    labels,
    llm,
    models,
    regression,
    review,
    serve,
    status,
    transcribe,
    trials,
    validate,
)
from mondegreen.cli.common import never_fail_to_print
from mondegreen.errors import MondegreenError


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Runs a command; an error the user can act on is its message and its exit code, not a traceback."""
        never_fail_to_print()
        try:
            return super().invoke(ctx)
        except MondegreenError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_Commands,
    help="A speech recogniser's memory of what it misheard: collect, label, fine-tune, prove, promote, roll back.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(transcribe.transcribe)
app.command()(finetune.finetune)
app.command()(status.summary)
app.command()(trials.trials)
app.command()(compare.compare)
app.command()(validate.report)
app.command()(status.monitor)
app.command()(finetune.cloud)
app.command()(status.doctor)
app.command()(review.review)
app.command()(serve.serve)
app.command()(validate.validate)
for command in (jobs.check, jobs.trigger, jobs.approve, jobs.reject, jobs.jobs, jobs.run, jobs.watch, status.status):
    app.command()(command)
cases.app.add_typer(case_exchange.app)
app.add_typer(cases.app, name="cases")
app.add_typer(data.app, name="data")
app.add_typer(detector.app, name="detector")
app.add_typer(labels.app, name="labels")
app.add_typer(llm.app, name="llm")
app.add_typer(models.app, name="models")
app.add_typer(regression.app, name="regression")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mondegreen {version('mondegreen')}")
        raise typer.Exit


# What somebody waits for on a screen, and the server: an MLflow that does not answer is said within seconds. Stages and
# rounds keep MLflow's patience, minutes, because a training is not to fail with a server that starts anew.
_LOOKING = ("models", "status", "doctor", "monitor", "summary", "report", "transcribe", "serve")
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@app.callback()
def options(
    ctx: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options before the command."""
    if ctx.invoked_subcommand in _LOOKING:
        for name, value in _IMPATIENT.items():
            os.environ.setdefault(name, value)
