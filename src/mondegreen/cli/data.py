"""`mondegreen data`: take in corpora from outside, and see what a data folder is worth before anything is computed."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.common import GRID, Column, ObjectOption, answer, named_model, table
from mondegreen.errors import UsageError
from mondegreen.scoring.wording import many

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mondegreen.intake.check import DataReport
    from mondegreen.intake.entries import ImportReport, Reason
    from mondegreen.intake.retention import RetentionReport
    from mondegreen.speech.transcriber import Failure, Transcription

_MOST_FINDINGS = 14  # on one screen
app = typer.Typer(help="Recordings and references: import corpora, check what a folder holds.", no_args_is_help=True)


@app.command("import")
def import_(
    kind: Annotated[
        str, typer.Argument(metavar="FORMAT", help="nemo, kaldi, commonvoice, librispeech, audiofolder, stm or csv.")
    ],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The manifest, table or folder.")],
    into: Annotated[Path, typer.Option(help="The data folder; data/retention and data/replay are others.")] = Path(
        "data"
    ),
    audio: Annotated[Path | None, typer.Option(help="Where the recordings lie, if not beside the source.")] = None,
    condition: Annotated[str, typer.Option(help="Folder below INTO/audio; the source's name when not given.")] = "",
    link: Annotated[bool, typer.Option("--link", help="Symbolic links in place of copies; segments are cut.")] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="Which column holds path, text, speaker, source, …"),
    ] = None,
    as_json: ObjectOption = False,
) -> None:
    """Take in a corpus: recordings are copied (or linked, or cut), references.csv gets their rows.

    What is there already stays as it is; a second run goes on where a killed one was. Exit code 0 when every row of the
    source is in the folder now, 1 when some were left out (the answer names them) or the disk is full, 2 when the
    source cannot be read or the folder cannot be written into.
    """
    from typing import get_args

    from mondegreen.config import params_of
    from mondegreen.intake.entries import CorpusFormat, SourceCorpus
    from mondegreen.intake.importing import import_corpus
    from mondegreen.progress import track

    known: dict[str, CorpusFormat] = {name: name for name in get_args(CorpusFormat)}
    if kind not in known:
        raise UsageError(f"{kind} is no format that can be imported.", f"Name one of {', '.join(known)}.")
    corpus = SourceCorpus(source, audio, _columns(columns or []), params_of().audio.max_missing_share)
    report = import_corpus(known[kind], corpus, into, condition, link=link, track=partial(track, what="import"))
    answer(report, _imported(report), as_json)
    if not report.complete:
        raise typer.Exit(1)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The data folder.")] = Path("data"),
    model: Annotated[str | None, typer.Option(help="Whose vocabulary is asked; model.base when not given.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page on which the worst recordings play.")] = None,
    as_json: ObjectOption = False,
) -> None:
    """See what recordings and references are worth before anything is computed.

    What is there, what is wrong with it, how it would be split, and whether a verdict could be reached with it: the
    same decoding and the same rules as `dvc repro prepare`; no model is loaded. Exit code 0 when nothing is left out
    and a verdict can be reached, 1 when something must be mended first, 2 when the folder cannot be read.
    """
    from mondegreen.config import params_of
    from mondegreen.files import require_writable, writing
    from mondegreen.intake.check import check as checked
    from mondegreen.progress import track
    from mondegreen.speech.examining import EXAMINED, processes
    from mondegreen.speech.manifest import examine_data

    if html:
        require_writable(html)
    params = params_of()
    if model:
        params = params.model_copy(update={"model": params.model.model_copy(update={"base": model})})
    known = EXAMINED if EXAMINED.parent.is_dir() else None  # it only looks: outside a project nothing is written
    examination = examine_data(folder, params, partial(track, what="data"), processes(params.compute), known)
    report = checked(examination, params, _find_model).report
    if html:
        from mondegreen.reports.data import write_page

        with writing(html):
            write_page(html, report, Path(), params.validate_.report_clips)
    answer(report, _checked(report), as_json, width=80)
    if html and not as_json:
        typer.echo(f"Wrote {html}.")
    if not report.sound:
        raise typer.Exit(1)


@app.command()
def retention(
    words: Annotated[int, typer.Argument(metavar="WORDS", min=1, help="Words of the whole set, dev and test.")] = 2_000,
    source: Annotated[
        Path | None, typer.Option("--from", help="A data folder; the champion's earlier data when not given.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Who must hear them well; the champion, else model.base.")] = None,
    max_wer: Annotated[float, typer.Option(min=0, max=1, help="Word error rate of a recording that is taken.")] = 0.1,
    data: Annotated[Path, typer.Option(help="The project's data folder.")] = Path("data"),
    as_json: ObjectOption = False,
) -> None:
    """Pick recordings that the champion hears well into data/retention: what the next model must not forget.

    They come from what the champion, or the one that it was trained from, learnt and was judged on where data/ holds
    other data by now, or from a folder. A set that is there is added to. Exit code 0 when the set has the words, 1 when
    the source has not enough, 2 when there is none.
    """
    from tempfile import TemporaryDirectory

    from mondegreen.config import params_of
    from mondegreen.files import check_folder
    from mondegreen.intake.retention import earlier_data, pick_retention
    from mondegreen.progress import progress
    from mondegreen.scoring.normalizer import normalize
    from mondegreen.speech.transcriber import load_transcriber, transcribe_in_groups

    params = params_of()
    check_folder(data / "retention")
    with TemporaryDirectory(prefix="mondegreen-") as folder, progress("listening") as advance:
        place = source or earlier_data(Path(), _lineage(params.register_.model_name), Path(folder) / "data")
        name, _ = named_model(model, "Give one: --model NAME.")
        stt = load_transcriber(name, params, cached=False)

        def hear(paths: Sequence[Path]) -> "Iterator[Transcription | Failure]":
            for number, result in enumerate(transcribe_in_groups(stt, paths), 1):
                advance(number)
                yield result

        report = pick_retention(
            place, data, words, hear, lambda written: normalize(written, params.score.normalizer),
            seed=params.seed, max_duration=params.audio.max_duration, max_wer=max_wer,
        )  # fmt: skip
    answer(report, _retained(report), as_json)
    if not report.complete:
        raise typer.Exit(1)


def _lineage(name: str) -> list[str]:
    """The md5 of data/ at the champion's training, at its base's and so on; nothing where there is no champion."""
    from mondegreen.registry.deployer import ModelDeployer
    from mondegreen.registry.record import BASELINE_TAG
    from mondegreen.registry.resolving import champion_of

    if not champion_of(name):
        return []
    versions = ModelDeployer(model_name=name).list_versions()
    by_digest = {version.digest: version for version in reversed(versions)}
    version = next((one for one in versions if "champion" in one.aliases), None)
    lineage: list[str] = []
    while version:  # each was judged against its base
        lineage.append(version.tags.get("data.dvc", ""))
        version = by_digest.pop(version.tags.get(BASELINE_TAG, ""), None)
    return lineage


def _retained(report: "RetentionReport") -> Iterator[str]:
    yield (
        f"{report.into} has {report.words} of {report.wanted} words: {report.words_before} were there before; taken: "
        f"{many(report.taken, 'recording')} ({report.seconds / 60:.1f} minutes, "
        f"{many(report.speakers, 'named speaker')})"
    )
    yield f"heard: {many(report.heard, 'recording')}"
    yield from (f"not taken, {reason.replace('_', ' ')}: {count}" for reason, count in report.left_out.items())
    if not report.complete:
        yield "Not enough: name another folder with --from, or raise --max-wer."
    elif report.taken:
        yield "Now `dvc add data`, and commit data.dvc."


def _find_model(name: str) -> Path | None:
    from mondegreen.speech.spelling import local_model

    if not name.startswith("models:/"):
        return local_model(name)
    from mondegreen.registry.resolving import find_model

    return find_model(name)


def _checked(report: "DataReport") -> "Iterator[str | RenderableType]":
    from rich.text import Text

    from mondegreen.reports.data import facts, outlook, split_rows

    yield table(facts(report), Column("", lambda row: row[0]), Column("", lambda row: row[1]), **GRID)
    if rows := split_rows(report):
        yield ""
        yield table(
            rows,
            Column("would land in", lambda row: row.name),
            Column("speakers", lambda row: row.speakers or "–", "right"),
            Column("utterances", lambda row: row.utterances, "right"),
            Column("minutes", lambda row: f"{row.seconds / 60:.1f}", "right"),
            Column("words", lambda row: row.words, "right"),
            Column("recordings", lambda row: row.recordings, "right"),
            box=None,
            pad_edge=False,
        )
    if report.findings:
        yield ""
        yield table(
            report.findings[:_MOST_FINDINGS],
            Column("", lambda finding: finding.kind),
            Column("count", lambda finding: finding.count, "right"),
            Column("what", lambda finding: finding.what),
            Column("such as", lambda finding: _shortened(finding.examples[0].path) if finding.examples else ""),
            box=None,
            pad_edge=False,
        )
        if len(report.findings) > _MOST_FINDINGS:
            yield f"and {len(report.findings) - _MOST_FINDINGS} more findings: --json and --html have all"
    yield ""
    yield from (Text(line) for line in outlook(report))


def _shortened(path: str, width: int = 30) -> str:
    return path if len(path) <= width else "…" + path[1 - width :]


def _columns(written: list[str]) -> dict[str, str]:
    from mondegreen.intake.tables import FIELDS

    found = {}
    for item in written:
        column, equals, name = item.partition("=")
        if not equals or name not in FIELDS:
            raise UsageError(f"--map {item} is no COLUMN=FIELD.", f"A field is one of {', '.join(FIELDS)}.")
        found[column] = name
    return found


def _imported(report: "ImportReport") -> Iterator[str]:
    ways = {"copied": report.copied, "linked": report.linked, "cut from longer recordings": report.cut}
    how = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
    there = f"; {report.there_already} were there already" if report.there_already else ""
    yield (
        f"{report.taken} of {many(report.rows, 'row')} taken into {report.into}/audio/{report.condition}"
        + (f" ({how})" if how else "")
        + there
    )
    speakers = many(report.speakers, "speaker") + (
        f", {many(report.without_speaker, 'row')} without" if report.without_speaker else ""
    )
    texts = f"; {many(report.without_text, 'row')} without a text" if report.without_text else ""
    yield f"{many(report.recordings, 'recording')}, {speakers}{texts}"
    yield from report.notices
    yield from _named("found under another path", report.moved)
    yield from _named("recordings there that no row names", report.unlisted)
    for reason, rows in report.left_out.items():
        yield from _named(f"left out, {reason}", rows)


def _named(what: str, found: "Reason") -> Iterator[str]:
    if found.count:
        yield f"{what}: {found.count}"
        yield from (f"  {example}" for example in found.examples)
        if found.count > len(found.examples):
            yield f"  … and {found.count - len(found.examples)} more"
