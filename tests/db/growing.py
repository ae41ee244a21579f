"""Databases that the code of schema 1 wrote, and a mondegreen that knows a schema more."""

import importlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text

from mondegreen import db, schema
from mondegreen.tables import SCHEMA

HERE = Path(__file__).parent
NEXT = SCHEMA + 1
_FIRST = importlib.import_module("mondegreen.migrations.versions.0001_baseline")


def restore(folder: Path) -> None:
    """What was dumped, into `folder/mondegreen.db` or the PostgreSQL that MONDEGREEN_DATABASE_URL names."""
    if address := os.environ.get("MONDEGREEN_DATABASE_URL"):
        psql = sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))[-1]
        given = [psql, "-q", "-v", "ON_ERROR_STOP=1", "-f", HERE / "written_by_schema_1.postgresql.sql", address]
        subprocess.run(given, check=True, capture_output=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "mondegreen.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript((HERE / "written_by_schema_1.sqlite.sql").read_text(encoding="utf-8"))
        connection.commit()


@contextmanager
def grown(*versions: Path, number: int = NEXT) -> Iterator[None]:
    """A mondegreen whose newest migration is tests/db/next's, or the one given."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (db, schema):
            patch.setattr(module, "SCHEMA", number)
            patch.setattr(module, "REVISION", f"{number:04}")
        patch.setattr("mondegreen.registry.doctor.SCHEMA", number)
        patch.setattr(schema, "VERSIONS", [*schema.VERSIONS, *(versions or [HERE / "next"])])
        yield


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of schema 1, by its columns of then."""
    found = {}
    with engine.connect() as connection:
        for table in _FIRST._TABLES.sorted_tables:
            if table.name != "schema_version":
                columns = ", ".join(f'"{column.name}"' for column in table.columns)
                rows = connection.execute(text(f"SELECT {columns} FROM {table.name}"))
                found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found


def state(engine: Engine) -> tuple[str | None, int | None, bool]:
    """Alembic's revision, the number beside it, and whether the column of tests/db/next is there."""
    with engine.connect() as connection:
        found = schema.look(connection)
        return found.revision, found.schema, "language" in {c["name"] for c in inspect(connection).get_columns("cases")}


def copies(folder: Path) -> list[Path]:
    """What upgrades left beside the SQLite file."""
    return sorted(folder.glob("mondegreen.db.before*"))
