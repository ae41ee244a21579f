"""`mondegreen compare A B`: two models, or what any two recognisers wrote down, on the same utterances."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mondegreen.cli.common import Column, JsonOption, answer, table, warn_of_left_out
from mondegreen.errors import AudioError, UsageError
from mondegreen.progress import progress
from mondegreen.scoring.wording import BY_CHARACTER, confidence, counted, percent, probability, span, unsigned

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mondegreen.config import Params
    from mondegreen.delimited import Notice
    from mondegreen.records import Hypothesis
    from mondegreen.scoring.comparison import Comparison
    from mondegreen.scoring.normalizer import NormalizerName
    from mondegreen.scoring.slices import Slice
    from mondegreen.scoring.spellings import Mapping, Spellings
    from mondegreen.scoring.terms import TermRates
    from mondegreen.scoring.transcript_files import References
    from mondegreen.scoring.two_models import ChangedUtterance, TwoModels
    from mondegreen.scoring.verdict import TermScore, Unit

_NOTHING = "·"
_MANY_SPEAKERS = 8  # more are not all shown
_TERMS = 8  # are shown, those with the most errors
MANIFEST = Path("build/prepare/manifest.jsonl")


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="Transcripts (.trn .stm .csv .tsv .json(l), Kaldi's text), or a model.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="The same: a file, a folder, a hub name or models:/name@alias.")
    ],
    references: Annotated[
        Path | None,
        typer.Option(
            "--references",
            "-r",
            help="What was said, in a file of the same kinds; the project's manifest if not given.",
        ),
    ] = None,
    part: Annotated[
        Literal["test", "dev", "train", "retention", "all"],
        typer.Option(help="Which utterances of a manifest; other files have no parts."),
    ] = "test",
    normalizer: Annotated[
        Literal["spoken", "english"] | None, typer.Option(help="score.normalizer of ./params.yaml when not given.")
    ] = None,
    unit: Annotated[
        Literal["speaker", "recording", "utterance"] | None,
        typer.Option(help="What is independent of each other; validate's rule when not given."),
    ] = None,
    glm: Annotated[
        Path | None, typer.Option(metavar="FILE", help="NIST's mapping file: spellings that count as one word.")
    ] = None,
    words: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="WORD=WORD", help="Spellings that count as one: okay=ok; uh= leaves a word out."),
    ] = None,
    sclite: Annotated[
        bool, typer.Option("--sclite", help="Count as NIST's sclite does: a substitution weighs 4, a gap 3.")
    ] = False,
    terms: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Terms, one a line: how often they are missed or invented.")
    ] = None,
    phrases: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Phrases that B, a model, shall hear: name it as A too to see their worth."),
    ] = None,
    lm: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The language model by which B hears, not its own.")
    ] = None,
    snr: Annotated[
        bool,
        typer.Option("--snr", help="Measure how noisy the recordings are, where they can be found: slices by SNR."),
    ] = False,
    channel: Annotated[
        Literal["mix", "first", "second"] | None,
        typer.Option(help="What models hear of recordings with several; audio.channel of ./params.yaml if not given."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write .csv (every utterance), or .html (where they differ, to be heard)."),
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Utterances and confusions in each list.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Compare two models, or the transcripts of any two recognisers.

    Word error rates by slice, the difference with its interval, every test (two-sided), and the utterances that differ
    most. The test's unit is the speaker where the references name enough of them. It is no gate: the exit code is 0
    whenever the two could be compared, and 2 when files do not fit together. `mondegreen validate` judges.
    """
    from mondegreen.config import params_of
    from mondegreen.scoring.normalizer import normalizer_id
    from mondegreen.scoring.phrases import read_phrases
    from mondegreen.scoring.spellings import read_glm, with_words
    from mondegreen.scoring.terms import read_terms, term_rates
    from mondegreen.scoring.transcript_files import read_references
    from mondegreen.scoring.two_models import two_models
    from mondegreen.speech.ngram_files import read_lm

    params = params_of()
    if channel:
        params = params.model_copy(update={"audio": params.audio.model_copy(update={"channel": channel})})
    notices: list[Notice] = []
    said = read_references(_references(references), part, notices)
    rules = normalizer or params.score.normalizer
    options = {"phrases": read_phrases(phrases) if phrases else None, "lm": read_lm(lm) if lm else None}
    given = {option: value for option, value in options.items() if value is not None}
    # Before a model works for an hour: one of these may be wrong.
    mapping = with_words(read_glm(glm) if glm else None, words or ())
    named = read_terms(terms, rules) if terms else {}
    if export:
        _check_export(export)
    old, new = (_hypotheses(name, said, params, notices, by) for name, by in ((a, {}), (b, given)))
    texts = _as_written(said, old, new)
    if mapping.rules:
        said, old, new = _mapped(mapping, said, (old, new), rules)
    comparison = _counted(said, (old, new), params, rules, unit, sclite)
    measured = _measured(said, params.audio.max_missing_share) if snr else {}
    found = two_models(comparison, (a, b), params, normalizer_id(rules, comparison.measure), show, measured)
    facts: dict[str, Any] = {"terms": term_rates(comparison, terms, named, params) if terms else None}
    facts |= {"spellings": _spellings(said, (old, new), rules, found), "notices": tuple(dict.fromkeys(notices))}
    found = found.model_copy(update=facts | {"sclite": sclite})
    answer(found, _screen(found), as_json, width=120)
    if export:
        from mondegreen.reports.comparison import write_comparison

        write_comparison(export, found, comparison, texts, _printed(found))


