"""What a language model may learn from: corrections, references of train, and text; nothing that judges."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from mondegreen.cases.records import CaseFilter
from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.errors import UsageError
from mondegreen.files import path_text
from mondegreen.monitoring.corrected import admitted_corrections
from mondegreen.records import Utterance
from mondegreen.scoring.normalizer import text_key, words_of

SHORTEST, LONGEST = 4, 8  # words of a run that tells a text: a shorter one is said every day
_SHOWN = 5  # lines that are left out, each named


class TextLine(NamedTuple):
    """A sentence to learn from, and where it stands."""

    where: str
    text: str


class TextSource(BaseModel):
    """What became of the lines of one source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # corrections, train, or a file
    lines: int  # that hold something
    taken: int
    judged: int  # left out: they say what dev, test or retention say
    no_word: int  # left out: the model cannot write a word of them
    unknown_words: int  # of those taken, that the model cannot write: learnt as <unk>
    left_out: tuple[str, ...]  # some of those that judge: where each stands, and where its words judge


class Judged:
    """The texts of dev, test and retention, as a whole and in runs of words.

    A line is of them when it is the same sentence, or when it shares with one a run of LONGEST words, or the whole of
    a sentence of SHORTEST or more. A text may also stand in train where prepare.shared_texts allows it.
    """

    def __init__(self, rows: Sequence[Utterance], params: Params) -> None:
        self._key: Callable[[str], str] = lambda text: text_key(text, params.score.normalizer)
        self._texts: dict[str, str] = {}
        self._runs: dict[tuple[str, ...], str] = {}
        judging = [row for row in rows if row.judges]
        for row in judging if params.prepare.shared_texts != "allow" else ():
            words = words_of(self._key(row.reference))
            self._texts.setdefault(" ".join(words), row.path)
            for run in _runs(words, [min(len(words), LONGEST)] if len(words) >= SHORTEST else []):
                self._runs.setdefault(run, row.path)
        self._texts.pop("", None)
        self._lengths = sorted({len(run) for run in self._runs})

    def of(self, text: str) -> str | None:
        """The recording that judges with a text's words; None: none does."""
        words = words_of(self._key(text))
        found = self._texts.get(" ".join(words))
        return found or next((self._runs[run] for run in _runs(words, self._lengths) if run in self._runs), None)


def sources(
    manager: DataManager | None, rows: Sequence[Utterance], files: Sequence[Path], params: Params, references: bool
) -> Iterator[tuple[str, list[TextLine]]]:
    """The lines of each source.

    Args:
        manager: of the cases; what people corrected is read, where it shares nothing with what judges. None: no case.
        rows: the manifest.
        files: text, a sentence a line.
        references: whether those of train are read.

    Raises:
        UsageError: a file is missing or no UTF-8.
    """
    if manager:
        _, admitted = admitted_corrections(manager, CaseFilter(corrected=True, audit=False), rows, params)
        yield "corrections", [TextLine(f"case {case.id}", case.text) for case, _ in admitted]
    if references:
        train = [row for row in rows if row.split == "train" and row.domain == "target"]
        yield "train", [TextLine(row.path, row.reference) for row in train]
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file} does not exist.", "Name a text file with a sentence a line.")
        yield (
            str(file),
            [TextLine(f"{file}:{number}", text) for number, text in enumerate(path_text(file).splitlines(), 1)],
        )


def learnable(
    found: Iterable[tuple[str, list[TextLine]]], judged: Judged, spelt: Callable[[str], list[str]], unknown: str
) -> tuple[list[list[str]], list[TextSource]]:
    """The sentences that may be learnt, in words, and the account of each source.

    Args:
        spelt: a text's words as the model writes them, `unknown` where it cannot.
    """
    sentences, accounts = list[list[str]](), list[TextSource]()
    for name, lines in found:
        counts, named = Counter[str](), list[str]()
        for line in lines:
            if not line.text.strip():
                continue
            counts["lines"] += 1
            words = spelt(line.text)
            if path := judged.of(line.text):
                counts["judged"] += 1
                named.append(f"{line.where} says what {path} says, which judges")
            elif set(words) <= {unknown}:
                counts["no_word"] += 1
            else:
                counts["taken"] += 1
                counts["unknown_words"] += words.count(unknown)
                sentences.append(words)
        numbers = {field: counts[field] for field in ("lines", "taken", "judged", "no_word", "unknown_words")}
        accounts.append(TextSource(name=name, left_out=tuple(named[:_SHOWN]), **numbers))
    return sentences, accounts


def _runs(words: Sequence[str], lengths: Iterable[int]) -> Iterator[tuple[str, ...]]:
    for length in lengths:
        for start in range(len(words) - length + 1):
            yield tuple(words[start : start + length])
