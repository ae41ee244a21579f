"""`mondegreen compare A B`: two models, or what any two recognisers wrote down, on the same utterances.

`mondegreen compare` for people.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mondegreen.cli.common import JsonOption
from mondegreen.progress import progress
from mondegreen.scoring.wording import percent, probability, span, unsigned

if TYPE_CHECKING:
    from mondegreen.config import Params
    from mondegreen.records import Hypothesis
    from mondegreen.scoring.slices import Confusion, Estimate, Slice
    from mondegreen.scoring.transcript_files import References
    from mondegreen.scoring.two_models import ChangedUtterance, Side, TwoModels

_WIDTH = 120  # of a pipe or a file
_NOTHING = "·"
_MANY_SPEAKERS = 8


def print_comparison(found: "TwoModels") -> None:
    """Tables and sentences on stdout."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(Group(*_parts(found)))


def _parts(found: "TwoModels") -> Iterator[RenderableType]:
    yield f"A  {escape(found.a.name)}\nB  {escape(found.b.name)}\n"
    yield _slices(found)
    yield "\n".join(_sentences(found)) + "\n"
    yield _tests(found)
    for title, changes in (("B makes fewer errors", found.better_by_b), ("A makes fewer errors", found.better_by_a)):
        if changes:
            yield f"\n[bold]{title}[/]"
            yield from map(_change, changes)
    if found.confusions:
        yield ""
        yield _confusions(found.confusions)


def _slices(found: "TwoModels") -> Table:
    table = Table("slice", title="Word error rates", title_justify="left")
    for heading in ("utterances", "words", "A", "B", "A - B, points", f"{100 * found.level:g} % interval", "p"):
        table.add_column(heading, justify="right")
    whole = (str(found.utterances), str(found.words), percent(found.a.wer.value), percent(found.b.wer.value))
    table.add_row("all", *whole, *_difference(found.difference), probability(found.tests[0].p_value), style="bold")
    for kind in dict.fromkeys(row.kind for row in found.slices):
        rows = [row for row in found.slices if row.kind == kind]
        table.add_section()
        for row in _shown(rows) if kind == "speaker" else rows:
            table.add_row(*_slice(row))
    return table


