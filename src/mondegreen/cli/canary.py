"""`mondegreen models canary | guard | shadow`: a challenger beside the champion, on callers and on kept recordings."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import Column, JsonOption, answer, duration, moment, table
from mondegreen.cli.models import (
    ForceOption,
    LiveOption,
    NameOption,
    OverrideOption,
    ReasonOption,
    VersionArgument,
    deployer,
    say_notes,
)
from mondegreen.errors import CaseError, RegistryError, UsageError
from mondegreen.progress import progress, until_stopped, waiting
from mondegreen.scoring.wording import many, percent, points, probability

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.monitoring.comparing import VersionComparison
    from mondegreen.monitoring.guard import Guarded, GuardReport
    from mondegreen.monitoring.shadow import ShadowReport
    from mondegreen.registry.canary import Canary
    from mondegreen.registry.ledger import Ledger

app = typer.Typer(help="Let @challenger answer a share of the callers, and hear others beside.", no_args_is_help=True)
ShareOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Of the callers, answered by the challenger; serve.canary_share when not given."),
]
ShadowOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Of the callers, heard by both, answered by the champion; serve.shadow_share when not given."
    ),
]


@app.command()
def start(
    share: ShareOption = None,
    shadow: ShadowOption = None,
    override: OverrideOption = None,
    force: ForceOption = False,
    reason: ReasonOption = "",
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the canary, or start it anew with other shares. Servers see it at their next look (serve.poll_seconds).

    Whoever answers callers needs the proof that a deployment needs. The exit code is 1 when it is refused.
    """
    from mondegreen.config import params_of

    serve = params_of().serve
    with waiting("checking @challenger"):
        found = deployer(name, store, moves=True)
        begun = found.start_canary(
            serve.canary_share if share is None else share,
            serve.shadow_share if shadow is None else shadow,
            force=force,
            override=override or (),
            reason=reason,
        )
    say_notes(found)
    answer(begun.model_dump(exclude={"salt"}), f"{_shares(begun)} `mondegreen models guard` compares them.", as_json)


@app.command()
def stop(
    reason: ReasonOption = "", name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False
) -> None:
    """Stop the canary: the champion answers everybody. What was gathered stays in the store."""
    entry = deployer(name, store).stop_canary(reason=reason)
    text = f"The canary of version {entry.version} is stopped." if entry else "There was none to stop."
    answer({"stopped": entry.version if entry else None}, text, as_json)


@app.command()
def status(name: NameOption = None, store: LiveOption = None, as_json: JsonOption = False) -> None:
    """Whether a canary runs, and what it gathered so far. Nothing is stopped; `mondegreen models guard` does that."""
    from mondegreen.config import params_of
    from mondegreen.monitoring.guard import look_at_canary

    with _ledger(name, store) as ledger:
        canary, report = look_at_canary(ledger, params_of())
    facts = {"running": canary.model_dump(exclude={"salt"}) if canary else None, "found": report.model_dump()}
    answer(facts, _screen(canary, report), as_json)


