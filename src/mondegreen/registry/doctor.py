"""What is wrong with this installation and its state, and what to do about each; looks, and changes nothing.

The exception is `relocate`: MLflow's SQLite holds absolute paths of artifacts, which lead nowhere after the checkout
was moved.
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

from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict
from sqlalchemy import text

from mondegreen.config import load_params
from mondegreen.db import connect, database_url, reading
from mondegreen.errors import MondegreenError, RegistryError
from mondegreen.files import copy_sqlite, flock, lock
from mondegreen.git import broken_lock
from mondegreen.registry.aliases import LOCK, Holdings, holdings, local_folder, opened
from mondegreen.registry.copied import RELOCATE, place_here
from mondegreen.registry.forwarding import moved_away
from mondegreen.registry.ledger import CHAMPION, PREVIOUS, Ledger
from mondegreen.registry.mlflow_store import lock_path, registry_file, tracking_root
from mondegreen.registry.recovery import cut_off
from mondegreen.registry.resolving import AGAIN, lost_candidate
from mondegreen.scoring.wording import many
from mondegreen.tables import SCHEMA

# MLflow 3: every column that holds a place of artifacts.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)
Level = Literal["ok", "warning", "problem"]
CheckLines = Iterator[tuple[Level, str, str]]  # level, text, remedy
_DAMAGED = "Put it back from a backup; `sqlite3 FILE .recover` may save what is left."
_SCARCE = 1e9  # bytes; a round writes checkpoints, features and a model of several hundred MB


class CheckResult(BaseModel):
    """What one check found."""

    model_config = ConfigDict(frozen=True)

    check: str
    level: Level
    text: str
    remedy: str = ""


def examine(model_name: str, folder: Path) -> list[CheckResult]:
    """Every check; one that breaks off is a finding itself.

    Args:
        folder: of live state.
    """
    checks: dict[str, Callable[[], CheckLines]] = {
        "environment": _environment,
        "params.yaml": _params,
        "database": lambda: _database(folder),
        "registry": lambda: _registry(model_name, folder),
        "candidate": lambda: _candidate(model_name),
        "artifact paths": _paths,
        "files": lambda: _files(model_name, folder),
        "locks": lambda: _locks(folder),
        "disk": lambda: _disk(folder),
        "caches": lambda: _caches(folder),
    }
    found: list[CheckResult] = []
    for name, check in checks.items():
        try:
            said = list(check()) or [("ok", "nothing is wrong", "")]
        except MondegreenError as error:
            said = [("problem", error.problem, error.next_step)]
        except (OSError, sqlite3.Error, ValueError) as error:
            remedy = "Check the file that it names and its permissions."
            said = [("problem", f"{type(error).__name__}: {error}", remedy)]
        found += [CheckResult(check=name, level=level, text=text, remedy=remedy) for level, text, remedy in said]
    return found


def _environment() -> CheckLines:
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
            yield "problem", f"{needed.name}: {state}.", "pip install -c constraints.txt -e ."
    for program in ("git", "dvc"):
        if shutil.which(program) is None and not (Path(sys.executable).parent / program).exists():
            yield "warning", f"There is no `{program}`.", f"Install {program}: rounds and the pipeline call it."


def _params() -> CheckLines:
    path = tracking_root() / "params.yaml"
    if path.is_file():
        load_params(path)
    else:
        yield "warning", f"{path} does not exist; the defaults count.", "Run from the project root."


def _database(folder: Path) -> CheckLines:
    if not _has_database(folder):
        yield "ok", f"There is none in {folder} yet: it is made when it is needed.", ""
        return
    from mondegreen import schema

    engine = connect(folder)
    try:
        with reading(engine) as session:
            if engine.dialect.name == "sqlite":
                said = session.scalar(text("PRAGMA quick_check(1)"))
                if said != "ok":
                    yield "problem", f"{database_url(folder)} is damaged: {said}.", _DAMAGED
                    return
            found = schema.look(session.connection())
    finally:
        engine.dispose()
    if found.newer:
        yield "problem", schema.too_new(found), schema.NEWER
    elif found.older:
        remedy = "Stop what else uses it first; docs/cases.md says where the copy lies and how to go back."
        yield "warning", f"It has schema {found}; the next command that opens it upgrades it to {SCHEMA}.", remedy
    else:
        yield "ok", f"It has schema {found}, as this version of mondegreen.", ""


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


def _registry(model_name: str, folder: Path) -> CheckLines:
    if not _has_database(folder) or _has_another_schema(folder):
        return  # no ledger, so nothing that the registry could contradict
    file, ledger = registry_file(), Ledger.open(folder, model_name)
    try:
        if file and not file.is_file():
            if ledger.aliases():
                yield (
                    "problem",
                    f"{file} is gone, though the ledger knows of versions.",
                    ledger.when_gone(),
                )
            return
        if file:
            with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
                if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                    yield "problem", f"{file} is damaged: {said}.", _DAMAGED
        if away := moved_away(model_name):
            yield "problem", away.problem, away.next_step
        else:
            yield from _consistency(ledger, holdings(model_name))
    finally:
        ledger.engine.dispose()


def _consistency(ledger: Ledger, held: Holdings) -> CheckLines:
    settle = "`mondegreen status --settle` settles it and says what it did."
    known, actual, unfinished = ledger.aliases(), held.ours, ledger.unfinished()
    for entry in unfinished:
        yield "problem", f"{cut_off(entry)}.", settle
    if known is not None and known != actual and not unfinished:
        said = f"The ledger says {known or 'nobody holds an alias'}, the registry {actual or 'nobody'}."
        yield "warning", said, f"Somebody moved it by hand; {settle}"
    for number, stage in held.misplaced().items():
        yield (
            "warning",
            f"Version {number} stands in {held.stages[number]}, by its alias it belongs in {stage}.",
            settle,
        )
    if known and known.get(CHAMPION) and CHAMPION not in actual:
        yield "problem", "Nobody is champion any more: whatever loads @champion fails.", "`mondegreen models rollback`"


def _candidate(model_name: str) -> CheckLines:
    """Whether the version that the stage register made, or DVC's run cache gave back, is in this registry."""
    path, said = lost_candidate(model_name)
    if said:
        yield "warning", f"{path} names a version that is not here: it is another registry's. {said}", AGAIN


