"""Opening the database of live state: SQLite (WAL) in a local folder, or PostgreSQL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Engine, TableClause, create_engine, event, insert, make_url, select, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from mondegreen import tables  # noqa: F401 - made with the others
from mondegreen.errors import CaseError, UsageError
from mondegreen.files import lock
from mondegreen.tables import SchemaRow, Table

if TYPE_CHECKING:
    from sqlalchemy.dialects import sqlite

SCHEMA = 1
_PATIENCE = 60  # seconds that a writer waits for another one
_CACHE = 65_536  # KiB at most: ids are random, so that a large store writes all over its indexes
_OUR_FAULTS = ("22", "23", "42")  # SQLSTATE classes: wrong data, a broken constraint, a wrong statement
_AGAIN = "Nothing of this step was kept. Make room on the disk, or wait for the other writer, and run it again."
_BACKUP = "Check that it runs and that you may write to it; a damaged SQLite file comes back from a backup."
_SCHEMA_LOCK = 0x6D6F6E64  # any number of our own, for PostgreSQL's advisory lock


def database_url(folder: Path) -> str:
    """MONDEGREEN_DATABASE_URL when set, else the SQLite file in `folder`."""
    return os.environ.get("MONDEGREEN_DATABASE_URL") or f"sqlite:///{folder / 'mondegreen.db'}"


def open_database(folder: Path) -> Engine:
    """Connects to `database_url(folder)` and makes the tables where they are missing.

    Raises:
        UsageError: the URL is wrong.
        CaseError: the database cannot be reached, is damaged, or was made by a newer version.
    """
    url = database_url(folder)
    try:
        parts = make_url(url)
        if parts.drivername in ("postgresql", "postgres"):
            parts = parts.set(drivername="postgresql+pg8000")
        if parts.get_backend_name() == "sqlite":
            folder.mkdir(parents=True, exist_ok=True)
            engine = create_engine(parts, connect_args={"timeout": _PATIENCE})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = create_engine(parts, pool_pre_ping=True)
    except Exception as error:
        raise UsageError(
            f"{_named(url)} is not a database that can be used: {error}.",
            "Set MONDEGREEN_DATABASE_URL to postgresql://user:password@host/name, or unset it for SQLite in var/.",
        ) from None
    try:
        _make_tables(engine, folder)
    except DBAPIError as error:
        raise CaseError(
            f"The database {_named(url)} cannot be opened: {_said(error)}.",
            _BACKUP,
        ) from error
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session that is committed at the end, or rolled back; when this returns, what was written is on the disk.

    Raises:
        CaseError: the database refuses: the disk is full, it is locked for too long, it went away.
    """
    with _refusals(_AGAIN), Session(engine) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads: one moment's view of the database, which waits for no writer.

    Raises:
        CaseError: the database is damaged, or it went away.
    """
    snapshot: dict[str, Any] = (
        {"begin": "DEFERRED"} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    )
    with _refusals(_BACKUP), Session(engine.execution_options(**snapshot)) as session:
        yield session


@contextmanager
def _refusals(next_step: str) -> Iterator[None]:
    """Turns what the world does to a database into CaseError; a wrong statement is our own fault and stays as it is."""
    try:
        yield
    except DBAPIError as error:
        state = _fields(error).get("C", "")
        ours = isinstance(error, (DataError, IntegrityError, ProgrammingError))
        if state[:2] in _OUR_FAULTS if state else ours:
            raise
        raise CaseError(f"The database refused: {_said(error)}.", next_step) from error


def _fields(error: DBAPIError) -> dict[str, str]:
    """What PostgreSQL says of an error (C: its SQLSTATE, M: its message): pg8000 has one class for nearly all."""
    first = error.orig.args[0] if error.orig and error.orig.args else None
    return first if isinstance(first, dict) else {}


def _said(error: DBAPIError) -> str:
    return _fields(error).get("M") or str(error.orig)


def upserting(session: Session, table: type[Table]) -> "sqlite.Insert":
    """An INSERT that may say what happens ON CONFLICT; both databases spell it the same."""
    from sqlalchemy.dialects import postgresql, sqlite  # a twentieth of a second that only writers need

    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return cast("sqlite.Insert", dialect.insert(plain(table)))


def plain(table: type[Table]) -> TableClause:
    """The table itself: statements on it skip the ORM's bookkeeping, which takes longer than the database does."""
    return cast(TableClause, table.__table__)


def _make_tables(engine: Engine, folder: Path) -> None:
    if engine.dialect.name == "sqlite":
        with lock(folder / ".schema.lock"), engine.begin() as connection:
            Table.metadata.create_all(connection)
            _check_version(connection)
    else:
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})
            Table.metadata.create_all(connection)
            _check_version(connection)


def _check_version(connection: Any) -> None:
    found = connection.execute(select(SchemaRow.version)).scalar()
    if found is None:
        connection.execute(insert(SchemaRow).values(version=SCHEMA))
    elif found != SCHEMA:
        raise CaseError(
            f"The database has schema {found}, this version of mondegreen knows {SCHEMA}.",
            "Use the version of mondegreen that made it, or start an empty database.",
        )


def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Readers beside a writer (WAL), durable commits, and transactions that begin when we say so."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_PATIENCE * 1000}",
        f"cache_size=-{_CACHE}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    """IMMEDIATE: two that read first and write later would otherwise fail at the write, without waiting."""
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'IMMEDIATE')}")


def _named(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except Exception:
        return "MONDEGREEN_DATABASE_URL"
