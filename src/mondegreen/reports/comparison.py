"""What `mondegreen compare` found, as files: a row for each utterance, and a page on which they can be heard."""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from mondegreen.errors import UsageError
from mondegreen.files import printable, save_text, sha256_file
from mondegreen.records import Utterance
from mondegreen.reports.page import EmbeddedClip, embed, templates
from mondegreen.scoring.comparison import Comparison
from mondegreen.scoring.metrics import Scored
from mondegreen.scoring.two_models import TwoModels
from mondegreen.scoring.wer import align_words

CLIPS = 40  # recordings that play in the page; the others are links
MOST = 500  # utterances in the page
_FORMATS = (".csv", ".html", ".htm")
_COLUMNS = ("id", "path", "speaker", "condition", "words", "errors_a", "errors_b", "said", "a", "b")


Texts = Mapping[str, tuple[str, str, str]]  # by the utterance's ID: what was said and what A and B heard, as written


def check_suffix(path: Path) -> None:
    """UsageError where a comparison has no such format."""
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"--export {path}: {path.suffix or 'no suffix'} is no format.", "Name a .csv or an .html.")


def write_comparison(path: Path, found: TwoModels, comparison: Comparison, texts: Texts, screen: str) -> None:
    """Writes .csv (every utterance) or .html (those in which the two differ, with their recordings).

    Args:
        texts: before any mapping, by which errors are counted.
        screen: the tables and sentences as they are printed, for the page.

    Raises:
        UsageError: another suffix, or it cannot be written there; a full disk is another MondegreenError.
    """
    check_suffix(path)
    table = path.suffix.lower() == ".csv"
    content = _table(comparison, texts) if table else _page(path, found, comparison, texts, screen)
    save_text(path, printable(content))  # JSON can hold half a character, which no file can


def _table(comparison: Comparison, texts: Texts) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for old, new in comparison.pairs:
        row = old.utterance
        counts = (old.words.reference_length, old.words.errors, new.words.errors)
        writer.writerow([row.id, row.path, row.speaker, row.condition, *counts, *texts[row.id]])
    return stream.getvalue()


def _page(path: Path, found: TwoModels, comparison: Comparison, texts: Texts, screen: str) -> str:
    pairs = [pair for pair in comparison.pairs if pair[0].words.errors != pair[1].words.errors]
    pairs.sort(key=lambda pair: (-abs(pair[0].words.errors - pair[1].words.errors), pair[0].utterance.id))
    page = templates(escape=True).get_template("comparison.html.j2")
    return page.render(
        found=found,
        screen=screen,
        differing=len(pairs),
        pairs=[
            {"id": old.utterance.id, "errors": (old.words.errors, new.words.errors), "said": texts[old.utterance.id][0],
             "heard": [list(_marked(old)), list(_marked(new))]}
            for old, new in pairs[:MOST]
        ],
        clips=_clips([old.utterance for old, _ in pairs[:MOST]], path.parent),
    )  # fmt: skip


def _marked(side: Scored) -> Iterator[tuple[str, bool]]:
    """The words that were heard, and whether they are wrong; a word that is missing stands as a gap."""
    for operation, _, word in align_words(side.reference, side.text):
        yield word or "·", operation != "equal"


def _clips(utterances: list[Utterance], folder: Path) -> dict[str, EmbeddedClip]:
    """The recordings that are there; of the others nothing is said: transcripts alone can be compared as well."""
    there = [row for row in utterances if Path(row.path).is_file()]
    known = [row.model_copy(update={"sha256": sha256_file(Path(row.path))}) for row in there]
    return embed(known, Path(), folder, CLIPS)
