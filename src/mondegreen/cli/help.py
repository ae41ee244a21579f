"""How `--help` reads: paragraphs as wide as the terminal, whole names of options, no type beside a switch."""

import inspect
from typing import Any, get_args, get_type_hints

import typer
from typer.models import OptionInfo


def hyphenated(name: str) -> str:
    """An option's name with hyphens: the fine-tuning guide writes --audio_dir, and help lists one spelling."""
    return name.replace("_", "-")


SPELLINGS: dict[str, Any] = {"token_normalize_func": hyphenated}


def readable(app: typer.Typer) -> typer.Typer:
    """The app, whose help and that of all below it keeps no line ends of docstrings within a paragraph."""
    for command in app.registered_commands:
        if command.callback:
            paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
            command.help = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
            _quiet_switches(command.callback)
    for group in app.registered_groups:
        if group.typer_instance:
            readable(group.typer_instance)
    return app


def _quiet_switches(callback: Any) -> None:
    for hint in get_type_hints(callback, include_extras=True).values():
        kind, *notes = get_args(hint) or (None,)
        if kind is bool or set(get_args(kind)) == {bool, type(None)}:
            for option in notes:
                if isinstance(option, OptionInfo):
                    option.metavar = ""


def run_alone(command: Any) -> None:
    """Runs one command as a script of its own."""
    alone = typer.Typer(add_completion=False, context_settings=SPELLINGS)
    alone.command()(command)
    readable(alone)()
