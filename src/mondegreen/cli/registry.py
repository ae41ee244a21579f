"""`mondegreen registry`: the registry itself, as a whole."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import STORE, JsonOption, answer, require_project
from mondegreen.cli.models import LiveOption, NameOption
from mondegreen.errors import UsageError
from mondegreen.progress import Bar
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from mondegreen.registry.moving import Move

app = typer.Typer(help="The registry as a whole: move it to a server, or back.", no_args_is_help=True)


@app.callback()
def registry() -> None:
    """The registry as a whole: move it to a server, or back."""


@app.command()
def move(
    to: Annotated[
        str, typer.Option("--to", metavar="URI", help="http(s)://SERVER, or sqlite:///FOLDER/mlruns/mlflow.db.")
    ],
    undo: Annotated[
        bool, typer.Option("--undo", help="Take a move to --to back, where nothing has happened there since.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved; write nothing.")] = False,
    store_to: Annotated[
        Path | None,
        typer.Option("--store-to", help="Copy ledger, looks and backups to this folder of live state, too."),
    ] = None,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a registered model to another MLflow: versions with their numbers, aliases, stages, tags, and all runs.

    From MLFLOW_TRACKING_URI (mlruns/ when it is not set) to --to, in either direction. What is here stays as it is, and
    is not moved any more: who still comes here is told where to go. Killed at any line, the same command goes on. It
    says done when every package was fetched back from there, with the bytes that were registered.
    """
    from mondegreen.config import params_of
    from mondegreen.registry.mlflow_store import live_state
    from mondegreen.registry.moving import move_registry

    require_project(store or STORE)
    model = name or params_of().register_.model_name
    if undo:
        _undo(to, model, store, {"--dry-run": dry_run, "--store-to": store_to}, as_json)
        return
    with closing(Bar()) as bar:
        moved = move_registry(
            to,
            model,
            store or live_state(),
            store_to=store_to,
            dry_run=dry_run,
            on_progress=lambda done, total: bar.show("moving", done, total),
        )
    answer(moved, _said(moved), as_json)


def _undo(to: str, model: str, store: Path | None, others: dict[str, object], as_json: bool) -> None:
    from mondegreen.registry.mlflow_store import live_state
    from mondegreen.registry.moving_back import undo_move

    if given := [option for option, value in others.items() if value]:
        raise UsageError(f"--undo and {given[0]}: of a move that is taken back nothing is moved.", "Give one of them.")
    back = undo_move(to, model, store or live_state())
    answer(
        back,
        f"{back.model_name} is worked with at {back.source} again, and no more at {back.target}. "
        f"Wherever something runs: export MLFLOW_TRACKING_URI={back.source}.",
        as_json,
    )


def _said(moved: "Move") -> str:
    what = f"{moved.model_name}: {many(len(moved.versions), 'version')} and {many(moved.runs, 'run')}"
    where = f"from {moved.source} to {moved.target}"
    notes = "".join(f"\nnote: {note}" for note in moved.notes)
    if moved.state == "planned":
        again = "go on being moved" if moved.begun else "be moved"
        return f"{what} would {again} {where}. Nothing was written.{notes}"
    if moved.state == "there":
        return f"{what} were moved {where} before. Nothing was done."
    state = f" Ledger, looks and backups are in {moved.ledger}, too." if moved.ledger else ""
    return (
        f"{what} moved {where}. Every package there has the bytes that were registered.{state}{notes}\n"
        f"Work with it from now on: export MLFLOW_TRACKING_URI={moved.target} (also where `mondegreen serve` and "
        f"`watch` run, which are to be started again).\n{_old_home(moved)}"
    )


def _old_home(moved: "Move") -> str:
    """What is left, and how it goes."""
    from mondegreen.registry.mlflow_store import sqlite_file

    way = f"delete the registered model {moved.model_name} and the experiment's runs in MLflow's pages"
    if file := sqlite_file(moved.source):
        artifacts, new = file.parent / "artifacts", sqlite_file(moved.target)
        shared = new is not None and new.parent == file.parent  # then the new home's files lie among the old ones
        what = f"{file}" if shared else f"{file} and {artifacts}"
        way = f"nor another model that is registered there, remove {what}"
    here = "is as it was, and refuses registrations, deployments and rollbacks from now on"
    return f"{moved.source} {here}; `--undo` takes that back. When nobody needs it any more, {way}."
