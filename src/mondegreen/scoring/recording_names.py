"""Which recording a line means: tables name them by ID, path or stem, of other folders, machines and programs."""

import difflib
import filecmp
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from math import inf
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote

_ENDING = re.compile(r"\.(?=\w*[a-z])\w{2,5}$", re.IGNORECASE)  # .wav, .mp3, .flac; not the number of utt.12
_COMPARED = 5000  # names, for one that is like another
_CHANNEL = re.compile(r"#\d{1,3}$")
_ELSEWHERE = re.compile(r"/|~|[A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://")  # an absolute path, a home, a drive, a URL


class Keyed(Protocol):
    """What a line is known by."""

    @property
    def key(self) -> str: ...

    @property
    def path(self) -> str: ...


Item = TypeVar("Item", bound=Keyed)


class NamedLines(NamedTuple, Generic[Item]):
    """Lines and what they are known by."""

    lines: dict[str, Item]  # by the key of their reference; one without a reference keeps its own
    known: set[str]  # keys
    by_stem: bool
    respelt: dict[str, str]  # a line's key to that of its reference, where case, normal form or zeros before it differ


def pair(references: Sequence[Keyed], lines: Sequence[Item]) -> NamedLines[Item]:
    """Finds the reference of each line by its ID, in another case or normal form where that is unique.

    So is a number without the zeros before it, which spreadsheets eat (`001` and `1`).

    Where no ID is shared the paths of the recordings are compared; where none of these is, the names of the recordings
    without folder and ending, if each stands once on either side: `clips/a.wav` is `a`.
    """
    by_id = {line.key: line for line in lines}
    known = {line.key for line in references}
    respelt = _respelt(known - by_id.keys(), by_id.keys() - known)
    if respelt or known & by_id.keys():
        return NamedLines({respelt.get(key, key): line for key, line in by_id.items()}, known, False, respelt)
    for named in (_paths, _stems):
        ours, theirs = named(references), named(lines)
        if shared := ours.keys() & theirs.keys():
            found = {ours[name].key if name in ours else line.key: line for name, line in theirs.items()}
            return NamedLines(found, known | {ours[name].key for name in shared}, named is _stems, {})
    return NamedLines(by_id, known, False, {})


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


@dataclass(frozen=True)
class Meant:
    """What the paths of one table mean together."""

    names: dict[str, str] = field(default_factory=dict)  # of recordings, by the path that is written
    respelt: dict[str, str] = field(default_factory=dict)  # of these, where it is another path than the recording's
    contested: dict[str, str] = field(default_factory=dict)  # what a path may mean, and which other one may as well


class _Found(NamedTuple):
    name: str = ""
    agreed: float = 0  # folders in which the path agrees with the recording's; inf: it is no guess
    respelt: bool = False


