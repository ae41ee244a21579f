"""`mondegreen init | upgrade`: a project of one's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import ObjectOption, answer
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from mondegreen.project.scaffold import Made
    from mondegreen.project.upgrading import FileChange


def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The project's folder; . is this one.")],
    sample: Annotated[bool, typer.Option("--sample", help="Make the sample of 200 recordings as well.")] = False,
    model: Annotated[
        str | None, typer.Option(help="starter (the default), a folder, a hub name or models:/NAME@ALIAS.")
    ] = None,
    remote: Annotated[str | None, typer.Option(help="Where DVC pushes to: s3://…, gs://…, a folder.")] = None,
    as_json: ObjectOption = False,
) -> None:
    """Make a project: parameters, pipeline, data folder, git, DVC and CI.

    What is there already is never overwritten, but named; a second run completes what is missing. Exits with 1 when
    the folder has a dvc.yaml of its own.
    """
    from mondegreen.project.scaffold import init as make

    made = make(folder, model, remote, sample)
    answer(made, _made(made), as_json)
    if not made.complete:
        raise typer.Exit(1)


def upgrade(
    write: Annotated[bool, typer.Option("--write", help="Write what loses nothing of yours.")] = False,
    merged: Annotated[
        bool,
        typer.Option("--merged", help="dvc.yaml has by your hand what you want of this version: it stays as it is."),
    ] = False,
    as_json: ObjectOption = False,
) -> None:
    """Show what this version of mondegreen would change in dvc.yaml, params.yaml and what belongs to them.

    Exits with 0 when nothing is left to do, with 1 when something is.
    """
    from mondegreen.project.upgrading import changes, leftovers, take_as_merged
    from mondegreen.project.upgrading import write as apply

    project = Path()
    if merged:
        changes(project)  # refuses where there is no project
        take_as_merged(project)
    found, unknown = changes(project), leftovers(project)
    written = apply(project, found) if write else []
    facts = {
        "changes": [change.model_dump(exclude={"text"}) for change in found],
        "written": written,
        "unknown": unknown,
    }
    answer(facts, _changes(found, written, unknown, write), as_json)
    if unknown or len(written) < len(found):
        raise typer.Exit(1)


def _made(made: "Made") -> Iterator[str]:
    new = [item.path for item in made.items if item.state == "made"]
    there = sum(item.state == "there" for item in made.items)
    said = f"{many(len(new), 'file')} made" if new else "nothing was missing"
    yield f"{made.folder}: {said}" + (f", {there} were there already." if there else ".")
    yield from (f"  {path}" for path in new)
    yield from (f"  {item.path}: kept as it is; {item.next_step}." for item in made.items if item.state == "kept")
    yield f"Model: {made.model}"
    yield f"Remote: {made.remote or 'none yet'}"
    yield from (f"Note: {notice}" for notice in made.notices)
    yield "What now:"
    yield from (f"  {step}" for step in made.next_steps)


def _changes(found: "list[FileChange]", written: list[str], unknown: list[str], write: bool) -> Iterator[str]:
    for change in found:
        yield change.diff
        if change.note:
            yield f"{change.path}: {change.note}."
        if change.path in written:
            yield f"{change.path} was written."
        elif change.obstacle:
            yield f"{change.path} is left as it is: {change.obstacle}."
    yield from (f"params.yaml: {name} is not known any more. Take it out." for name in unknown)
    if not found and not unknown:
        yield "Nothing to do: the project is as this version makes it."
    elif not write and any(not change.obstacle for change in found):
        yield "`mondegreen upgrade --write` writes what loses nothing of yours."