def _as_written(said: "References", a: "list[Hypothesis]", b: "list[Hypothesis]") -> dict[str, tuple[str, str, str]]:
    """By the utterance's ID what was said and what A and B heard, before a mapping rewrites them."""
    return {line.key: (line.text, one.text, other.text) for line, one, other in zip(said.chosen, a, b, strict=True)}


def _check_export(path: Path) -> None:
    from mondegreen.files import require_writable
    from mondegreen.reports.comparison import check_suffix

    check_suffix(path)
    require_writable(path)


def _printed(found: "TwoModels") -> str:
    """The screen as plain text."""
    from rich.console import Console

    printed = StringIO()
    console = Console(file=printed, width=120, color_system=None)
    for part in _screen(found):
        console.print(part, markup=False)
    return printed.getvalue()


def _mapped(
    mapping: "Mapping",
    said: "References",
    sides: "tuple[list[Hypothesis], list[Hypothesis]]",
    normalizer: "NormalizerName",
) -> "tuple[References, list[Hypothesis], list[Hypothesis]]":
    """References and both sides under the rules of a file and of --map; its choices are NIST's notation."""
    from mondegreen.scoring.spellings import mapped

    chosen = tuple(replace(line, text=mapping.apply(line.text, said.nist)) for line in said.chosen)
    a, b = (
        [mapped(heard, line.text, mapping, normalizer) for heard, line in zip(side, chosen, strict=True)]
        for side in sides
    )
    return replace(said, chosen=chosen, choices=mapping.choices), a, b


def _counted(
    said: "References",
    sides: "tuple[list[Hypothesis], list[Hypothesis]]",
    params: "Params",
    rules: "NormalizerName",
    unit: "Unit | None",
    sclite: bool,
) -> "Comparison":
    """The errors of both sides on what was said; raises UsageError where no reference holds a word."""
    from mondegreen.scoring.comparison import compare as side_by_side

    comparison = side_by_side(
        said.timed(*sides), *sides, params.validate_, rules,
        notation=said.notation, silence=said.silence, unit=unit, sclite=sclite,
    )  # fmt: skip
    if not comparison.words.sum():
        raise UsageError(f"No utterance of {said.path} says what was said.", "Write its words down, then compare.")
    return comparison


