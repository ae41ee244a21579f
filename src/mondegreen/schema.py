"""Bringing a database to the schema of `tables`: what it has, a copy of it, then Alembic's migrations.

Alembic's revisions are the schema's number in four digits, in a table of our own name: MLflow may keep its tables, and
Alembic's usual `alembic_version`, in the same PostgreSQL. `schema_version` repeats the number for the versions of
mondegreen from before the migrations, which refuse any but 1.
"""

import os
import shutil
import sqlite3
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, inspect, text

from mondegreen.errors import CaseError
from mondegreen.files import copy_sqlite
from mondegreen.tables import REVISION, SCHEMA, VERSION_TABLE

MIGRATIONS = Path(__file__).parent / "migrations"
VERSIONS = [MIGRATIONS / "versions"]
NEWER = "Install the version of mondegreen that made it or a newer one; docs/cases.md says how to go back."
_ALONE = threading.Lock()  # Alembic's `op` and `context` are one for the whole process


@dataclass(frozen=True)
class SchemaState:
    """What a database says of its schema."""

    revision: str | None  # Alembic's; None where no migration ran
    schema: int | None  # None where there are no tables yet

    @property
    def current(self) -> bool:
        """Whether it has this mondegreen's schema."""
        return self == SchemaState(REVISION, SCHEMA)

    @property
    def newer(self) -> bool:
        """Whether a newer mondegreen made it."""
        unknown = self.revision is not None and not (self.revision.isdigit() and int(self.revision) <= SCHEMA)
        return unknown or (self.schema or 0) > SCHEMA

    @property
    def older(self) -> bool:
        """Whether an older mondegreen made it, so that an upgrade changes tables that are there."""
        return self.schema is not None and self.schema < SCHEMA

    def __str__(self) -> str:
        return max(self.revision or "", f"{self.schema or 0:04}").lstrip("0")


def look(connection: Connection) -> SchemaState:
    """The state of the database."""
    there = inspect(connection).get_table_names()

    def one(column: str, table: str) -> Any:
        return connection.scalar(text(f"SELECT max({column}) FROM {table}")) if table in there else None

    return SchemaState(one("version_num", VERSION_TABLE), one("version", "schema_version"))


def too_new(found: SchemaState) -> str:
    """What is wrong with a newer database."""
    return f"The database has schema {found}, this version of mondegreen knows {SCHEMA}."


def upgrade(connection: Connection) -> str:
    """Runs the migrations that the database lacks, in the transaction that the connection is in; all of them or none.

    SQLite: the file is copied first if a table that is there changes. Its foreign keys must be off.

    Returns:
        What to say when the transaction is committed; "" when nothing that was there has changed.

    Raises:
        CaseError: a newer mondegreen made the database, or there is no room for the copy.
    """
    before = look(connection)
    if before.newer:
        raise CaseError(too_new(before), NEWER)
    if before.current:
        return ""
    copy = _copy(connection) if before.older else None
    try:
        with _ALONE:
            command.upgrade(_config(connection), "head")
    except BaseException:
        if copy:
            copy.unlink()  # the transaction leaves the database as it is
        raise
    if not before.older:
        return ""
    return f"The database was upgraded from schema {before} to {SCHEMA}." + (f" As it was: {copy}." if copy else "")


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", _escaped(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", os.pathsep.join(map(_escaped, VERSIONS)))
    config.attributes["context"] = {
        "connection": connection,
        "version_table": VERSION_TABLE,
        "on_version_apply": _applied,
    }
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _applied(*, ctx: Any, step: Any, **_: Any) -> None:
    """After each migration, within its transaction."""
    connection = ctx.connection
    connection.execute(text("DELETE FROM schema_version"))
    connection.execute(text("INSERT INTO schema_version VALUES (:number)"), {"number": int(step.up_revision_id)})
    if connection.dialect.name != "sqlite":
        return
    if broken := connection.execute(text("PRAGMA foreign_key_check")).first():
        raise CaseError(
            f"After migration {step.up_revision_id} a row of {broken[0]} refers to one of {broken[2]} that is missing.",
            "Nothing was changed. Go on with the version of mondegreen that made the database, and report this.",
        )


def _copy(connection: Connection) -> Path | None:
    """A copy of a SQLite file as it was at the last commit, beside it; None for PostgreSQL and in memory."""
    if connection.dialect.name != "sqlite":
        return None
    if not (name := connection.execute(text("PRAGMA database_list")).all()[0][2]):
        return None
    file = Path(name)
    target = file.with_name(f"{file.name}.before-{REVISION}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    try:
        copy_sqlite(file, target)
    except (sqlite3.Error, OSError) as error:
        free = shutil.disk_usage(file.parent).free
        raise CaseError(
            f"{file} cannot be copied before its upgrade: {error}. Nothing was changed.",
            f"Make room for {file.stat().st_size / 1e6:,.0f} MB ({free / 1e6:,.0f} MB are free) and run it again.",
        ) from error
    return target
