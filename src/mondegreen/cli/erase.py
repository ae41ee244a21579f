"""`mondegreen cases erase | erasures`: removes people's words and voices for good, and tells what was removed when."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mondegreen.cli.cases import open_store
from mondegreen.cli.common import STORE, JsonOption, ObjectOption, StoreOption, answer, duration, local
from mondegreen.errors import UsageError
from mondegreen.progress import track
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from mondegreen.cases.selecting import Wanted
    from mondegreen.erasure.erase import Erasure

app = typer.Typer()  # joins that of `mondegreen cases`
_WHICH = "Give one of --case ID, --speaker NAME, --caller ID, --older-than 90d, --expired."


@app.command()
def erase(
    case: Annotated[str | None, typer.Option("--case", metavar="ID", help="This case, with its recording.")] = None,
    speaker: Annotated[str | None, typer.Option(help="All that this speaker said.")] = None,
    caller: Annotated[str | None, typer.Option(help="All that this caller sent.")] = None,
    older_than: Annotated[
        str | None, typer.Option(help="Cases last seen, and inferences made, before so long: 24h, 90d, 52w.")
    ] = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="What is older than retention_days of params.yaml allows.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the entry.")] = "",
    author: Annotated[str | None, typer.Option(help="Who asks; your login name when not given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: StoreOption = STORE,
    as_json: ObjectOption = False,
) -> None:
    """Erase recordings and texts for good: from the store, the server's spool, build/, mlruns/ and the caches in var/.

    What is to go is written down before anything goes: a killed erasure is finished by the next call. The entry that
    stays says who, when, why and how much, and knows what was erased by digests only.
    """
    from mondegreen.config import params_of
    from mondegreen.erasure.erase import Eraser
    from mondegreen.git import login

    manager = open_store(store)
    eraser = Eraser(manager, track=lambda files: track(files, "looking through files"))
    finished = None if dry_run else eraser.finish_interrupted()
    if finished and not any((case, speaker, caller, older_than, expired)):
        answer(finished, _lines(finished), as_json)
        return
    for line in _lines(finished) if finished else ():  # whatever becomes of the rest; --json has one object at the end
        typer.echo(line, err=as_json)
    wanted, days = _wanted(case, speaker, caller, older_than, expired), params_of().retention_days
    if dry_run:
        found = eraser.plan(wanted, days)
        answer(found, _lines(found), as_json)
        return
    if not reason.strip():
        raise UsageError("An erasure is written down with its reason.", 'Add --reason "…".')
    planned = eraser.plan(wanted, days)
    _confirm(planned, yes)
    done = eraser.erase(wanted, days, author or login(), reason.strip())
    if done is None:
        text = "There is nothing of it: nothing was changed. Names must be as `mondegreen cases list --json` has them."
        facts = {"erased": False, "finished": finished.model_dump(mode="json") if finished else None}
        answer(facts, [text, *_copies(planned)], as_json)
        return
    answer(done.model_copy(update={"finished": finished}), _lines(done), as_json)


@app.command()
def erasures(store: StoreOption = STORE, as_json: JsonOption = False) -> None:
    """List what was erased: when, by whom, why, and how much."""
    import json

    from mondegreen.cases.selecting import history

    found = history(open_store(store).engine)
    lines = [
        f"{row['id']:>4}  {local(row['at'])}  {row['what']:<10} {row['who']}: {row['reason']}"
        f"{'' if row['finished_at'] else '  (interrupted: `mondegreen cases erase` goes on)'}"
        for row in found
    ]
    answer(json.dumps(found, default=str), lines or ["Nothing was erased."], as_json)


def _wanted(
    case: str | None, speaker: str | None, caller: str | None, older_than: str | None, expired: bool
) -> "Wanted":
    """Raises UsageError unless one thing is asked for."""
    from mondegreen.cases.selecting import Wanted

    if sum((case is not None, speaker is not None, caller is not None, older_than is not None, expired)) != 1:
        raise UsageError("What is to be erased?", _WHICH)
    if older_than is not None:
        age = duration(older_than, "--older-than", "hdw", "Give hours, days or weeks: 24h, 90d, 52w.")
        return Wanted("older_than", before=datetime.now(UTC) - age)
    if expired:
        return Wanted("expired")
    named: list[tuple[Literal["case", "speaker", "caller"], str | None]] = [
        ("case", case),
        ("speaker", speaker),
        ("caller", caller),
    ]
    for what, value in named:
        if value is not None:
            if not value.strip():
                raise UsageError(f"--{what} is empty.", _WHICH)
            return Wanted(what, value.strip())
    raise AssertionError("unreachable")


def _confirm(found: "Erasure", yes: bool) -> None:
    if yes or found.counts.nothing:
        return
    import sys

    if not sys.stdin.isatty():
        raise UsageError("Nobody is here to say yes.", "Add --yes; --dry-run says what would go.")
    for line in _lines(found):
        typer.echo(line, err=True)
    typer.confirm("Erase it for good?", abort=True, err=True)


def _lines(found: "Erasure") -> Iterator[str]:
    if found.resumed:
        yield "An erasure was interrupted; it is finished now."
    if len(found.speakers) > 1:
        yield f"One speaker in {len(found.speakers)} spellings: {', '.join(found.speakers)}."
    counts = found.counts
    silenced = f", and the recordings of {many(counts.silenced_cases, 'case')} whose texts stay"
    yield (
        f"{'Would erase' if found.dry_run else 'Erased'} {many(counts.cases, 'case')}, "
        f"{many(counts.recordings, 'recording')}, {many(counts.inferences, 'inference')}, "
        f"{many(counts.spooled_answers, 'answer')} in the spool" + (f"{silenced}." if counts.silenced_cases else ".")
    )
    told = {"remove": "removes", "rewrite": "takes rows out of"}
    for file in found.files:
        if file.action != "name":
            yield f"  {told[file.action]} {_shown(file.path)}"
    yield from _copies(found)
    if found.number is not None:
        yield f"Entry {found.number}; `mondegreen cases erasures` lists them."


def _copies(found: "Erasure") -> Iterator[str]:
    if found.copies:
        yield "Copies stay here:" if not found.dry_run else "Copies would stay here:"
    for copy in found.copies:
        yield f"  {_shown(copy.where)}"
        yield f"    What now: {copy.next_step}"


def _shown(path: str) -> str:
    from mondegreen.files import printable

    return printable(Path(path))