def _spellings(
    said: "References", sides: "tuple[list[Hypothesis], list[Hypothesis]]", rules: "NormalizerName", found: "TwoModels"
) -> "Spellings | None":
    """The same under the other normaliser; characters of scripts without blanks have only one."""
    from mondegreen.scoring.spellings import spellings

    if found.measure == "CER":
        return None
    rates = found.a.metrics.wer, found.b.metrics.wer
    return spellings(said.timed(*sides), sides, rules, rates, notation=said.notation, silence=said.silence)


def _references(given: Path | None) -> Path:
    if given is None and not MANIFEST.is_file():
        raise UsageError("It is not known what was said.", "Name the references: --references FILE.")
    return given or MANIFEST


def _hypotheses(
    name: str, said: "References", params: "Params", notices: "list[Notice]", by: dict[str, Any]
) -> "list[Hypothesis]":
    from mondegreen.scoring.transcript_files import SUFFIXES, read_hypotheses

    path = Path(name)
    # A model is a folder or a name; a file that is not there shall not be looked for on the hub.
    if path.is_file() or path.suffix.lower() in SUFFIXES:
        for option in by:
            problem = f"{name} is written already: no {option} can change it."
            raise UsageError(problem, f"Name a model, or no --{option}.")
        return read_hypotheses(path, said, notices)
    return _transcribed(name, said, params, by)


def _transcribed(name: str, said: "References", params: "Params", by: dict[str, Any]) -> "list[Hypothesis]":
    """What a model hears. In a project its earlier transcripts are used again; elsewhere nothing is left behind.

    Args:
        by: phrases and language model instead of its own.
    """
    from mondegreen.delimited import wrong
    from mondegreen.speech.audio import named_channels
    from mondegreen.speech.channels import channel_of, content_digest
    from mondegreen.speech.corpus_transcription import MEMORY_FOLDER, transcribe_corpus
    from mondegreen.speech.transcriber import load_transcriber

    for line in said.chosen:
        if not channel_of(line.path or line.key)[0].is_file():
            problem = f"there is no recording {line.path or line.key} for {name} to transcribe"
            raise wrong(said.path, line.number, problem, "Name it in a column `path`, relative to the file's folder.")
    channel = "mix" if params.audio.channel == "split" else params.audio.channel  # references name its channels
    paths = [named_channels(Path(row.path), channel)[0] for row in said.utterances]
    utterances = [
        row.model_copy(update={"path": str(path), "sha256": content_digest(path)})
        for row, path in zip(said.utterances, paths, strict=True)
    ]
    project = Path("params.yaml").is_file()
    nbest = params.transcribe.nbest if project else 0
    model = load_transcriber(name, params, nbest=nbest, cached=project, **by)
    warn_of_left_out(model)
    with TemporaryDirectory() as nowhere, progress(name, len(utterances)) as advance:
        return transcribe_corpus(utterances, model, MEMORY_FOLDER if project else Path(nowhere), advance)


def _measured(said: "References", max_missing_share: float) -> dict[str, float]:
    """dB of the recordings that are there, by utterance ID."""
    from mondegreen.detector.features import measure
    from mondegreen.speech.audio import load_audio

    found = {}
    with progress("measuring SNR", len(said.chosen)) as advance:
        for done, line in enumerate(said.chosen, 1):
            with suppress(AudioError):  # not there, or no audio: its SNR stays unknown
                waveform = load_audio(Path(line.path or line.key), max_missing_share=max_missing_share)
                found[line.key] = measure(waveform).snr
            advance(done)
    return found


