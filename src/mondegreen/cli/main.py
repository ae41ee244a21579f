"""The `mondegreen` command. Commands import what they need when they run: `--help` loads no model library."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer

from mondegreen.cli import (
    audit,
    canary,
    case_exchange,
    cases,
    compare,
    data,
    detector,
    erase,
    finetune,
    jobs,
    labels,
    llm,
    lm,
    models,
    patience,
    phrases,
    project,
    proposal,
    registry,
    regression,
    review,
    serve,
    status,
    transcribe,
    trials,
    ui,
    validate,
)
from mondegreen.cli.common import SPELLINGS, Commands, never_fail_to_print, readable
from mondegreen.errors import MondegreenError, full_disk_told


class _Commands(Commands):
    def invoke(self, ctx: Any) -> Any:
        """Runs a command; an error the user can act on is its message and its exit code, not a traceback."""
        never_fail_to_print()
        try:
            with full_disk_told():
                return super().invoke(ctx)
        except MondegreenError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_Commands,
    help="A speech recogniser's memory of what it misheard: collect, label, fine-tune, prove, promote, roll back.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings=SPELLINGS,
)
cases.app.add_typer(case_exchange.app)
cases.app.add_typer(erase.app)
models.app.add_typer(canary.app, name="canary")
models.app.command()(canary.shadow)
models.app.command()(canary.guard)
models.app.command()(proposal.variant)
# The panels of `--help`, in the order in which somebody meets them.
_PANELS: dict[str, dict[str, Callable[..., None] | typer.Typer]] = {
    "Begin": {"init": project.init, "upgrade": project.upgrade},
    "Data": {"data": data.app, "transcribe": transcribe.transcribe, "detector": detector.app, "cases": cases.app},
    "People, and a language model": {"review": review.review, "labels": labels.app, "llm": llm.app},
    "Train": {"finetune": finetune.finetune, "trials": trials.trials, "cloud": finetune.cloud},
    "Judge": {
        "summary": status.summary,
        "validate": validate.validate,
        "report": validate.report,
        "regression": regression.app,
        "compare": compare.compare,
    },
    "Deploy": {
        "models": models.app,
        "registry": registry.app,
        "phrases": phrases.app,
        "lm": lm.app,
        "serve": serve.serve,
    },
    "Run": {
        "status": status.status,
        "check": jobs.check,
        "trigger": jobs.trigger,
        "approve": jobs.approve,
        "reject": jobs.reject,
        "jobs": jobs.jobs,
        "run": jobs.run,
        "watch": jobs.watch,
        "monitor": status.monitor,
        "audit": audit.app,
        "doctor": status.doctor,
        "ui": ui.ui,
    },
}
for panel, commands in _PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
readable(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mondegreen {version('mondegreen')}")
        raise typer.Exit


# They wait for MLflow as for a look; of `models`, what moves something waits longer (see `models.deployer`).
_LOOKING = ("models", "status", "doctor", "monitor", "summary", "report", "transcribe", "serve", "ui")


@app.callback()
def options(
    ctx: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, metavar="", help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Options before the command."""
    if ctx.invoked_subcommand in _LOOKING:
        patience.for_a_look()
