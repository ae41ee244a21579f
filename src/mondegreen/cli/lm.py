"""`mondegreen lm`: a language model from corrections, references and text; what it is worth."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mondegreen.cli.common import (
    STORE,
    Column,
    JsonOption,
    PhrasesOption,
    StoreOption,
    answer,
    manifest,
    named_model,
    table,
)
from mondegreen.cli.models import LiveOption
from mondegreen.cli.proposal import OnDevOption, proposed
from mondegreen.errors import UsageError
from mondegreen.progress import progress
from mondegreen.scoring.wording import percent, unsigned

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.monitoring.lm_texts import TextSource
    from mondegreen.speech.fusion import Speller
    from mondegreen.speech.tuning import LmTuning, WeightRow

app = typer.Typer(help="A language model for the search: build, measure, weigh, propose.", no_args_is_help=True)
LmArgument = Annotated[Path, typer.Argument(metavar="LM", help="words.lm, or an ARPA file (.arpa, .arpa.gz).")]
LettersOption = Annotated[str | None, typer.Option("--model", help="Whose letters the words are written in.")]


@app.command()
def build(
    texts: Annotated[list[Path] | None, typer.Argument(metavar="[TEXT]...", help="Text, a sentence a line.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="words.lm; ARPA where it ends in .arpa(.gz).")] = Path(
        "lm/words.lm"
    ),
    order: Annotated[int, typer.Option(min=1, max=9, help="Words of the longest n-grams.")] = 3,
    prune: Annotated[
        str, typer.Option(metavar="N,N,…", help="Leave out n-grams counted so often or less, by order.")
    ] = "0,0,1",
    corrections: Annotated[bool, typer.Option(help="Learn from corrected cases.")] = True,
    references: Annotated[bool, typer.Option(help="Learn from the references of train.")] = True,
    model: LettersOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Learn a language model (modified Kneser-Ney) from corrections, references of train and text files.

    A line that says what dev, test or retention say is left out, and said.
    """
    from mondegreen.cases.store import DataManager
    from mondegreen.files import require_writable, writing
    from mondegreen.monitoring.lm_texts import Judged, learnable, sources
    from mondegreen.speech.kneser_ney import language_model
    from mondegreen.speech.ngram import UNKNOWN
    from mondegreen.speech.ngram_files import write_lm

    limits = _limits(prune)
    require_writable(output)
    speller, params = _speller(model)
    rows, manager = manifest(), DataManager(store) if corrections else None
    found = sources(manager, rows, texts or [], params, references)
    sentences, accounts = learnable(found, Judged(rows, params), speller.words, UNKNOWN)
    made, discounts = language_model(sentences, order, limits)
    facts: dict[str, Any] = {
        "sources": [source.model_dump() for source in accounts],
        "words": len(made.words) - 3,
        "ngrams": [len(level.keys) for level in made.orders],
        "discounts": [level.values for level in discounts],
        "fallback_discounts": [number for number, level in enumerate(discounts, 1) if level.fallback],
    }
    with writing(output):
        write_lm(output, replace(made, facts=json.dumps(facts)))
    answer(facts | {"output": str(output)}, _built(accounts, facts, output), as_json)


