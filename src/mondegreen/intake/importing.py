"""A corpus from outside becomes recordings and references of a data folder, and every row of it is accounted for."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mondegreen.errors import UsageError
from mondegreen.intake.entries import EXAMPLES, Corpus, Entry, Format, ImportReport, Reason, Row, reasons, shown
from mondegreen.intake.formats import read_kaldi, read_librispeech, read_stm
from mondegreen.intake.tables import read_audiofolder, read_commonvoice, read_csv, read_nemo
from mondegreen.intake.taking import Track, take
from mondegreen.scoring.references import odd_speakers
from mondegreen.speech.folders import EXTENSIONS, look_through

READERS: Mapping[Format, Callable[[Corpus], Iterator[Row]]] = {
    "nemo": read_nemo,
    "kaldi": read_kaldi,
    "commonvoice": read_commonvoice,
    "librispeech": read_librispeech,
    "audiofolder": read_audiofolder,
    "stm": read_stm,
    "csv": read_csv,
}


def import_corpus(
    kind: Format, corpus: Corpus, into: Path, condition: str = "", *, link: bool = False, track: Track = iter
) -> ImportReport:
    """Takes every utterance of a corpus that can be taken.

    Args:
        kind: how the corpus is laid out.
        corpus: where it lies.
        into: the data folder, or data/retention or data/replay.
        condition: the folder below into/audio; "": the source's own name.
        link: whole recordings become symbolic links.
        track: wraps the rows, for a progress bar.

    Raises:
        UsageError: the source as a whole cannot be read, or holds no utterance.
    """
    if not corpus.source.exists():
        raise UsageError(f"{corpus.source} does not exist.", "Correct its name.")
    if corpus.audio and not corpus.audio.is_dir():
        raise UsageError(f"--audio {corpus.audio} is no folder.", "Name the folder in which the recordings lie.")
    condition = condition or corpus.source.resolve().stem
    rows = list(READERS[kind](corpus))
    if not rows:
        raise UsageError(f"{corpus.source} holds no utterance.", "Name the manifest, table or folder that has them.")
    done = take(rows, into, condition, link=link, track=track)
    entries = [*done.new.values(), *done.there.values()]
    ways = list(done.ways.values())
    return ImportReport(
        format=kind,
        source=shown(corpus.source),
        into=shown(into),
        condition=shown(condition),
        rows=len(rows),
        taken=len(done.new),
        there_already=len(done.there),
        copied=ways.count("copied"),
        linked=ways.count("linked"),
        cut=ways.count("cut"),
        without_text=sum(not entry.text.strip() for entry in entries),
        without_speaker=sum(not entry.speaker for entry in entries),
        speakers=len({entry.speaker for entry in entries} - {""}),
        recordings=len({entry.audio for entry in entries}),
        left_out=reasons(done.left),
        moved=_moved(corpus),
        unlisted=_unlisted(corpus, rows, into),
        notices=list(dict.fromkeys(map(shown, [*corpus.notices, *_speakers(entries)]))),
    )


def _speakers(entries: Sequence[Entry]) -> Iterator[str]:
    """Who may be one person, or several, and whom nobody names: what `data check` says of them later."""
    nameless = sum(not entry.speaker for entry in entries)
    if 0 < nameless < len(entries):
        message = "what they say may judge a model that has learnt from the same person"
        yield f"the speaker is empty in {nameless} of {len(entries)} rows; {message}"
    for _, message, _ in odd_speakers([entry.speaker for entry in entries]):
        yield f"speakers: {message}"


def _moved(corpus: Corpus) -> Reason:
    lines = [shown(f"{written} read as {path}") for written, path in corpus.moved.items()]
    return Reason(count=len(lines), examples=lines[:EXAMPLES])


def _real(path: Path) -> Path:
    """Where links lead, as far as they do; `Path.resolve` raises RuntimeError on one that leads to itself."""
    return Path(os.path.realpath(path))


def _unlisted(corpus: Corpus, rows: list[Row], into: Path) -> Reason:
    """Recordings below the source's folder that no row names; where rows name none there, it is no such folder."""
    named = {_real(row.audio) for row in rows if isinstance(row, Entry)}
    found = look_through(corpus.folder)
    unheard = [path for path, _ in found.unheard if path.suffix.lower() in EXTENSIONS]
    below = {_real(path) for path in [*found.recordings, *unheard]}
    below = {path for path in below if not path.is_relative_to(_real(into))}
    lines = sorted(map(shown, below - named)) if below & named else []
    return Reason(count=len(lines), examples=lines[:EXAMPLES])
