"""Writes the table of all commands at the end of docs/commands.md: run it after a change of a command or its help."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from mondegreen.cli.main import app
from mondegreen.files import write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"
HEAD = "## Every command\n"


def with_table(page: str) -> str:
    """The page with the table that the commands of now make."""
    rows = [f"| `{name}` | {said} |" for name, said in _commands(typer.main.get_command(app))]
    lines = [HEAD, "| mondegreen … | what it does; `--help` has the options |", "| --- | --- |", *rows, ""]
    return page.partition(HEAD)[0] + "\n".join(lines)


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Name and first sentence of each command, in the order of `--help`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command.get_short_help_str(limit=200)


if __name__ == "__main__":
    write_text(PAGE, with_table(PAGE.read_text(encoding="utf-8")))