def _shown(speakers: "list[Slice]") -> "list[Slice]":
    """All, or those between whom the models differ most when there are many; --json has every one."""
    if len(speakers) <= _MANY_SPEAKERS:
        return speakers
    ranked = sorted(speakers, key=lambda row: -row.improvement.value)
    return [*ranked[: _MANY_SPEAKERS // 2], *ranked[-_MANY_SPEAKERS // 2 :]]


def _slice(row: "Slice") -> tuple[str, ...]:
    kind = {"confidence": "confidence ", "speaker": "speaker ", "snr": "SNR "}.get(row.kind, "")
    counts = (str(row.utterances), str(row.words), percent(row.baseline.value), percent(row.candidate.value))
    return escape(kind + row.name), *counts, *_difference(row.improvement), probability(row.p_value)


def _difference(difference: "Estimate") -> tuple[str, str]:
    return f"{100 * difference.value:+.2f}", span(*difference.interval) if difference.interval else "–"


def _sentences(found: "TwoModels") -> Iterator[str]:
    a_better, b_better = found.clusters_better
    yield f"unit        {found.clusters} {found.unit}s; B is better in {b_better}, A in {a_better}"
    yield f"CER         A {percent(found.a.metrics.cer.rate)}, B {percent(found.b.metrics.cer.rate)}"
    if found.effect_size is not None:
        yield f"effect      {found.effect_size:+.2f} standard deviations between {found.unit}s (Hedges' g)"
    if found.minimum_detectable_effect is not None:
        yield f"detectable  a difference from about {unsigned(found.minimum_detectable_effect)} (80 % power)"
    yield f"intervals   block bootstrap over {found.unit}s, {found.interval_method}"
    yield f"normaliser  {found.normalizer}"
    yield from _notes(found)


def _notes(found: "TwoModels") -> Iterator[str]:
    speakers = sum(row.kind == "speaker" for row in found.slices)
    if speakers > _MANY_SPEAKERS:
        yield f"note        of {speakers} speakers those with the largest differences are shown; --json has all"
    if any(row.kind == "word class" for row in found.slices):
        yield "note        a word class counts words not heard as said; p is corrected (Holm) within a kind of slice"
    for letter, side in _sides(found):
        if side.failed:
            yield f"note        {letter} has no transcript of {side.failed} utterances, which count as fully wrong"
    if found.without_reference:
        yield f"note        {found.without_reference} utterances have no reference and were left out"
    if found.machine_references:
        yield f"note        {found.machine_references} REFERENCES WERE WRITTEN BY A MACHINE: rates of agreement with it"


def _sides(found: "TwoModels") -> "tuple[tuple[str, Side], ...]":
    return ("A", found.a), ("B", found.b)


def _tests(found: "TwoModels") -> Table:
    table = Table("test of no difference", "over", title="Two-sided tests", title_justify="left")
    table.add_column("p", justify="right")
    for test in found.tests:
        table.add_row(test.name, test.over, probability(test.p_value))
    return table


def _change(change: "ChangedUtterance") -> str:
    texts = (change.reference, *(text or _NOTHING for text in change.texts))
    lines = [f"{change.id}: word errors {change.errors[0]} by A, {change.errors[1]} by B"]
    lines += [f"  {who:<4}  {text}" for who, text in zip(("said", "A", "B"), texts, strict=True)]
    return escape("\n".join(lines))


def _confusions(rows: "Sequence[Confusion]") -> Table:
    table = Table("said", "heard", title="Most frequent confusions", title_justify="left")
    for letter in "AB":
        table.add_column(letter, justify="right")
    for row in rows:
        table.add_row(escape(row.reference or _NOTHING), escape(row.hypothesis or _NOTHING), *map(str, row.counts))
    return table


MANIFEST = Path("build/prepare/manifest.jsonl")


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Transcripts (.trn .stm .csv .tsv .jsonl), or a model.")],
    b: Annotated[
        str, typer.Argument(metavar="B", help="The same: a file, a folder, a hub name or models:/name@alias.")
    ],
    references: Annotated[
        Path | None,
        typer.Option(
            "--references", "-r", help="What was said: .trn, .stm, .csv, .tsv or .jsonl; the project's manifest."
        ),
    ] = None,
    part: Annotated[
        Literal["test", "dev", "train", "retention", "all"],
        typer.Option(help="Which utterances of a manifest; other files have no parts."),
    ] = "test",
    normalizer: Annotated[
        Literal["spoken", "english"] | None, typer.Option(help="score.normalizer of ./params.yaml when not given.")
    ] = None,
    snr: Annotated[
        bool,
        typer.Option("--snr", help="Measure how noisy the recordings are, where they can be found: slices by SNR."),
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Utterances and confusions in each list.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Compare two models, or the transcripts of any two recognisers.

    Word error rates by slice, the difference with its interval, every test (two-sided), and the utterances that differ
    most. The test's unit is the speaker where the references name enough of them. It is no gate: the exit code is 0
    whenever the two could be compared, and 2 when files do not fit together. `mondegreen validate` judges.
    """
    from mondegreen.config import params_of
    from mondegreen.errors import UsageError
    from mondegreen.scoring.comparison import compare as side_by_side
    from mondegreen.scoring.normalizer import normalizer_id
    from mondegreen.scoring.transcript_files import read_references
    from mondegreen.scoring.two_models import two_models

    params = params_of()
    said = read_references(_references(references), part)
    rules = normalizer or params.score.normalizer
    old, new = (_hypotheses(name, said, params) for name in (a, b))
    comparison = side_by_side(said.timed(old, new), old, new, params.validate_, rules)
    if not comparison.clusters:
        raise UsageError(f"No utterance of {said.path} says what was said.", "Write its words down, then compare.")
    measured = _measured(said) if snr else {}
    found = two_models(comparison, (a, b), params, normalizer_id(rules), show, measured)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        print_comparison(found)


def _references(given: Path | None) -> Path:
    from mondegreen.errors import UsageError

    if given is None and not MANIFEST.is_file():
        raise UsageError("It is not known what was said.", "Name the references: --references FILE.")
    return given or MANIFEST


def _hypotheses(name: str, said: "References", params: "Params") -> "list[Hypothesis]":
    from mondegreen.scoring.transcript_files import SUFFIXES, read_hypotheses

    path = Path(name)
    # A model is a folder or a name; a file that is not there shall not be looked for on the hub.
    if path.is_file() or path.suffix.lower() in SUFFIXES:
        return read_hypotheses(path, said)
    return _transcribed(name, said, params)


def _transcribed(name: str, said: "References", params: "Params") -> "list[Hypothesis]":
    """What a model hears. In a project its earlier transcripts are used again; elsewhere nothing is left behind."""
    from mondegreen.files import sha256_file
    from mondegreen.scoring.references import wrong
    from mondegreen.speech.corpus_transcription import MEMORY_FOLDER, transcribe_corpus
    from mondegreen.speech.transcriber import BaselineSTTModel

    for line in said.chosen:
        if not Path(line.path or line.key).is_file():
            problem = f"there is no recording {line.path or line.key} for {name} to transcribe"
            raise wrong(said.path, line.number, problem, "Name it in a column `path`, relative to the file's folder.")
    utterances = [row.model_copy(update={"sha256": sha256_file(Path(row.path))}) for row in said.utterances]
    project = Path("params.yaml").is_file()
    model = BaselineSTTModel(
        name,
        batch_seconds=params.transcribe.batch_seconds,
        beam_width=params.transcribe.beam_width,
        nbest=params.transcribe.nbest if project else 0,
        max_duration=params.audio.max_duration,
        cached=project,
    )
    with TemporaryDirectory() as nowhere, progress(name, len(utterances)) as advance:
        return transcribe_corpus(utterances, model, MEMORY_FOLDER if project else Path(nowhere), advance)


def _measured(said: "References") -> dict[str, float]:
    """dB of the recordings that are there, by utterance ID."""
    from mondegreen.detector.features import measure
    from mondegreen.errors import AudioError
    from mondegreen.speech.audio import load_audio

    found = {}
    with progress("measuring SNR", len(said.chosen)) as advance:
        for done, line in enumerate(said.chosen, 1):
            with suppress(AudioError):  # not there, or no audio: its SNR stays unknown
                found[line.key] = measure(load_audio(Path(line.path or line.key))).snr
            advance(done)
    return found
