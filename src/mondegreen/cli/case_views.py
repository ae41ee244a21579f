"""How `mondegreen cases` shows cases: JSON for programs, tables for people."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mondegreen.cases.records import Case, CasePage, Correction, Statistics
    from mondegreen.cases.verification import Verification


def show_added(case: "Case", path: Path, as_json: bool) -> None:
    """One line a recording."""
    if as_json:
        typer.echo(case.model_dump_json())
    else:
        again = f" (seen {case.times_seen} times)" if case.times_seen > 1 else ""
        typer.echo(f"{case.id}  {path}: {case.original_transcript}{again}")


def show_page(page: "CasePage", as_json: bool) -> None:
    """A table, and how to go on from it."""
    if as_json:
        typer.echo(page.model_dump_json())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not page.cases:
        typer.echo("No case is like that.")
        return
    table = Table(show_lines=True)
    for name in ("id", "first seen", "errors", "heard", "said"):
        table.add_column(name, no_wrap=name == "id")
    for case in page.cases:
        said = f"{case.corrected_transcript or '(nothing)'} [{case.label_method}]" if case.is_corrected else ""
        cells = (case.id, _local(case.first_seen), ", ".join(case.error_types), case.original_transcript, said)
        table.add_row(*map(Text, cells))
    Console().print(table)
    if page.next:
        typer.echo(f"More: --after {page.next}")


def show_case(case: "Case", history: list["Correction"], audio: str | None, as_json: bool) -> None:
    """Everything about one case."""
    if as_json:
        import json

        tree = case.model_dump(mode="json")
        tree |= {"audio": audio, "corrections": [entry.model_dump(mode="json") for entry in history]}
        typer.echo(json.dumps(tree, ensure_ascii=False))
        return
    score = "" if case.error_score is None else f" (score {case.error_score:.2f})"
    said = "(nobody wrote it down)" if case.corrected_transcript is None else case.corrected_transcript or "(nothing)"
    for name, value in (
        ("case", case.id),
        ("audio", f"{audio or '(missing)'} ({case.audio_name}, {case.duration or 0:.1f} s)"),
        ("heard", f"{case.original_transcript or '(nothing)'}"),
        ("by", case.model_version or "(unknown)"),
        ("said", said),
        ("errors", f"{', '.join(case.error_types) or '(unknown)'}{score}"),
        ("seen", f"{case.times_seen} times, {_local(case.first_seen)} to {_local(case.last_seen)}, {case.source}"),
        ("dataset", "none" if case.dataset_version is None else f"v{case.dataset_version}"),
    ):
        typer.echo(f"{name:<9}{value}")
    for entry in history:
        undone = " (taken back)" if entry.taken_back else ""
        said = entry.transcript or "(nothing)"
        typer.echo(f"  {_local(entry.at)}  {entry.method:<7} {entry.author or '-'}: {said}{undone}")


def show_statistics(found: "Statistics", as_json: bool) -> None:
    """The store in numbers."""
    if as_json:
        typer.echo(found.model_dump_json())
        return
    typer.echo(f"{found.total} cases, {found.corrected} corrected ({found.correction_rate:.1%})")
    typer.echo(f"{found.unused} in no dataset version yet, {found.unused_corrected} of them corrected")
    groups = {
        "corrected by": found.by_method,
        "error type": found.error_types,
        "model": found.by_model_version,
        "source": found.by_source,
    }
    for title, counts in groups.items():
        for name, count in counts.items():
            typer.echo(f"{title:<14}{name or '(unknown)'}: {count} ({count / found.total:.1%})")


def show_verification(found: "Verification", as_json: bool) -> None:
    """What is wrong, and what to do about it."""
    if as_json:
        typer.echo(found.model_dump_json())
        return
    typer.echo(f"{found.blobs} recordings of {found.cases} cases were hashed again.")
    for digest in found.corrupt:
        typer.echo(f"corrupt: {digest}")
    for digest in found.missing:
        typer.echo(f"missing: {digest}")
    if found.damaged_cases:
        typer.echo(f"Cases without their audio: {', '.join(found.damaged_cases)}")
        typer.echo("  What now: add the recordings again (`mondegreen cases add`), or fetch the blobs from a backup.")
    if found.miscounted:
        typer.echo("The counters were wrong; they have been counted again.")
    if found.swept_leftovers:
        typer.echo(f"Removed {found.swept_leftovers} half-written files of killed writers.")
    if found.deleted_orphans:
        typer.echo(f"Deleted {found.deleted_orphans} recordings that belonged to no case.")
    elif found.orphans:
        typer.echo(f"{len(found.orphans)} recordings belong to no case; --delete-orphans removes them.")
    if found.is_sound:
        typer.echo("All is well.")


@contextmanager
def verification_progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda hashed: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("hashing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda hashed: bar.advance(task, hashed)


def _local(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"
