"""A project that was copied or moved: the whole paths in MLflow's SQLite file still lead to where it was before.

The files there are not ours to remove or to write. That concerns an SQLite file only: a server and another database
have no folder that their artifacts belong in. And only a path with a folder of the name that the file's own has
(mlruns): artifacts that somebody keeps on another disk on purpose have neither a twin here nor such a file beside them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from mondegreen.errors import RegistryError
from mondegreen.registry.aliases import local_folder
from mondegreen.registry.mlflow_store import registry_file

RELOCATE = "`mondegreen doctor --relocate` rewrites them, after a backup of the database."
_WARNED: set[Path] = set()  # a process says it once of each project
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Elsewhere:
    """A place outside of the folder that the registry's file lies in, and the place here that it must mean."""

    folder: Path
    target: Path
    home: Path  # the other folder of the registry's

    @property
    def next_step(self) -> str:
        """What to do about it."""
        if self.target.exists():
            return RELOCATE.replace("rewrites them", "rewrites the paths")
        return f"Copy it to {self.target}, then run `mondegreen doctor --relocate`, which rewrites the paths."


def place_here(old: Path, home: Path) -> Path | None:
    """The same place below the folder that the database lies in now: what follows the old folder of that name."""
    names = old.parts
    if home.name not in names:
        return None
    return home.joinpath(*names[_index(names, home.name) + 1 :])


def elsewhere(location: str) -> Elsewhere | None:
    """Where a location leads into another project, or to where this one was; None when it does not.

    Args:
        location: of artifacts, as MLflow has it.
    """
    file, folder = registry_file(), local_folder(location)
    if file is None or folder is None or not folder.is_absolute() or folder.is_relative_to(file.parent):
        return None
    target = place_here(folder, file.parent)
    if target is None or folder.resolve() == target.resolve():  # by way of a link it is this project
        return None
    home = Path(*folder.parts[: _index(folder.parts, file.parent.name) + 1])
    there = folder.exists() and (home / file.name).is_file()
    return Elsewhere(folder, target, home) if target.exists() or there else None


def require_own(location: str, what: str) -> None:
    """Raises RegistryError where files lie in another project.

    Args:
        what: does not happen, such as "Version 3 is not deleted".
    """
    if found := elsewhere(location):
        raise RegistryError(f"{what}: {_said(found)}", found.next_step)


def warn_of_another(location: str) -> None:
    """Says once of each project that files are read from there."""
    if (found := elsewhere(location)) and found.home not in _WARNED:
        _WARNED.add(found.home)
        _log.warning("Of a version that is used here: %s %s", _said(found), found.next_step)


def _said(found: Elsewhere) -> str:
    return f"by MLflow's database its files are {found.folder}, outside of this project, which was copied or moved."


def _index(names: tuple[str, ...], name: str) -> int:
    return len(names) - 1 - names[::-1].index(name)
