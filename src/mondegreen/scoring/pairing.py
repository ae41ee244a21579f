"""Which line of a transcript file belongs to which of another: by its ID, its recording's path, or that path's stem."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Protocol, TypeVar

_ENDING = re.compile(r"\.(?=\w*[a-z])\w{2,5}$", re.IGNORECASE)  # .wav, .mp3, .flac; not the number of utt.12


class Keyed(Protocol):
    """What a line is known by."""

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> str: ...


Item = TypeVar("Item", bound=Keyed)


def pair(references: Sequence[Keyed], lines: Sequence[Item]) -> tuple[dict[str, Item], set[str], bool]:
    """The lines by the key of their reference, the keys that are known, and whether stems told which is which.

    Where no ID is shared the paths of the recordings are compared; where none of these is, the names of the recordings
    without folder and ending, if each stands once on either side: `clips/a.wav` is `a`. A line without a reference
    keeps its own key.
    """
    by_id = {line.key: line for line in lines}
    known = {line.key for line in references}
    if known & by_id.keys():
        return by_id, known, False
    for named in (_paths, _stems):
        ours, theirs = named(references), named(lines)
        if shared := ours.keys() & theirs.keys():
            found = {ours[name].key if name in ours else line.key: line for name, line in theirs.items()}
            return found, known | {ours[name].key for name in shared}, named is _stems
    return by_id, known, False


def _paths(lines: Sequence[Item]) -> Mapping[str, Item]:
    return {line.path: line for line in lines if line.path}


def _stems(lines: Sequence[Item]) -> Mapping[str, Item]:
    """All lines by the stem of their recording or ID; {} when two have the same, since each could be meant."""
    found = {_ENDING.sub("", PurePosixPath(line.path or line.key).name): line for line in lines}
    return found if len(found) == len(lines) else {}