def _paths() -> CheckLines:
    found = [stray for stray in strays() if not stray.unused]
    movable, lost = [s for s in found if s.found], [s for s in found if not s.found and s.lost]
    if movable:
        paths = f"{many(len(movable), 'path')} of {registry_file()} outside this checkout, such as {movable[0].value}"
        yield "problem" if any(s.lost for s in movable) else "warning", f"{paths}; what they mean lies here.", RELOCATE
    if lost:
        remedy = "Put the artifacts back if they are still wanted; runs without files stay readable."
        yield "warning", f"{many(len(lost), 'path')} to nowhere, such as {lost[0].value}.", remedy


def _files(model_name: str, folder: Path) -> CheckLines:
    """The files of whoever holds an alias, and the backups of those that a rollback needs."""
    file = registry_file()
    if (file and not file.is_file()) or _has_another_schema(folder):
        return
    if not (held := holdings(model_name, stages=False).aliases):
        return
    with opened(model_name, folder) as registry:
        for alias, number in held.items():
            if wrong := registry.fatal(number) or registry.damage(number):
                remedy = "`mondegreen models verify --restore`, or `mondegreen models rollback`."
                yield "problem", f"@{alias} (version {number}): {'; '.join(wrong)}.", remedy
            if alias in (CHAMPION, PREVIOUS) and (wrong := registry.backups.problems(number)):
                said = f"The backup of @{alias} (version {number}) is of no use: {'; '.join(wrong)}."
                yield "warning", said, "`mondegreen models verify --back-up` makes it anew from whole files."