def _screen(found: "TwoModels") -> "Iterator[str | RenderableType]":
    """Tables and sentences for people."""
    from rich.text import Text

    yield Text(f"A  {found.a.name}\nB  {found.b.name}\n")
    yield _slices(found)
    yield Text("\n".join(_sentences(found)) + "\n")
    yield table(
        found.tests,
        Column("test of no difference", lambda test: test.name),
        Column("over", lambda test: test.over),
        Column("p", lambda test: probability(test.p_value), "right"),
        title="Two-sided tests",
        title_justify="left",
    )
    for title, changes in (("B makes fewer errors", found.better_by_b), ("A makes fewer errors", found.better_by_a)):
        if changes:
            yield Text(f"\n{title}", "bold")
            yield from (Text(_change(change)) for change in changes)
    if found.confusions:
        yield ""
        yield table(
            found.confusions,
            Column("said", lambda row: row.reference or _NOTHING),
            Column("heard", lambda row: row.hypothesis or _NOTHING),
            Column("A", lambda row: row.counts[0], "right"),
            Column("B", lambda row: row.counts[1], "right"),
            title="Most frequent confusions",
            title_justify="left",
        )


def _slices(found: "TwoModels") -> "Table":
    """All utterances, then a section for each kind of slice."""
    from rich.box import HORIZONTALS

    whole = SimpleNamespace(
        kind="",
        name="all",
        utterances=found.utterances,
        words=found.words,
        baseline=found.a.wer,
        candidate=found.b.wer,
        improvement=found.difference,
        p_value=found.tests[0].p_value,
    )
    kinds = {"confidence": "confidence ", "speaker": "speaker ", "snr": "SNR "}
    rows: list[Any] = [whole]
    for kind in dict.fromkeys(row.kind for row in found.slices):
        of_kind = [row for row in found.slices if row.kind == kind]
        rows += _most_different(of_kind) if kind == "speaker" else of_kind
    drawn = table(
        rows,
        Column("slice", lambda row: kinds.get(row.kind, "") + row.name),
        Column("utterances", lambda row: row.utterances, "right", no_wrap=True),
        Column(counted(found.measure), lambda row: row.words, "right", no_wrap=True),
        Column("A", lambda row: percent(row.baseline.value), "right", no_wrap=True),
        Column("B", lambda row: percent(row.candidate.value), "right", no_wrap=True),
        Column("A - B,\npoints", lambda row: f"{100 * row.improvement.value:+.2f}", "right", no_wrap=True),
        Column(f"{confidence(found.level)} interval", _interval, "right"),
        Column("p", lambda row: probability(row.p_value), "right", no_wrap=True),
        title="Character error rates" if found.measure == "CER" else "Word error rates",
        title_justify="left",
        box=HORIZONTALS,  # lines between columns take the room of whole words at 80 columns
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    drawn.rows[0].style = "bold"
    for line, row, following in zip(drawn.rows, rows, rows[1:], strict=False):
        line.end_section = row.kind != following.kind
    return drawn


def _most_different(speakers: "list[Slice]") -> "list[Slice]":
    """All, or those between whom the models differ most when there are many; --json has every one."""
    if len(speakers) <= _MANY_SPEAKERS:
        return speakers
    ranked = sorted(speakers, key=lambda row: -row.improvement.value)
    return [*ranked[: _MANY_SPEAKERS // 2], *ranked[-_MANY_SPEAKERS // 2 :]]


def _interval(row: "Slice") -> str:
    return span(*row.improvement.interval) if row.improvement.interval else "–"


def _sentences(found: "TwoModels") -> Iterator[str]:
    a_better, b_better = found.clusters_better
    yield f"unit        {found.clusters} {found.unit}s; B is better in {b_better}, A in {a_better}"
    for letter, side in (("A", found.a), ("B", found.b)):
        counts = side.metrics.wer
        kinds = f"{counts.substitutions} substituted, {counts.deletions} deleted, {counts.insertions} inserted"
        how = " (sclite's alignment)" if found.sclite else ""
        yield f"errors      {letter} {counts.errors} of {counts.reference_length}: {kinds}{how}"
    if found.measure == "WER":
        yield f"CER         A {percent(found.a.metrics.cer.rate)}, B {percent(found.b.metrics.cer.rate)}"
    else:
        yield f"measure     {BY_CHARACTER}"
    if found.effect_size is not None:
        yield f"effect      {found.effect_size:+.2f} standard deviations between {found.unit}s (Hedges' g)"
    if found.minimum_detectable_effect is not None:
        yield f"detectable  a difference from about {unsigned(found.minimum_detectable_effect)} (80 % power)"
    yield f"intervals   block bootstrap over {found.unit}s, {found.interval_method}"
    yield f"normaliser  {found.normalizer}"
    if other := found.spellings:
        yield f"            {other.normalizer}: A {percent(other.a)}, B {percent(other.b)}"
    if found.terms:
        yield from _terms(found.terms)
    yield from _notes(found)


def _terms(found: "TermRates") -> Iterator[str]:
    a, b = (percent(rate) for rate in found.rates)
    bounds = f", A - B {span(*found.interval)} points" if found.interval else ""
    yield f"terms       error rate A {a}, B {b} on {found.said} said{bounds}"
    for name in ("recall", "precision"):
        sides = zip("AB", found.scores, strict=True)
        yield f"            {name} " + ", ".join(f"{letter} {_share(score, name)}" for letter, score in sides)
    for row in found.rows[:_TERMS]:
        missed, invented = (f"{first} and {second}" for first, second in (row.missed, row.invented))
        yield f"            {row.term}: said {row.said}, missed by A and B {missed}, invented {invented}"
    if len(found.rows) > _TERMS or found.never:
        more = max(0, len(found.rows) - _TERMS)
        yield f"            {more} more in --json; {found.never} of {found.file} were neither said nor heard"


def _share(score: "TermScore", name: str) -> str:
    rate, bounds = getattr(score, name), getattr(score, f"{name}_interval")
    shown = "unknown" if rate is None else percent(rate)
    return f"{shown} ({percent(bounds[0])} to {percent(bounds[1])})" if bounds else shown


def _notes(found: "TwoModels") -> Iterator[str]:
    if found.few_clusters:
        yield f"warning     {found.few_clusters}"
    if (other := found.spellings) and other.warning:
        causes = "; ".join(other.causes) or "the texts differ in spelling"
        yield f"warning     {other.warning}: see both rates; {causes}"
    speakers = sum(row.kind == "speaker" for row in found.slices)
    if speakers > _MANY_SPEAKERS:
        yield f"note        of {speakers} speakers those with the largest differences are shown; --json has all"
    if any(row.kind == "word class" for row in found.slices):
        yield "note        a word class counts words not heard as said; p is corrected (Holm) within a kind of slice"
    for letter, side in (("A", found.a), ("B", found.b)):
        if side.failed:
            yield f"note        {letter} has no transcript of {side.failed} utterances, which count as fully wrong"
    if found.silent:
        yield f"note        empty references: {found.silent}; nothing was said there, and every word heard is an error"
    if (a_words := found.a.metrics.wer.reference_length) != (b_words := found.b.metrics.wer.reference_length):
        left = f"{a_words} {counted(found.measure)} to A and {b_words} to B"
        yield f"note        alternatives leave {left}; differences are divided by A's"
    if found.without_reference:
        yield f"note        {found.without_reference} utterances have no reference and were left out"
    if found.machine_references:
        yield f"note        {found.machine_references} REFERENCES WERE WRITTEN BY A MACHINE: rates of agreement with it"
    yield from (f"note        {notice}" for notice in found.notices)


def _change(change: "ChangedUtterance") -> str:
    texts = (text or _NOTHING for text in (change.reference, *change.texts))
    lines = [f"{change.id}: errors {change.errors[0]} by A, {change.errors[1]} by B"]
    lines += [f"  {who:<4}  {text}" for who, text in zip(("said", "A", "B"), texts, strict=True)]
    return "\n".join(lines)
