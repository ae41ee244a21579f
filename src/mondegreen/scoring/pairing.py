"""Which line of a transcript file belongs to which of another: by its ID, its recording's path, or that path's stem."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Generic, NamedTuple, Protocol, TypeVar

_ENDING = re.compile(r"\.(?=\w*[a-z])\w{2,5}$", re.IGNORECASE)  # .wav, .mp3, .flac; not the number of utt.12


class Keyed(Protocol):
    """What a line is known by."""

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> str: ...


Item = TypeVar("Item", bound=Keyed)


class Pairs(NamedTuple, Generic[Item]):
    """Lines and what they are known by."""

    lines: dict[str, Item]  # by the key of their reference; one without a reference keeps its own
    known: set[str]  # keys
    by_stem: bool
    respelt: dict[str, str]  # a line's key to that of its reference, where case, normal form or zeros before it differ


def pair(references: Sequence[Keyed], lines: Sequence[Item]) -> Pairs[Item]:
    """Finds the reference of each line by its ID, in another case or normal form where that is unique.

    So is a number without the zeros before it, which spreadsheets eat (`001` and `1`).

    Where no ID is shared the paths of the recordings are compared; where none of these is, the names of the recordings
    without folder and ending, if each stands once on either side: `clips/a.wav` is `a`.
    """
    by_id = {line.key: line for line in lines}
    known = {line.key for line in references}
    respelt = _respelt(known - by_id.keys(), by_id.keys() - known)
    if respelt or known & by_id.keys():
        return Pairs({respelt.get(key, key): line for key, line in by_id.items()}, known, False, respelt)
    for named in (_paths, _stems):
        ours, theirs = named(references), named(lines)
        if shared := ours.keys() & theirs.keys():
            found = {ours[name].key if name in ours else line.key: line for name, line in theirs.items()}
            return Pairs(found, known | {ours[name].key for name in shared}, named is _stems, {})
    return Pairs(by_id, known, False, {})


def _respelt(missing: Iterable[str], strangers: Iterable[str]) -> dict[str, str]:
    """The keys that only case, normal form or zeros before a number tell from one that is missing."""
    ours, theirs = _by_spelling(missing), _by_spelling(strangers)
    alone = (name for name in ours.keys() & theirs.keys() if len(ours[name]) == len(theirs[name]) == 1)
    return {theirs[name][0]: ours[name][0] for name in sorted(alone)}


def _by_spelling(keys: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in keys:
        found.setdefault(without_zeros(unicodedata.normalize("NFC", key).casefold()), []).append(key)
    return found


def without_zeros(name: str) -> str:
    """A number without the zeros before it; anything else as it is."""
    return name.lstrip("0") or "0" if name.isascii() and name.isdigit() else name


def _paths(lines: Sequence[Item]) -> Mapping[str, Item]:
    return {line.path: line for line in lines if line.path}


def _stems(lines: Sequence[Item]) -> Mapping[str, Item]:
    """All lines by the stem of their recording or ID; {} when two have the same, since each could be meant."""
    found = {_ENDING.sub("", PurePosixPath(line.path or line.key).name): line for line in lines}
    return found if len(found) == len(lines) else {}