def guard(
    roll_back: Annotated[
        bool | None,
        typer.Option("--rollback/--no-rollback", help="Of a deployment; deploy.auto_rollback when not given."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking, until ctrl-C.")] = False,
    interval: Annotated[
        str | None, typer.Option(help="With --watch, look so often: 30s, 5m, 1h; 1m when not given.")
    ] = None,
    name: NameOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is the canary, or the new champion, worse in production? A worse canary is stopped.

    A champion is taken back with --rollback or deploy.auto_rollback, but never for its work alone.
    Look as often as you like: the test allows for it.
    The exit code is 1 when one is worse, whatever was done about it.
    With --watch a line is printed (--json: an object a line) when something has changed.
    """
    if interval and not watch:
        raise UsageError("--interval is between the looks of --watch.", "Add --watch.")
    pause = duration(interval or "1m", "--interval", "smh", "Write 30s, 5m or 1h.").total_seconds()
    if not watch:
        found = _look(name, store, roll_back)
        answer(found, _decisions(found), as_json)
        if found.worse:
            if found.deployment.decision == "worse" and not as_json:
                way = "`mondegreen models rollback`; deploy.auto_rollback does it, but for work alone"
                typer.echo(f"What now: {way}.", err=True)
            raise typer.Exit(1)
        return
    said: list[str] = []
    with until_stopped():
        while True:
            said = _look_again(name, store, roll_back, said, as_json)
            time.sleep(pause)


def shadow(
    version: VersionArgument,
    since: Annotated[
        str | None, typer.Option(help="Recordings that came since: 24h, 7d, or a date; 7d when not given.")
    ] = None,
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
    from mondegreen.cli.transcribe import expanded
    from mondegreen.config import params_of
    from mondegreen.monitoring.shadow import SELECTED, newest
    from mondegreen.monitoring.shadow import shadow as compare
    from mondegreen.speech.corpus_transcription import load_for_many

    if audio and since:
        raise UsageError("--since is of what the service kept, --audio names recordings.", "Leave one of them out.")
    found, params = deployer(name, store), params_of()
    champion, candidate = (found.get_version(one).uri for one in (against, version))
    if audio:
        recordings, missing, notes = newest(expanded(audio), limit), 0, []
    else:
        recordings, missing = _kept(found.folder, since or "7d", limit)
        notes = [SELECTED]
    with progress("transcribing", 2 * len(recordings)) as on_progress:
        report = compare(
            recordings, champion, candidate, lambda model: load_for_many(model, params, cached=False), params,
            found.folder / "detector", missing=missing, notes=notes, on_progress=on_progress,
        )  # fmt: skip
    answer(report, _shadow(report), as_json)


def _look(name: str | None, store: Any, roll_back: bool | None) -> "Guarded":
    from mondegreen.config import params_of
    from mondegreen.monitoring.guard import guard as look

    params = params_of()
    allowed = params.deploy.auto_rollback if roll_back is None else roll_back
    with _ledger(name, store) as ledger:
        return look(ledger.engine, ledger.model_name, params, deployer(name, store).folder, roll_back=allowed)


def _look_again(name: str | None, store: Any, roll_back: bool | None, said: list[str], as_json: bool) -> list[str]:
    """One of many looks: a database or a registry that is away is waited for."""
    try:
        found = _look(name, store, roll_back)
    except (CaseError, RegistryError) as error:
        if said != [error.problem]:
            typer.echo(f"error: {error.problem}", err=True)
        return [error.problem]
    now = [f"{report.decision} {report.version}" for report in found.reports]
    if now != said:
        answer(found, _decisions(found), as_json)
    return now


@contextmanager
def _ledger(name: str | None, store: Any) -> "Iterator[Ledger]":
    from mondegreen.registry.ledger import Ledger

    found = deployer(name, store)
    ledger = Ledger.open(found.folder, found.model_name)
    try:
        yield ledger
    finally:
        ledger.engine.dispose()


def _kept(folder: Path, since: str, limit: int | None) -> tuple[list[Path], int]:
    """The recordings that the service kept, and how many of its inferences have none."""
    from mondegreen.cases.store import DataManager
    from mondegreen.monitoring.shadow import kept_recordings

    manager = DataManager(folder)
    try:
        return kept_recordings(manager.engine, manager.blobs, moment(since, "--since"), limit)
    finally:
        manager.close()


def _shares(canary: "Canary") -> str:
    return (
        f"Version {canary.version} answers {percent(canary.share)} of the callers and hears {percent(canary.shadow)} "
        f"beside version {canary.champion}, which answers the rest."
    )


def _decisions(found: "Guarded") -> str:
    return "\n".join(f"{report.subject}: {report.decision}: {report.text}" for report in found.reports)


def _screen(canary: "Canary | None", report: "GuardReport") -> "Iterator[str | RenderableType]":
    yield _shares(canary) if canary else report.text
    if canary:
        known = report.comparisons and report.decision != "too few"
        yield f"{report.decision}: {report.inferences:,} inferences of it" if known else report.text
    if report.comparisons:
        yield table(
            report.comparisons,
            Column("", lambda one: one.metric),
            Column(f"version {report.former}", lambda one: _value(one, one.before)),
            Column(f"version {report.version}", lambda one: _value(one, one.after)),
            Column("lost", lambda one: _lost(one, one.lost)),
            Column("at least", lambda one: _lost(one, one.lower_bound)),
            Column("allowed", lambda one: _lost(one, one.margin)),
            Column("evidence", lambda one: f"{one.evidence:.3g} of {one.needed:.3g}"),
            Column("callers", lambda one: f"{one.callers:,}"),
        )


def _value(one: "VersionComparison", value: float | None) -> str:
    return f"{value:.3g} s/s" if one.metric == "latency" and value is not None else percent(value)


def _lost(one: "VersionComparison", value: float) -> str:
    return percent(value) if one.metric == "latency" else points(value)


def _shadow(report: "ShadowReport") -> "Iterator[str | RenderableType]":
    """Disagreement, both sides, and the recordings that differ most."""
    from rich.text import Text

    failed = f", {report.failed} could not be used" if report.failed else ""
    missing = f", {report.missing:,} more of which the service kept no audio" if report.missing else ""
    yield f"{many(report.recordings, 'recording')}, {report.audio_seconds / 60:.1f} minutes{failed}{missing}"
    if found := report.disagreement:
        yield (
            f"WER between the two {percent(found.rate)}: {found.errors:,} errors on the champion's "
            f"{found.reference_length:,} words"
        )
    if report.share_changed is not None and report.changed_interval:
        low, high = report.changed_interval.low, report.changed_interval.high
        yield (
            f"{many(report.changed, 'transcript')} differ{'s' if report.changed == 1 else ''}: "
            f"{percent(report.share_changed)} (95 % interval {percent(low)} to {percent(high)})"
        )
    if report.p_value is not None:
        yield (
            f"misheard, says the detector: {report.only_champion_misheard} by the champion alone, "
            f"{report.only_candidate_misheard} by the candidate alone (McNemar p {probability(report.p_value)})"
        )
    yield ""
    yield from _both(report)
    yield from (Text(note, "yellow") for note in report.notes)


def _both(report: "ShadowReport") -> "Iterator[str | RenderableType]":
    """Champion and candidate side by side, and what they hear differently."""
    yield table(
        (("champion", report.champion), ("candidate", report.candidate)),
        Column("", lambda row: row[0]),
        Column("model", lambda row: row[1].model),
        Column("transcripts", lambda row: f"{row[1].heard:,}"),
        Column("empty", lambda row: f"{row[1].empty:,}"),
        Column("error rate", lambda row: percent(row[1].error_rate) if row[1].calibrated else "not calibrated"),
        Column("work/audio", lambda row: "–" if row[1].real_time_factor is None else f"{row[1].real_time_factor:.3f}"),
    )
    if report.examples:
        yield table(
            report.examples,
            Column("recording", lambda example: example.path[-24:]),
            Column("champion", lambda example: example.champion),
            Column("candidate", lambda example: example.candidate),
            title="Where they differ most",
            title_justify="left",
        )
