"""`mondegreen models shadow` and `guard`: a version beside the champion, before and after its deployment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.models import LiveOption, NameOption, VersionArgument, deployer
from mondegreen.cli.options import JsonOption
from mondegreen.cli.progress import progress
from mondegreen.cli.transcribe import expanded

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.loop.shadow import Load


def join(app: typer.Typer) -> None:
    """Adds the two to `mondegreen models`."""
    app.command()(shadow)
    app.command()(guard)


def shadow(
    version: VersionArgument,
    since: Annotated[str, typer.Option(help="Recordings that came since: 24h, 7d, or a date.")] = "7d",
    audio: Annotated[
        list[Path] | None, typer.Option(help="These recordings or folders instead of those that the service kept.")
    ] = None,
    against: Annotated[str, typer.Option(help="The other version.")] = "@champion",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the newest so many recordings.")] = None,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let champion and VERSION hear the same recordings, and show where they disagree. No references are needed.

    Takes what the service kept (`mondegreen transcribe --log`), or recordings that you name. Nothing is logged.
    """
    from mondegreen.loop.shadow import SELECTED
    from mondegreen.loop.shadow import shadow as compare

    found, params = deployer(name, store), _params()
    champion, candidate = (found.get_version(one).uri for one in (against, version))
    if audio:
        recordings, missing, notes = list(expanded(audio))[:limit], 0, []
    else:
        recordings, missing = _kept(found.folder, since, limit)
        notes = [SELECTED]
    with progress("transcribing", 2 * len(recordings)) as on_progress:
        report = compare(
            recordings, champion, candidate, _loader(params), params, found.folder / "detector",
            missing=missing, notes=notes, on_progress=on_progress,
        )  # fmt: skip
    if as_json:
        typer.echo(report.model_dump_json())
        return
    from rich.console import Console

    from mondegreen.cli.model_trial_views import shadow_screen

    Console().print(shadow_screen(report))


def guard(
    act: Annotated[
        bool | None, typer.Option("--rollback/--no-rollback", help="deploy.auto_rollback when not given.")
    ] = None,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is the new champion worse than the one before, by what the service logged? Then back, if that is wanted.

    The exit code is 1 when it is worse, rolled back or not.
    """
    from mondegreen.loop.auto_rollback import guard_and_act
    from mondegreen.registry.ledger import Ledger

    found, params = deployer(name, store), _params()
    ledger = Ledger.open(found.folder, found.model_name)
    try:
        report = guard_and_act(
            ledger.engine, found.model_name, params, found.folder,
            act=params.deploy.auto_rollback if act is None else act,
        )  # fmt: skip
    finally:
        ledger.engine.dispose()
    typer.echo(report.model_dump_json() if as_json else f"{report.decision}: {report.text}")
    if report.decision in ("worse", "rolled back"):
        if report.decision == "worse" and not as_json:
            typer.echo("What now: `mondegreen models rollback`, or deploy.auto_rollback: true.", err=True)
        raise typer.Exit(1)


def _params() -> "Params":
    from mondegreen.config import Params, load_params

    return load_params() if Path("params.yaml").is_file() else Params()


def _kept(folder: Path, since: str, limit: int | None) -> tuple[list[Path], int]:
    from mondegreen.cases.manager import DataManager
    from mondegreen.cli.case_adding import moment
    from mondegreen.loop.shadow import kept_recordings

    manager = DataManager(folder)
    try:
        return kept_recordings(manager.engine, manager.blobs, moment(since, "--since"), limit)
    finally:
        manager.close()


def _loader(params: "Params") -> "Load":
    from mondegreen.speech.transcriber import BaselineSTTModel

    def load(name: str) -> BaselineSTTModel:
        return BaselineSTTModel(
            name,
            batch_seconds=params.transcribe.batch_seconds,
            beam_width=params.transcribe.beam_width,
            nbest=params.transcribe.nbest,
            max_duration=params.audio.max_duration,
        )

    return load