@app.command("eval")
def evaluate(
    lm: LmArgument,
    texts: Annotated[list[Path], typer.Argument(metavar="TEXT...", help="Text, a sentence a line.")],
    model: LettersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Perplexity and share of unknown words of text files, each a sentence a line."""
    from mondegreen.files import path_text
    from mondegreen.speech.ngram import END, perplexity
    from mondegreen.speech.ngram_files import read_lm

    found, (speller, _) = read_lm(lm), _speller(model)
    known = speller.spellings(found.words)
    rows = []
    for text in texts:
        lines = [spelt for line in path_text(text).splitlines() if (spelt := speller.words(line))]
        scores = [score for spelt in lines for score in found.sentence(known.get(word, word) for word in spelt)]
        words = len(scores) - len(lines)
        if not words:
            raise UsageError(f"{text} holds no word.", f"Name text, a sentence a line (each is followed by {END}).")
        unknown = sum(not has for _, has in scores)
        rows.append(
            {
                "text": str(text),
                "sentences": len(lines),
                "words": words,
                "unknown": unknown,
                "unknown_share": unknown / words,
                "perplexity": perplexity([score for score, _ in scores]),
                "perplexity_of_known": perplexity([score for score, has in scores if has]),
            }
        )
    answer(rows, _measured(rows), as_json)


@app.command()
def tune(
    lm: LmArgument,
    model: Annotated[str | None, typer.Option(help="Folder, hub name or models:/name@champion.")] = None,
    margin: Annotated[float, typer.Option(min=0, max=1, help="WER that dev may lose at most (95 % sure).")] = 0.005,
    write: Annotated[bool, typer.Option("--write", help="Put the chosen numbers into LM.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose alpha and beta on dev: the lowest WER, where dev and retention (validate.retention_margin) lose little.

    The exit code is 1 when the language model does not help.
    """
    from mondegreen.files import require_writable, writing
    from mondegreen.speech.ngram_files import is_arpa, read_lm, write_lm
    from mondegreen.speech.transcriber import load_transcriber
    from mondegreen.speech.tuning import PASSES, dev_rows, tune_lm

    if write and is_arpa(lm):
        raise UsageError(
            f"{lm}: ARPA has no place for alpha and beta.", f"`mondegreen lm convert {lm} words.lm` first."
        )
    if write:
        require_writable(lm)
    found, (name, params), rows = read_lm(lm), named_model(model, "Give one: --model NAME."), manifest()
    stt = load_transcriber(name, params)
    passes = PASSES * sum(len(dev_rows(rows, domain)) for domain in ("target", "retention"))
    with progress("hearing dev", passes) as advance:
        tuned = tune_lm(stt, found, rows, params, margin, advance)
    answer(tuned, _tuned(tuned, lm, write), as_json)  # first: what was measured is not lost with a full disk
    if write and tuned.alpha:
        kept = f"`mondegreen lm convert {lm} NEW.lm --alpha {tuned.alpha:g} --beta {tuned.beta:g}` writes another file."
        with writing(lm, kept):
            write_lm(lm, found.at(tuned.alpha, tuned.beta))
    if not tuned.alpha:
        raise typer.Exit(1)


@app.command()
def propose(
    lm: LmArgument,
    model: Annotated[str | None, typer.Option(help="The weights; the champion when not given.")] = None,
    phrases: PhrasesOption = None,
    on_dev: OnDevOption = False,
    store: LiveOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge the champion with a language model against the champion, on test (a look), and register it as a version.

    `mondegreen models deploy` and `rollback` move it as any other. The exit code is 1 unless it passed, and 0 for a
    trial.
    """
    proposed(phrases, lm, model, on_dev, store, as_json)


@app.command()
def convert(
    lm: LmArgument,
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="words.lm, words.arpa or .arpa.gz")],
    alpha: Annotated[float | None, typer.Option(min=0, max=10, help="Factor of its log probabilities.")] = None,
    beta: Annotated[float | None, typer.Option(min=-100, max=100, help="What each word is given.")] = None,
) -> None:
    """Write a language model in the other form: .lm, which is mapped into memory and keeps alpha and beta, or ARPA."""
    from mondegreen.files import require_writable, writing
    from mondegreen.speech.ngram_files import is_arpa, read_lm, write_lm

    if is_arpa(output) and (alpha is not None or beta is not None):
        raise UsageError(f"{output}: ARPA has no place for alpha and beta.", "Name a .lm, or leave both out.")
    if output.exists():
        raise UsageError(f"{output} is there already.", "Name another file, or remove it.")
    require_writable(output)
    found = read_lm(lm)
    found = found.at(found.alpha if alpha is None else alpha, found.beta if beta is None else beta)
    with writing(output):
        write_lm(output, found)
    sizes = ", ".join(f"{len(level.keys)} {number}-grams" for number, level in enumerate(found.orders, 1))
    typer.echo(f"{output}: {sizes}")


def _speller(model: str | None) -> "tuple[Speller, Any]":
    """The letters of a model, and the parameters."""
    from mondegreen.speech.fusion import Speller
    from mondegreen.speech.model import load_model

    name, params = named_model(model, "Give one: --model NAME.")
    return Speller(load_model(name).vocabulary), params


def _limits(prune: str) -> list[int]:
    parts = prune.replace(",", " ").split()
    if not parts or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--prune {prune} is no list of counts.", "Write one an order, such as --prune 0,0,1.")
    return [int(part) for part in parts]


def _built(accounts: "list[TextSource]", facts: dict[str, Any], output: Path) -> "Iterator[str | RenderableType]":
    yield table(
        accounts,
        Column("source", lambda row: row.name),
        Column("lines", lambda row: str(row.lines), "right"),
        Column("learnt", lambda row: str(row.taken), "right"),
        Column("judge", lambda row: str(row.judged), "right"),
        Column("no word", lambda row: str(row.no_word), "right"),
        Column("words not written", lambda row: str(row.unknown_words), "right"),
    )  # fmt: skip
    for source in accounts:
        yield from (f"left out: {line}" for line in source.left_out)
        if source.judged > len(source.left_out):
            yield f"left out: {source.judged - len(source.left_out)} more lines of {source.name}"
    sizes = ", ".join(f"{count} {number}-grams" for number, count in enumerate(facts["ngrams"], 1))
    yield f"{output}: {facts['words']} words; {sizes}."
    for number in facts["fallback_discounts"]:
        yield f"Too few {number}-grams to estimate their discounts: 0.5, 1 and 1.5 were taken."
    yield f"Next: `mondegreen lm tune {output} --write` chooses its weight on dev."


def _tuned(found: "LmTuning", lm: Path, written: bool) -> "Iterator[str | RenderableType]":
    yield table(
        found.rows,
        Column("alpha", lambda row: f"{row.alpha:g}", "right"),
        Column("beta", lambda row: f"{row.beta:g}", "right"),
        Column("WER", lambda row: percent(row.wer), "right"),
        Column("may lose", lambda row: unsigned(max(0.0, row.loss_bound)), "right"),
        Column("retention", lambda row: percent(row.retention_wer), "right"),
        Column("", lambda row: "chosen" if (row.alpha, row.beta) == (found.alpha, found.beta) else _allowed(row)),
    )  # fmt: skip
    yield f"{found.utterances} dev utterances, {found.retention_utterances} of retention."
    if not found.retention_utterances:
        yield "There are no retention recordings: what is lost elsewhere was not measured."
    if not found.alpha:
        yield "No weight hears dev better within the bounds: leave the language model out."
    elif not written:
        yield f"Run it again with --write, and {lm} keeps alpha {found.alpha:g} and beta {found.beta:g}."


def _allowed(row: "WeightRow") -> str:
    return "" if row.allowed else "refused"


def _measured(rows: list[dict[str, Any]]) -> "Iterator[str | RenderableType]":
    number: Callable[[float | None], str] = lambda value: "–" if value is None else f"{value:.1f}"  # noqa: E731
    yield table(
        rows,
        Column("text", lambda row: row["text"]),
        Column("sentences", lambda row: str(row["sentences"]), "right"),
        Column("words", lambda row: str(row["words"]), "right"),
        Column("unknown", lambda row: percent(row["unknown_share"]), "right"),
        Column("perplexity", lambda row: number(row["perplexity"]), "right"),
        Column("of known words", lambda row: number(row["perplexity_of_known"]), "right"),
    )  # fmt: skip
