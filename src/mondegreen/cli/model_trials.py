"""`mondegreen models shadow` and `guard`: a version beside the champion, before and after its deployment.

What `mondegreen models shadow` shows.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.cli.common import JsonOption
from mondegreen.cli.models import LiveOption, NameOption, VersionArgument, deployer
from mondegreen.cli.transcribe import expanded
from mondegreen.progress import progress
from mondegreen.scoring.wording import percent, probability

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.monitoring.shadow import LoadModel, ShadowReport


def shadow_screen(report: "ShadowReport") -> RenderableType:
    """Disagreement, both sides, and the recordings that differ most."""
    lines = [_summary(report)]
    if report.disagreement:
        found = report.disagreement
        lines.append(
            f"WER between the two {percent(found.rate)}: {found.errors:,} errors on the champion's "
            f"{found.reference_length:,} words"
        )
    if report.share_changed is not None and report.changed_interval:
        low, high = report.changed_interval.low, report.changed_interval.high
        lines.append(
            f"{report.changed:,} transcripts differ: {percent(report.share_changed)} "
            f"(95 % interval {percent(low)} to {percent(high)})"
        )
    if report.p_value is not None:
        lines.append(
            f"misheard, says the detector: {report.only_champion_misheard} by the champion alone, "
            f"{report.only_candidate_misheard} by the candidate alone (McNemar p {probability(report.p_value)})"
        )
    table = Table("", "model", "transcripts", "empty", "error rate", "detector", "work/audio")
    for name, side in (("champion", report.champion), ("candidate", report.candidate)):
        table.add_row(
            name,
            escape(side.model),
            f"{side.heard:,}",
            f"{side.empty:,}",
            "-" if side.error_rate is None else percent(side.error_rate),
            "calibrated" if side.calibrated else "rules",
            "-" if side.real_time_factor is None else f"{side.real_time_factor:.3f}",
        )
    examples = Table("recording", "champion", "candidate", title="Where they differ most", title_justify="left")
    for example in report.examples:
        examples.add_row(escape(example.path[-24:]), escape(example.champion), escape(example.candidate))
    notes = [f"[yellow]{escape(note)}[/]" for note in report.notes]
    return Group(*lines, "", table, *([examples] if report.examples else []), *notes)


def _summary(report: "ShadowReport") -> str:
    parts = [f"{report.recordings:,} recordings, {report.audio_seconds / 60:.1f} minutes"]
    parts += [f"{report.failed} could not be used"] if report.failed else []
    parts += [f"{report.missing:,} more of which the service kept no audio"] if report.missing else []
    return ", ".join(parts)


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
    from mondegreen.monitoring.shadow import SELECTED
    from mondegreen.monitoring.shadow import shadow as compare

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
    from mondegreen.monitoring.canary import act_on_canary
    from mondegreen.registry.ledger import Ledger

    found, params = deployer(name, store), _params()
    ledger = Ledger.open(found.folder, found.model_name)
    try:
        report = act_on_canary(
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
    from mondegreen.config import params_of

    return params_of()


def _kept(folder: Path, since: str, limit: int | None) -> tuple[list[Path], int]:
    from mondegreen.cases.store import DataManager
    from mondegreen.cli.common import moment
    from mondegreen.monitoring.shadow import kept_recordings

    manager = DataManager(folder)
    try:
        return kept_recordings(manager.engine, manager.blobs, moment(since, "--since"), limit)
    finally:
        manager.close()


def _loader(params: "Params") -> "LoadModel":
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