class RecordingNames:
    """The recordings of a folder, found by what others call them.

    A path is taken as it is; else with / for \\, without %20 and its like, without the folder's own name before it, in
    another case or normal form. The rest are guesses: a bare name, one without its ending, the end of a path of another
    machine, wherever there is but one such recording; so is a number that a spreadsheet left of `001.wav`. Nothing is
    guessed of a path that leads to a file with other content, or of an absolute one below this very folder.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """`names` are relative to `folder`, with forward slashes."""
        self.folder = folder
        self.names = frozenset(names)

    def find(self, written: str) -> str:
        """The recording's name here; "" when there is none, or several could be meant.

        Who has several paths asks `meant`: two may be guessed to be one recording.
        """
        return self._found(written, (self.folder,)).name

    def meant(self, paths: Iterable[str], places: Sequence[Path]) -> Meant:
        """Which recordings the paths of one table mean.

        A path that names its recording goes before a guess, and of guesses the one that agrees in more folders; where
        two agree in as many, neither is taken. Of two paths that both name one recording both are in `names`.

        Args:
            paths: as they are written.
            places: folders that they may be relative to, the likeliest first; besides that of the recordings.
        """
        rivals = defaultdict[str, dict[str, _Found]](dict)
        for path in paths:
            if (found := self._found(path, places)).name:
                rivals[found.name][path] = found
        meant = Meant()
        for name, by_path in rivals.items():
            most = max(found.agreed for found in by_path.values())
            best = [path for path, found in by_path.items() if found.agreed == most]
            if len(best) > 1 and most < inf:
                others = zip(best, [*best[1:], best[0]], strict=True)
                meant.contested.update({path: f"{name}, and so may {other}" for path, other in others})
                continue
            meant.names.update(dict.fromkeys(best, name))
            meant.respelt.update({path: name for path in best if by_path[path].respelt})
        return meant

    def _found(self, written: str, places: Sequence[Path]) -> _Found:
        here = [self._here(place / written) for place in places]
        if exact := next((path for path in (*here, written) if path in self.names), ""):
            return _Found(exact, inf)
        name, agreed = self._likeliest(written)
        if not name:
            return _Found()
        there = [path for place in (*places, self.folder) if os.path.isfile(path := place / written)]  # noqa: PTH113
        if there and not any(_same(path, self.folder / _CHANNEL.sub("", name)) for path in there):
            return _Found()
        respelt = unicodedata.normalize("NFC", name) not in {
            unicodedata.normalize("NFC", one) for one in (*here, written)
        }
        return _Found(name, inf if there else agreed, respelt)

    def _likeliest(self, written: str) -> tuple[str, float]:
        """The name that is spelt like this, else the one that is guessed, and in how many folders they agree."""
        plain = dict.fromkeys(path.replace("\\", "/") for path in (written, unquote(written)))
        for path in plain:
            if name := self._alone(self._spellings(path)):
                return name, inf
        for path in plain:
            if name := self._alone(self._guesses(path)):
                return name, self._agreed(path, name)
        found = self._numbers.get(written, []) if written.isascii() and written.isdigit() else []
        return (found[0], 0) if len(found) == 1 else ("", 0)

    def _alone(self, spellings: Iterable[str]) -> str:
        """The first name that one of these is alone."""
        for spelling in spellings:
            for index in (self._whole, self._without_ending, self._without_channel):
                if len(found := index.get(_folded(spelling), [])) == 1:
                    return found[0]
        return ""

    def _agreed(self, path: str, name: str) -> int:
        ours = Path(os.path.normpath(self.folder.absolute() / name)).parts[-2::-1]
        theirs = _parts(path)[-2::-1]
        pairs = zip(map(_folded, ours), map(_folded, theirs), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _here(self, path: Path) -> str:
        """The path from the recordings' folder."""
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def hint(self, written: str) -> str:
        """The name, and why it is not found: another that is like it, or a file of another kind."""
        with suppress(OSError):  # a name that is too long
            if (self.folder / written).is_file():
                return f"{written} (it is there, but not read)"
        # Of many thousands only those of about its length are compared: it takes a second otherwise.
        likely = [name for name in self._sorted if abs(len(name) - len(written)) <= 2][:_COMPARED] or self._sorted
        near = difflib.get_close_matches(written, likely[:_COMPARED], 1) or difflib.get_close_matches(
            PurePosixPath(written).name, [PurePosixPath(name).name for name in self._sorted[:_COMPARED]], 1
        )
        return f"{written} (did you mean {near[0]}?)" if near else written

    def _spellings(self, path: str) -> Iterator[str]:
        """What a path is here that is one of here."""
        if _ELSEWHERE.match(path):
            if self._is_inside(path):
                yield self._here(Path(path))
            return
        parts = _parts(path)
        yield "/".join(parts)
        own = self.folder.absolute().parts
        for length in range(min(len(own), len(parts)), 0, -1):
            if [_folded(part) for part in own[-length:]] == [_folded(part) for part in parts[:length]]:
                yield "/".join(parts[length:])

    def _guesses(self, path: str) -> Iterator[str]:
        """What a path may be here that is none of here, or has no folder, the likeliest first."""
        parts = _parts(path)
        if self._is_inside(path) or not (_ELSEWHERE.match(path) or len(parts) == 1):
            return
        yield from ("/".join(parts[start:]) for start in range(len(parts)))
        yield from self._bare.get(_folded(parts[-1] if parts else ""), [])

    def _is_inside(self, path: str) -> bool:
        """Whether it is absolute and below the recordings' folder."""
        return path.startswith("/") and self._here(Path(path)).split("/")[0] != ".."

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.names)

    @cached_property
    def _whole(self) -> dict[str, list[str]]:
        return _indexed((name, name) for name in self.names)

    @cached_property
    def _without_ending(self) -> dict[str, list[str]]:
        return _indexed((name, str(PurePosixPath(name).with_suffix(""))) for name in self.names)

    @cached_property
    def _without_channel(self) -> dict[str, list[str]]:
        """`call.wav`, where but one channel of it, `call.wav#2`, is heard."""
        return _indexed((name, _CHANNEL.sub("", name)) for name in self.names)

    @cached_property
    def _numbers(self) -> dict[str, list[str]]:
        """Recordings whose name is a number, without the zeros before it."""
        return _indexed((name, without_zeros(PurePosixPath(name).stem)) for name in self.names)

    @cached_property
    def _bare(self) -> dict[str, list[str]]:
        paths = [PurePosixPath(name) for name in self.names]
        found = _indexed([(str(p), p.name) for p in paths]) | _indexed([(str(p), p.stem) for p in paths])
        return {key: names for key, names in found.items() if len(names) == 1}


def near_file(path: Path) -> str:
    """In parentheses, behind a blank, the file beside that has the likest name, or nothing."""
    with suppress(OSError):  # no such folder, or one that may not be read
        if near := difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], 1):
            return f" (did you mean {near[0]}?)"
    return ""


def _same(path: Path, other: Path) -> bool:
    """Whether two files have one content, as a recording and its copy or a link to it have."""
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _indexed(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    index = defaultdict[str, list[str]](list)
    for name, key in pairs:
        index[_folded(key)].append(name)
    return index
