"""A retention set from what the champion hears well: recordings of its earlier domains, or of a folder.

Only what it hears well can be forgotten, so a recording is taken where its word error rate is low. That also makes the
champion look a little better on the set than it is, and a loss a little larger: the error is on the safe side.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mondegreen.cases.repository import Repository, directory_md5
from mondegreen.errors import UsageError
from mondegreen.files import sha256_file
from mondegreen.git import dvc
from mondegreen.intake.entries import Entry
from mondegreen.intake.importing import take
from mondegreen.scoring.normalizer import words_of
from mondegreen.scoring.wer import count_words
from mondegreen.speech.corpus import Found, discover
from mondegreen.speech.splits import TextKey
from mondegreen.speech.transcriber import Failure, Transcription

Hear = Callable[[Sequence[Path]], Iterator[Transcription | Failure]]
WORDS = 2_000  # of a set that shows a margin of two points: docs/verdict.md
MAX_WER = 0.1
_OTHER = "Name a folder with recordings and references.csv: --from FOLDER (docs/verdict.md says where to find some)."


class RetentionReport(BaseModel):
    """What was looked at for a retention set, and what it holds now. Words are those of the references."""

    model_config = ConfigDict(frozen=True)
    source: str
    into: str
    wanted: int  # words
    words: int  # in the set now
    words_before: int
    taken: int  # recordings
    speakers: int  # named ones, of those taken
    seconds: float  # of those taken
    heard: int  # recordings that the model listened to
    left_out: dict[str, int]  # misheard, not_audio, too_long, no_reference, machine, in_data, conflict, …

    @property
    def complete(self) -> bool:
        """Whether the set is as large as was asked for."""
        return self.words >= self.wanted


def earlier_data(project: Path, lineage: Sequence[str], folder: Path) -> Path:
    """The newest of the champion's training data that data/ does not hold any more, in a folder of its own.

    Args:
        lineage: md5 of data/, as data.dvc names it, of the champion's training, of its base's, and so on.

    Raises:
        UsageError: no model is in production, there is none but what data/ holds now, nobody committed it, or DVC does
            not have it any more.
    """
    repository = Repository(project)
    pointer = repository.pointer()
    now = directory_md5(pointer) if pointer else ""
    earlier = [md5 for md5 in lineage if md5 and md5 != now]
    if not lineage:
        raise UsageError("No model is in production yet, so it knows no earlier data.", _OTHER)
    if not any(lineage):
        raise UsageError("Nobody knows which data the champion was trained on.", _OTHER)
    if not earlier:
        raise UsageError("The champion was trained on what data/ holds now: there is no earlier domain.", _OTHER)
    commit = next((found for md5 in earlier if (found := repository.introduced(md5))), "")
    if not commit:
        raise UsageError(f"No commit's data.dvc names what the champion was trained on ({earlier[0]}).", _OTHER)
    dvc(project, "get", "--rev", commit, ".", "data", "--out", str(folder), error=UsageError)
    return folder


def pick_retention(
    source: Path,
    data: Path,
    wanted: int,
    hear: Hear,
    text: TextKey,
    *,
    seed: int,
    max_duration: float,
    max_wer: float = MAX_WER,
) -> RetentionReport:
    """Adds recordings of `source` that the model hears well to data/retention until it has the words that are wanted.

    Speakers (source recordings, where nobody named them) take turns, in seeded order. What data/ holds already, by its
    bytes or its text, is passed over: a retention set is not trained on.

    Args:
        source: a data folder; its own retention, replay, suites and failed cases are not looked at.
        data: the project's.
        wanted: words of the whole set, dev and test.
        hear: transcribes; it is asked for no more recordings than are needed.
        text: normaliser.
        max_duration: seconds.
        max_wer: of a recording that is taken.

    Raises:
        UsageError: the source or data/ cannot be read.
    """
    found = [item for item in discover(source) if item.domain == "target"]
    known = _Known(data, text)
    reasons = [known.why_not(item) for item in found]
    left_out = Counter(reason for reason in reasons if reason)
    order = _in_turn([item for item, reason in zip(found, reasons, strict=True) if not reason], seed)
    entries, heard, words, seconds = list[Entry](), 0, known.retention_words, 0.0
    for item, result in zip(order, hear([item.path for item in order]), strict=False) if words < wanted else ():
        heard += 1
        if reason := _misheard(item, result, text, max_duration, max_wer):
            left_out[reason] += 1
            continue
        entries.append(_entry(item, source))
        words += len(words_of(text(item.reference)))
        seconds += result.duration if isinstance(result, Transcription) else 0.0
        if words >= wanted:
            break
    done = take(entries, data / "retention", "retention", link=False) if entries else None
    for left in done.left if done else ():
        left_out[left.reason] += 1
    taken = list(done.new.values()) if done else []
    return RetentionReport(
        source=str(source),
        into=str(data / "retention"),
        wanted=wanted,
        words=known.retention_words + sum(len(words_of(text(entry.text))) for entry in taken),
        words_before=known.retention_words,
        taken=len(taken),
        speakers=len({entry.speaker for entry in taken} - {""}),
        seconds=round(seconds, 1),
        heard=heard,
        left_out=dict(sorted(left_out.items())),
    )


class _Known:
    """What a data folder holds already."""

    def __init__(self, data: Path, text: TextKey) -> None:
        found = discover(data) if data.is_dir() else []
        self._text = text
        self._texts = {text(item.reference) for item in found} - {""}
        self._sizes = defaultdict[int, list[Path]](list)
        for item in found:
            self._sizes[item.path.stat().st_size].append(item.path)
        retention = [item for item in found if item.domain == "retention"]
        self.retention_words = sum(len(words_of(text(item.reference))) for item in retention)

    def why_not(self, item: Found) -> str:
        """Why a recording is no candidate; "" when it is one."""
        said = self._text(item.reference)
        if not said:
            return "no_reference"
        if item.reference_source != "human":
            return "machine"
        same = self._sizes.get(item.path.stat().st_size, [])
        if said in self._texts or (same and sha256_file(item.path) in map(sha256_file, same)):
            return "in_data"
        return ""


def _in_turn(found: Sequence[Found], seed: int) -> list[Found]:
    """One of each speaker, then another of each, in an order that depends on the seed alone."""

    def draw(item: Found) -> bytes:
        return hashlib.sha256(f"{seed}:{item.path.name}:{item.recording}".encode()).digest()

    turns: Counter[str] = Counter()
    ranked = []
    for item in sorted(found, key=draw):
        name = item.speaker or item.recording
        turns[name] += 1
        ranked.append((turns[name], item))
    return [item for _, item in sorted(ranked, key=lambda pair: pair[0])]


def _misheard(item: Found, result: Transcription | Failure, text: TextKey, max_duration: float, max_wer: float) -> str:
    if isinstance(result, Failure):
        return result.reason
    if result.duration > max_duration:
        return "too_long"
    counts = count_words(text(item.reference), text(result.text))
    return "misheard" if counts.errors > max_wer * counts.reference_length else ""


def _entry(item: Found, source: Path) -> Entry:
    """As `take` wants it; the name is the path below the source, without the folder of its condition."""
    parts = item.path.relative_to(source).with_suffix("").parts
    parts = parts[1:] if parts[:1] == ("audio",) else parts
    name = "/".join(parts[1:] if parts[:1] == (item.condition,) and len(parts) > 1 else parts)
    return Entry(
        where=str(item.path),
        name=name,
        audio=item.path,
        text=item.reference,
        speaker=item.speaker,
        recording=item.recording,
        condition=item.condition,
    )