def _locks(folder: Path) -> CheckLines:
    """Locks are let go of when their process ends, so that one that is held has an owner who works."""
    for path in [lock_path(LOCK), lock_path("initialise"), *sorted((folder / "locks").glob("*.lock"))]:
        if not path.is_file():
            continue
        with flock(path, 0, shared=True) as free:
            pass
        if free is None:
            remedy = "Wait for it; when nothing should be running, look with `fuser` who it is."
            yield "warning", f"{path} is held: somebody is at work.", remedy
    if broken := broken_lock(tracking_root()):
        remedy = f"`rm {broken}` when no DVC runs; `mondegreen run` and `cases snapshot` do it themselves."
        yield "problem", f"{broken} is empty or cut off: a DVC was killed, and every DVC command stops at it.", remedy


def _disk(folder: Path) -> CheckLines:
    seen = set()
    file = registry_file()
    for place in (tracking_root(), folder, file.parent if file else tracking_root()):
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        free = shutil.disk_usage(place).free
        if device not in seen and free < _SCARCE:
            remedy = "Make room: `make clean` removes what can be made again."
            yield "problem", f"{free / 1e6:,.0f} MB are free at {place}.", remedy
        seen.add(device)
        if not os.access(place, os.W_OK):
            yield "problem", f"{place} cannot be written to.", "Check its permissions."


def _caches(folder: Path) -> CheckLines:
    """What only saves work, and how much of the disk it takes."""
    from mondegreen.speech.examining import EXAMINED, MOST
    from mondegreen.speech.feature_cache import CACHE_FOLDER, kept_files, room

    features, most = kept_files(folder / CACHE_FOLDER.name), room()
    taken = sum(found.st_size for _, found in features)
    said = f"features take {taken / 1e6:,.0f} of at most {most / 1e6:,.0f} MB"
    examined = folder / EXAMINED.name
    if examined.is_file():
        said += (
            f"; what {examined} knows of recordings {examined.stat().st_size / 1e6:,.1f} MB (at most {MOST:,} of them)"
        )
    over = taken > most
    yield "warning" if over else "ok", said, "The next training or transcription makes room." if over else ""


@dataclass(frozen=True)
class Stray:
    """A place in the database that is not in this checkout, and the place here that it must mean."""

    table: str
    column: str
    value: str
    target: Path
    lost: bool  # there is nothing any more at the old place
    unused: bool = False  # of an experiment without runs: nobody ever made its folder

    @property
    def found(self) -> bool:
        """Whether the place here exists, or never had to, so that it can be rewritten."""
        return self.unused or self.target.exists()


def strays() -> list[Stray]:
    """Places outside of the folder that the database lies in; nothing when the registry is no SQLite file."""
    file = registry_file()
    if file is None or not file.is_file():
        return []
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
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
                    target = stray.target.as_uri() if stray.value.startswith("file:") else str(stray.target)
                    connection.execute(
                        f"UPDATE {stray.table} SET {stray.column} = ? WHERE {stray.column} = ?",
                        (target, stray.value),
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
            old = local_folder(value)  # None for buckets, servers and `models:/…`
            if old is None or not old.is_absolute() or old.is_relative_to(home):
                continue
            if Path(value).is_relative_to(home):  # MLflow's own experiment, which nobody uses, has a path unquoted
                continue
            if target := place_here(old, home):
                lost = not old.exists()
                unused = lost and table == "experiments" and not target.exists() and not _runs_in(connection, value)
                yield Stray(table, column, value, target, lost, unused)


def _runs_in(connection: sqlite3.Connection, location: str) -> bool:
    """Whether an experiment with this place has a run."""
    query = "SELECT 1 FROM runs JOIN experiments USING (experiment_id) WHERE artifact_location = ? LIMIT 1"
    return connection.execute(query, (location,)).fetchone() is not None


def _back_up(file: Path) -> Path:
    backup = file.with_name(f"{file.name}.before-relocation-{datetime.now():%Y%m%d-%H%M%S}")
    size, free = file.stat().st_size, shutil.disk_usage(file.parent).free
    if free < 2 * size:
        raise RegistryError(
            f"A backup of {file} takes {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free.", "Make room on the disk."
        )
    copy_sqlite(file, backup)
    return backup
