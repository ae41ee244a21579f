"""After the checkout moved: MLflow's SQLite holds absolute paths of artifacts, which lead nowhere any more."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mondegreen.errors import RegistryError
from mondegreen.files import lock
from mondegreen.registry.ledger import LOCK
from mondegreen.registry.location import lock_path, registry_file

# MLflow 3: every column that holds a place of artifacts.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


@dataclass(frozen=True)
class Stray:
    """A place in the database that is not in this checkout, and the place here that it must mean."""

    table: str
    column: str
    value: str
    target: Path
    lost: bool  # there is nothing any more at the old place

    @property
    def found(self) -> bool:
        """Whether the place here exists, so that it can be rewritten."""
        return self.target.exists()


def strays() -> list[Stray]:
    """Places outside of the folder that the database lies in; nothing when the registry is no SQLite file."""
    file = registry_file()
    if file is None or not file.is_file():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return list(_strays(connection, file.parent))


def relocate() -> tuple[list[Stray], Path | None]:
    """Rewrites every stray place whose files are here, in one transaction, after a backup of the database.

    Returns:
        What was rewritten, and the backup; nothing and None when there was nothing to do.

    Raises:
        RegistryError: the registry is no SQLite file, or the database refuses.
    """
    file = registry_file()
    if file is None:
        raise RegistryError("The registry is no SQLite file.", "Move its artifacts with the tools of its server.")
    try:
        with lock(lock_path(LOCK), timeout=60), closing(sqlite3.connect(file, timeout=60)) as connection:
            wanted = [stray for stray in _strays(connection, file.parent) if stray.found]
            if not wanted:
                return [], None
            backup = _back_up(connection, file)
            with connection:
                for stray in wanted:
                    connection.execute(
                        f"UPDATE {stray.table} SET {stray.column} = ? WHERE {stray.column} = ?",
                        (_spelt(stray.target, stray.value), stray.value),
                    )
            return wanted, backup
    except sqlite3.Error as error:
        raise RegistryError(
            f"{file} cannot be changed: {error}.", "Stop what else uses it (`make ui`, a round), and run it again."
        ) from error


def _strays(connection: sqlite3.Connection, home: Path) -> Iterator[Stray]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, column in _COLUMNS:
        if table not in tables:
            continue
        for (value,) in connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL"):
            old = _path(value)
            if old is None or old.is_relative_to(home):
                continue
            target = _here(old, home)
            if target is not None:
                yield Stray(table, column, value, target, lost=not old.exists())


def _path(value: str) -> Path | None:
    """The folder that a place names on this machine, None for buckets, servers and `models:/…`."""
    parts = urlsplit(value)
    if parts.scheme not in ("", "file") or not parts.path.startswith("/"):
        return None
    return Path(unquote(parts.path))


def _here(old: Path, home: Path) -> Path | None:
    """The same place below the folder that the database lies in now: what follows the old folder of that name."""
    names = old.parts
    if home.name not in names:
        return None
    last = len(names) - 1 - names[::-1].index(home.name)
    return home.joinpath(*names[last + 1 :])


def _spelt(target: Path, like: str) -> str:
    return target.as_uri() if like.startswith("file:") else str(target)


def _back_up(connection: sqlite3.Connection, file: Path) -> Path:
    backup = file.with_name(f"{file.name}.before-relocation-{datetime.now():%Y%m%d-%H%M%S}")
    size, free = file.stat().st_size, shutil.disk_usage(file.parent).free
    if free < 2 * size:
        raise RegistryError(
            f"A backup of {file} takes {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free.", "Make room on the disk."
        )
    with closing(sqlite3.connect(backup)) as target:
        connection.backup(target)
    return backup
