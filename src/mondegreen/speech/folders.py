"""The recordings in a folder, and the files beside them that are none."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mondegreen.files import printable

# What is looked for. What a file is, its bytes say.
EXTENSIONS = frozenset(
    {
        *(".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga"),
        *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".avi", ".wma", ".asf", ".ac3"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".amr", ".awb", ".sph", ".ape", ".wv"),
    }
)
_NAMED = 20


@dataclass(frozen=True)
class Folder:
    """What stands below a folder, in the order of the names."""

    recordings: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    hidden: int = 0  # and the forks that a Mac leaves beside files ("._name")

    def not_taken(self, read: Collection[Path] = ()) -> Iterator[tuple[str, str]]:
        """What is said about the rest, as (code, message), but for what somebody has `read`."""
        if others := [printable(path.name) for path in self.others if path not in read]:
            named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
            yield "not_taken", f"{_files(len(others))} not taken, being no recordings by name: {named}"
        if self.hidden:
            yield "hidden", f"{_files(self.hidden)} skipped, being hidden or a resource fork"


def look_through(folder: Path, skip: Collection[str] = ()) -> Folder:
    """Sorts the files below a folder.

    Args:
        skip: folders at its top that are not looked into.
    """
    found, hidden = Folder(), 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if name.parts[0] in skip:
            continue
        if any(part.startswith(".") for part in name.parts):
            hidden += 1
        elif path.suffix.lower() in EXTENSIONS:
            found.recordings.append(path)
        else:
            found.others.append(path)
    return Folder(found.recordings, found.others, hidden)


def _files(count: int) -> str:
    return f"{count} file{'s were' if count != 1 else ' was'}"
