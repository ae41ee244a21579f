"""The recordings in a folder, and the files beside them that are none."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mondegreen.files import printable

# What is looked for. What a file is, its bytes say.
EXTENSIONS = frozenset(
    {
        *(".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga"),
        *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".avi", ".wma", ".asf", ".ac3"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".amr", ".awb", ".sph", ".ape", ".wv", ".tta", ".voc"),
        *(".3g2", ".flv", ".mpg", ".mpeg", ".eac3"),
    }
)
_NAMED = 20


@dataclass(frozen=True)
class Folder:
    """What stands below a folder, in the order of the names."""

    recordings: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    unheard: list[tuple[Path, str]] = field(default_factory=list)  # what cannot be opened as a file or folder, and why
    hidden: int = 0  # and the forks that a Mac leaves beside files ("._name")

    def not_taken(self, read: Collection[Path] = ()) -> Iterator[tuple[str, str]]:
        """What is said about the rest, as (code, message), but for what somebody has `read`."""
        if others := [printable(path.name) for path in self.others if path not in read]:
            named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
            yield "not_taken", f"{_files(len(others))} not taken, being no recordings by name: {named}"
        if self.unheard:
            listed = [f"{printable(path)} ({why})" for path, why in self.unheard]
            named = ", ".join(listed[:_NAMED]) + (f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else "")
            yield "unheard", f"{len(listed)} cannot be heard, being no files: {named}"
        if self.hidden:
            yield "hidden", f"{_files(self.hidden)} skipped, being hidden or a resource fork"


def look_through(folder: Path, skip: Collection[str] = ()) -> Folder:
    """Sorts the files below a folder, and below the folders that links in it lead to.

    Args:
        skip: folders at its top that are not looked into.
    """
    found, hidden = Folder(), 0
    if not os.path.lexists(folder):
        return found
    for path, why in _below(folder, skip):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            hidden += 1
        elif why:
            found.unheard.append((path, why))
        elif path.suffix.lower() in EXTENSIONS:
            found.recordings.append(path)
        else:
            found.others.append(path)
    return Folder(found.recordings, found.others, found.unheard, hidden)


def _below(folder: Path, skip: Collection[str] = (), above: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """The files below a folder in the order of their names, and what is none with the reason.

    Args:
        skip: names in it that are passed over.
        above: the folders that it is in, by where they really are: a link to one of them would go on for ever.
    """
    real = os.path.realpath(folder)
    if real in above:
        yield folder, "a link to a folder that it is in"
        return
    try:
        names = sorted({path.name for path in folder.iterdir()} - set(skip))
    except OSError as error:
        yield folder, f"a folder that cannot be opened: {error.strerror}"
        return
    for path in (folder / name for name in names):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder may not be entered
            if path.suffix.lower() in EXTENSIONS:
                yield path, "a folder"
            yield from _below(path, (), (*above, real))
        elif os.path.isfile(path):  # noqa: PTH113
            yield path, ""
        else:
            yield path, "a link that leads nowhere" if path.is_symlink() else "neither file nor folder"


def _files(count: int) -> str:
    return f"{count} file{'s were' if count != 1 else ' was'}"
