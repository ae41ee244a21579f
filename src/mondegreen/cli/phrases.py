"""`mondegreen phrases`: candidates from corrections, the strength by dev, a list as a candidate for production."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import (
    STORE,
    Column,
    JsonOption,
    LmOption,
    StoreOption,
    answer,
    manifest,
    named_model,
    table,
    warn_of_left_out,
)
from mondegreen.cli.models import LiveOption
from mondegreen.cli.proposal import OnDevOption, proposed
from mondegreen.errors import UsageError
from mondegreen.progress import progress
from mondegreen.scoring.wording import many, percent, unsigned

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.speech.tuning import Tuning

app = typer.Typer(help="Phrases that shall be heard: find, weigh, propose.", no_args_is_help=True)
ListArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A list, see docs/phrases.md.")]


@app.command()
def mine(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the candidates go, each as a comment.")] = Path(
        "phrases.mined.yaml"
    ),
    at_least: Annotated[int, typer.Option(min=1, help="Times that it was misheard.")] = 2,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Candidates from corrections: what people wrote where the model erred, for a person to choose from.

    Cases that share a recording, a text or a speaker with dev or test are not read, nor those of the audit.
    """
    from mondegreen.cases.store import DataManager
    from mondegreen.config import params_of
    from mondegreen.files import require_writable, save_text
    from mondegreen.monitoring.phrase_mining import as_yaml
    from mondegreen.monitoring.phrase_mining import mine as found_in

    if output.exists():
        raise UsageError(f"{output} is there already: somebody may have chosen in it.", "Name another: --output FILE.")
    require_writable(output)
    found, cases = found_in(DataManager(store), manifest(), params_of(), at_least)
    if found:  # an empty file would stand in the way of the next run
        save_text(output, as_yaml(found, cases))
        text = f"{output}: {many(len(found), 'candidate')} of {many(cases, 'corrected case')}. Take some, then "
        text += f"`mondegreen phrases tune {output}`."
    else:
        searched = f"{many(at_least, 'time')} in {many(cases, 'corrected case')}"
        text = f"No phrase was misheard {searched}; nothing is written."
        text += "" if cases else " Cases come from `mondegreen cases add`, corrections from `mondegreen review`."
    facts = {"cases": cases, "output": str(output) if found else None}
    answer(facts | {"candidates": [row.model_dump() for row in found]}, text, as_json)


@app.command()
def tune(
    file: ListArgument,
    model: Annotated[str | None, typer.Option(help="Folder, hub name or models:/name@champion.")] = None,
    margin: Annotated[float, typer.Option(min=0, max=1, help="WER that dev may lose at most (95 % sure).")] = 0.005,
    false_an_hour: Annotated[
        float, typer.Option(min=0, help="Phrases that nobody said, for an hour of retention.")
    ] = 5.0,
    write: Annotated[bool, typer.Option("--write", help="Put the chosen strength into FILE.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose the strength on dev: the best recall whose WER is non-inferior and that invents few phrases.

    The exit code is 1 when no strength helps.
    """
    from mondegreen.files import require_writable, writing
    from mondegreen.scoring.phrases import read_phrases, write_strength
    from mondegreen.speech.transcriber import load_transcriber
    from mondegreen.speech.tuning import STRENGTHS, dev_rows
    from mondegreen.speech.tuning import tune as chosen_by_dev

    listed = read_phrases(file)
    if write:
        require_writable(file)
    if not listed.phrases:
        raise UsageError(f"{file} lists no phrase.", "Write some into it; `mondegreen phrases mine` finds some.")
    (name, params), rows = named_model(model, "Give one: --model NAME."), manifest()
    stt = load_transcriber(name, params)
    warn_of_left_out(stt.with_phrases(listed.at(1.0)))
    dev = sum(len(dev_rows(rows, domain)) for domain in ("target", "retention"))
    with progress("hearing dev", dev * (len(STRENGTHS) + 1)) as advance:
        found = chosen_by_dev(stt, listed, rows, params, STRENGTHS, margin, false_an_hour, advance)
    answer(found, _tuned(found, file, write), as_json)  # first: what was measured is not lost with a full disk
    if write and found.chosen:
        with writing(file, f"Set strength: {found.chosen:g} in it."):
            write_strength(file, found.chosen)
    if not found.chosen:
        raise typer.Exit(1)


@app.command()
def propose(
    file: ListArgument,
    model: Annotated[str | None, typer.Option(help="The weights; the champion when not given.")] = None,
    on_dev: OnDevOption = False,
    lm: LmOption = None,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the champion with a list against the champion, on test (a look), and register it as a version.

    `mondegreen models deploy` and `rollback` move it as any other. The exit code is 1 unless it passed, and 0 for a
    trial.
    """
    proposed(file, lm, model, on_dev, store, as_json)


def _tuned(found: "Tuning", file: Path, written: bool) -> "Iterator[str | RenderableType]":
    yield table(
        found.rows,
        Column("strength", lambda row: f"{row.strength:g}", "right"),
        Column("recall", lambda row: percent(row.phrases.recall or 0.0), "right"),
        Column("precision", lambda row: _known(row.phrases.precision, percent), "right"),
        Column("WER", lambda row: percent(row.wer), "right"),
        Column("may lose", lambda row: unsigned(max(0.0, row.loss_bound)), "right"),
        Column("invented an hour", lambda row: _known(row.false_an_hour, "{:.1f}".format), "right"),
        Column("", lambda row: "chosen" if row.strength == found.chosen else "" if row.allowed else "refused"),
    )  # fmt: skip
    said = found.rows[0].phrases.said
    minutes = found.retention_seconds / 60
    heard = many(found.utterances, "dev utterance")
    yield f"{many(said, 'phrase')} said in {heard}; {minutes:.0f} minutes of retention."
    if not found.retention_seconds:
        yield "There are no retention recordings: what is invented elsewhere was not measured."
    if not found.chosen:
        yield "No strength hears more of them within the bounds: leave the list out."
    elif not written:
        yield f"Set strength: {found.chosen:g} in {file}, or run it again with --write."


def _known(value: float | None, shown: Callable[[float], str]) -> str:
    return "–" if value is None else shown(value)
