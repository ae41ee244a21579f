"""What is wrong with this installation and its state, and what to do about each; looks, and changes nothing.

After the checkout moved: MLflow's SQLite holds absolute paths of artifacts, which lead nowhere any more.
"""

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict
from sqlalchemy import text

from mondegreen.config import load_params
from mondegreen.db import connect, database_url, reading
from mondegreen.errors import MondegreenError, RegistryError
from mondegreen.files import copy_sqlite, flock, lock
from mondegreen.registry.aliases import Holdings, holdings
from mondegreen.registry.backup import Backups
from mondegreen.registry.ledger import ALIASES, CHAMPION, LOCK, Ledger
from mondegreen.registry.mlflow_store import lock_path, registry_file, tracking_root
from mondegreen.registry.recovery import interrupted
from mondegreen.tables import SCHEMA

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
            backup = _back_up(file)
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


def _back_up(file: Path) -> Path:
    backup = file.with_name(f"{file.name}.before-relocation-{datetime.now():%Y%m%d-%H%M%S}")
    size, free = file.stat().st_size, shutil.disk_usage(file.parent).free
    if free < 2 * size:
        raise RegistryError(
            f"A backup of {file} takes {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free.", "Make room on the disk."
        )
    copy_sqlite(file, backup)
    return backup


Level = Literal["ok", "warning", "problem"]
_SCARCE = 1e9  # bytes; a round writes checkpoints, features and a model of several hundred MB


class Finding(BaseModel):
    """What one check found."""

    model_config = ConfigDict(frozen=True)

    check: str
    level: Level
    text: str
    remedy: str = ""


def examine(model_name: str, folder: Path) -> list[Finding]:
    """Every check; one that breaks off is a finding itself.

    Args:
        folder: of live state.
    """
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("environment", _environment),
        ("params.yaml", _params),
        ("database", lambda: _database(folder)),
        ("registry", lambda: _registry(model_name, folder)),
        ("artifact paths", _paths),
        ("files", lambda: _files(model_name, folder)),
        ("locks", lambda: _locks(folder)),
        ("disk", lambda: _disk(folder)),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += list(check()) or [Finding(check=name, level="ok", text="nothing is wrong")]
        except MondegreenError as error:
            found.append(Finding(check=name, level="problem", text=error.problem, remedy=error.next_step))
        except (OSError, sqlite3.Error, ValueError) as error:
            remedy = "Check the file that it names and its permissions."
            found.append(Finding(check=name, level="problem", text=f"{type(error).__name__}: {error}", remedy=remedy))
    return found


def _environment() -> Iterator[Finding]:
    for line in requires("mondegreen") or []:
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(needed.name)
        except PackageNotFoundError:
            there = ""
        if not there or not needed.specifier.contains(there, prereleases=True):
            state = f"{there} is installed, {needed.specifier} is needed" if there else "is not installed"
            yield Finding(
                check="environment", level="problem", text=f"{needed.name}: {state}.",
                remedy="pip install -c constraints.txt -e .",
            )  # fmt: skip
    for program in ("git", "dvc"):
        beside = Path(sys.executable).parent / program
        if shutil.which(program) is None and not beside.exists():
            yield Finding(
                check="environment", level="warning", text=f"There is no `{program}`.",
                remedy=f"Install {program}: rounds and the pipeline call it.",
            )  # fmt: skip


def _params() -> Iterator[Finding]:
    path = tracking_root() / "params.yaml"
    if not path.is_file():
        yield Finding(
            check="params.yaml", level="warning", text=f"{path} does not exist; the defaults count.",
            remedy="Run from the project root.",
        )  # fmt: skip
        return
    load_params(path)


def _database(folder: Path) -> Iterator[Finding]:
    if not _has_database(folder):
        yield Finding(
            check="database", level="ok", text=f"There is none in {folder} yet: it is made when it is needed."
        )
        return
    from mondegreen import schema

    engine = connect(folder)
    try:
        with reading(engine) as session:
            if engine.dialect.name == "sqlite":
                said = session.scalar(text("PRAGMA quick_check(1)"))
                if said != "ok":
                    yield _damaged("database", database_url(folder), str(said))
                    return
            found = schema.look(session.connection())
    finally:
        engine.dispose()
    if found.newer:
        yield Finding(check="database", level="problem", text=schema.too_new(found), remedy=schema.NEWER)
    elif found.older:
        yield Finding(
            check="database", level="warning",
            text=f"It has schema {found}; the next command that opens it upgrades it to {SCHEMA}.",
            remedy="Stop what else uses it first; docs/cases.md says where the copy lies and how to go back.",
        )  # fmt: skip
    else:
        yield Finding(check="database", level="ok", text=f"It has schema {found}, as this version of mondegreen.")


def _registry(model_name: str, folder: Path) -> Iterator[Finding]:
    file = registry_file()
    if not _has_database(folder) or _has_another_schema(folder):
        return  # no ledger, so nothing that the registry could contradict
    ledger = Ledger.open(folder, model_name)
    try:
        known = ledger.aliases()
        if file and not file.is_file():
            if known:
                yield Finding(
                    check="registry", level="problem",
                    text=f"{file} is gone, though the ledger knows of versions.",
                    remedy="Put mlruns/ back from a backup; the files of deployed models are in var/backups.",
                )  # fmt: skip
            return
        if file:
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
                if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    yield _damaged("registry", str(file), str(said))
        yield from _consistency(ledger, holdings(model_name))
    finally:
        ledger.engine.dispose()


