"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mondegreen.cases.records import CaseFilter

STORE = Path("var")
StoreOption = Annotated[Path, typer.Option("--store", help="Folder of the case store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]

# Which cases a command is about; `case_filter` takes them.
ModelVersionOption = Annotated[str | None, typer.Option(help="Only what this model heard.")]
SourceOption = Annotated[str | None, typer.Option(help="Only from there.")]
ErrorTypeOption = Annotated[str | None, typer.Option("--type", help="Only with this error type.")]
CorrectedOption = Annotated[bool | None, typer.Option("--corrected/--uncorrected")]
MethodOption = Annotated[str | None, typer.Option(help="Only corrected by: manual, import or llm.")]
UsedOption = Annotated[bool | None, typer.Option("--used/--unused", help="By a dataset version.")]
SinceOption = Annotated[str | None, typer.Option(help="First seen from then on: 24h, 7d, or a date.")]
UntilOption = Annotated[str | None, typer.Option(help="First seen before: 24h, 7d, or a date.")]
TextOption = Annotated[str | None, typer.Option(help="Beginnings of words in a transcript or the file's name.")]


def case_filter(since: str | None, until: str | None, **given: Any) -> "CaseFilter":
    """The filter that the options ask for. Raises UsageError naming the one that is wrong."""
    from mondegreen.cases.records import CaseFilter, checked
    from mondegreen.cli.case_adding import moment

    return checked(CaseFilter, since=moment(since, "--since"), until=moment(until, "--until"), **given)