def _consistency(ledger: Ledger, held: Holdings) -> Iterator[Finding]:
    settle = "`mondegreen models list` settles it and says what it did."
    for entry in ledger.unfinished():
        yield Finding(check="registry", level="problem", text=f"{interrupted(entry)}.", remedy=settle)
    known = ledger.aliases()
    actual = {alias: number for alias, number in held.aliases.items() if alias in ALIASES}
    if known is not None and known != actual and not ledger.unfinished():
        text = f"The ledger says {known or 'nobody holds an alias'}, the registry {actual or 'nobody'}."
        yield Finding(check="registry", level="warning", text=text, remedy=f"Somebody moved it by hand; {settle}")
    for number, stage in held.misplaced().items():
        text = f"Version {number} stands in {held.stages[number]}, by its alias it belongs in {stage}."
        yield Finding(check="registry", level="warning", text=text, remedy=settle)
    if known and known.get(CHAMPION) and CHAMPION not in actual:
        text = "Nobody is champion any more: whatever loads @champion fails."
        yield Finding(check="registry", level="problem", text=text, remedy="`mondegreen models rollback`")


def _paths() -> Iterator[Finding]:
    found = strays()
    movable, lost = [s for s in found if s.found], [s for s in found if not s.found and s.lost]
    if movable:
        yield Finding(
            check="artifact paths", level="problem" if any(s.lost for s in movable) else "warning",
            text=f"{len(movable)} paths in {registry_file()} lead out of this checkout, such as {movable[0].value}; "
            "what they mean lies here.",
            remedy="`mondegreen doctor --relocate` rewrites them, after a backup of the database.",
        )  # fmt: skip
    if lost:
        yield Finding(
            check="artifact paths", level="warning",
            text=f"{len(lost)} paths lead nowhere, such as {lost[0].value}.",
            remedy="Put the artifacts back if they are still wanted; runs without files stay readable.",
        )  # fmt: skip


def _files(model_name: str, folder: Path) -> Iterator[Finding]:
    """The files of whoever holds an alias, and the backups of those that a rollback needs."""
    file = registry_file()
    if (file and not file.is_file()) or _has_another_schema(folder):
        return
    if not (held := holdings(model_name, stages=False).aliases):
        return
    from mondegreen.registry.aliases import opened
    from mondegreen.registry.package import damage, fatal

    backups = Backups(folder, model_name)
    with opened(model_name, folder) as registry:
        for alias, number in held.items():
            if wrong := fatal(registry, number) or damage(registry, number):
                yield Finding(
                    check="files", level="problem", text=f"@{alias} (version {number}): {'; '.join(wrong)}.",
                    remedy="`mondegreen models verify --restore`, or `mondegreen models rollback`.",
                )  # fmt: skip
            if alias in (CHAMPION, "previous") and (wrong := backups.problems(number)):
                yield Finding(
                    check="files", level="warning",
                    text=f"The backup of @{alias} (version {number}) is of no use: {'; '.join(wrong)}.",
                    remedy="`mondegreen models verify --back-up` makes it anew from whole files.",
                )  # fmt: skip


def _locks(folder: Path) -> Iterator[Finding]:
    """Locks are let go of when their process ends, so that one that is held has an owner who works."""
    for path in [lock_path("registry"), lock_path("initialise"), *sorted((folder / "locks").glob("*.lock"))]:
        if not path.is_file():
            continue
        with flock(path, 0, shared=True) as free:
            pass
        if free is None:
            yield Finding(
                check="locks", level="warning", text=f"{path} is held: somebody is at work.",
                remedy="Wait for it; when nothing should be running, look with `fuser` who it is.",
            )  # fmt: skip


def _disk(folder: Path) -> Iterator[Finding]:
    seen = set()
    file = registry_file()
    for place in (tracking_root(), folder, file.parent if file else tracking_root()):
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        free = shutil.disk_usage(place).free
        if device not in seen and free < _SCARCE:
            yield Finding(
                check="disk", level="problem", text=f"{free / 1e6:,.0f} MB are free at {place}.",
                remedy="Make room: `make clean` removes what can be made again.",
            )  # fmt: skip
        seen.add(device)
        if not os.access(place, os.W_OK):
            yield Finding(
                check="disk", level="problem", text=f"{place} cannot be written to.", remedy="Check its permissions."
            )


def _has_database(folder: Path) -> bool:
    return "MONDEGREEN_DATABASE_URL" in os.environ or (folder / "mondegreen.db").is_file()


def _has_another_schema(folder: Path) -> bool:
    """Whether opening the database would upgrade it, or be refused."""
    from mondegreen import schema

    if not _has_database(folder):
        return False
    engine = connect(folder)
    try:
        with reading(engine) as session:
            found = schema.look(session.connection())
            return found.newer or found.older
    finally:
        engine.dispose()


def _damaged(check: str, what: str, said: str) -> Finding:
    return Finding(
        check=check, level="problem", text=f"{what} is damaged: {said}.",
        remedy="Put it back from a backup; `sqlite3 FILE .recover` may save what is left.",
    )  # fmt: skip
