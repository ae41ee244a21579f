"""Opening the database of live state: SQLite (WAL) in a local folder, or PostgreSQL."""

import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from filelock import Timeout
from sqlalchemy import URL, Connection, Engine, TableClause, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from mondegreen.errors import CaseError, StoreAwayError, UsageError
from mondegreen.files import lock
from mondegreen.tables import REVISION, SCHEMA, VERSION_TABLE, TableBase

if TYPE_CHECKING:
    from sqlalchemy.dialects import sqlite

_BATCH = 500  # rows of one statement
Item = TypeVar("Item")
_PATIENCE = 60  # seconds that a writer waits for another one
_CONNECTING, _TRIES = 4, 2  # seconds for a connection to PostgreSQL, and how often it is tried: less than 10 s in all
_SILENCE = 300  # seconds that a statement may take on PostgreSQL before its server counts as gone
_CACHE = 65_536  # KiB at most: ids are random, so that a large store writes all over its indexes
_STARTING = "57P03"  # SQLSTATE cannot_connect_now
_OUR_FAULTS = ("22", "23", "42")  # SQLSTATE classes: wrong data, a broken constraint, a wrong statement
_AGAIN = "Nothing of this step was kept. Make room on the disk, or wait for the other writer, and run it again."
_UNSURE = "Whether this step was kept nobody knows: look first, and run it again where it was not."
_BACKUP = "Check that it runs and that you may write to it; a damaged SQLite file comes back from a backup."
_log = logging.getLogger(__name__)


class Advisory(IntEnum):
    """The keys of PostgreSQL's advisory locks: any numbers of our own."""

    SCHEMA = 0x6D6F6E64
    JOB_REQUEST = 0x6D6F6E65
    ROUND = 0x6D6F6E66
    REGISTRY = 0x6D6F6E72


def database_url(folder: Path) -> str:
    """MONDEGREEN_DATABASE_URL when set, else the SQLite file in `folder`."""
    return os.environ.get("MONDEGREEN_DATABASE_URL") or sqlite_url(folder / "mondegreen.db")


def sqlite_url(file: Path) -> str:
    """The URL of an SQLite file, whatever characters its path has: `?`, `#` and `%20` mean something in a URL.

    Where they are quoted it names the driver, too: of `sqlite:///` and a path MLflow makes the parent as it is written,
    which is another folder then.
    """
    url = URL.create("sqlite", database=str(file)).render_as_string()
    return url if url == f"sqlite:///{file}" else url.replace("sqlite:", "sqlite+pysqlite:", 1)


def open_database(folder: Path) -> Engine:
    """Connects to `database_url(folder)`; makes the tables of a new database and upgrades those of an old one.

    Raises:
        UsageError: see `connect`.
        CaseError: the database cannot be reached, is damaged, or was made by a newer version.
    """
    engine = connect(folder)
    try:
        if not _is_current(engine):
            _upgrade(engine, folder)
    except (DBAPIError, ConnectionError, TimeoutError) as error:
        raise CaseError(
            f"The database {_named(database_url(folder))} cannot be opened: {_said(error)}.",
            _BACKUP,
        ) from error
    return engine


def connect(folder: Path) -> Engine:
    """Like `open_database`, but leaves the tables as they are: none, old ones, newer ones.

    Raises:
        UsageError: the URL is wrong, or no folder can be where SQLite's file is to be.
    """
    url = database_url(folder)
    try:
        parts = make_url(url)
        if parts.drivername in ("postgresql", "postgres"):
            parts = parts.set(drivername="postgresql+pg8000")
        if parts.get_backend_name() != "sqlite":
            # A broken connection is said in a sentence where it matters; the pool would add a traceback.
            logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
            engine = create_engine(parts, pool_pre_ping=True, connect_args={"timeout": _CONNECTING})
            event.listen(engine, "do_connect", _connect_postgresql)
            return engine
        engine = create_engine(parts, connect_args={"timeout": _PATIENCE})
    except Exception as error:
        raise UsageError(
            f"{_named(url)} is not a database that can be used: {error}.",
            "Set MONDEGREEN_DATABASE_URL to postgresql://user:password@host/name, or unset it for SQLite in var/.",
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} of the database cannot be made: {error.strerror}.",
            "Name a folder that is there or can be made (`--store`), or see what stands in its way.",
        ) from None
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """A session that is committed at the end, or rolled back; when this returns, what was written is on the disk.

    Raises:
        CaseError: the database refuses: the disk is full, it is locked for too long, it went away. Where that was
            between the commit and its answer, the message says that nobody knows.
        DatabaseAwayError: of these, whatever is no fault of what was to be written.
    """
    with _session(engine) as session:
        with _refusals(_AGAIN):
            yield session
            session.flush()
        with _refusals(_AGAIN, _UNSURE):
            session.commit()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads: one moment's view of the database, which waits for no writer.

    Raises:
        CaseError: the database is damaged, or it went away.
    """
    snapshot: dict[str, Any] = (
        {"begin": "DEFERRED"} if engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
    )
    with _session(engine.execution_options(**snapshot)) as session, _refusals(_BACKUP):
        yield session


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    """Closed whatever has become of its connection: what broke is said by who used it."""
    session = Session(engine)
    try:
        yield session
    finally:
        try:
            session.close()
        except Exception:
            session.invalidate()


class DatabaseAwayError(StoreAwayError):
    """The database takes nothing just now, whatever it is given."""


@contextmanager
def _refusals(next_step: str, gone: str = "") -> Iterator[None]:
    """Turns what the world does to a database into CaseError; a wrong statement is our own fault and stays as it is.

    Args:
        gone: the next step where the connection broke, if another one.
    """
    try:
        yield
    except (ConnectionError, TimeoutError) as error:  # pg8000 hands on what a socket raises
        raise DatabaseAwayError(f"The database went away: {_said(error)}.", gone or next_step) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseAwayError(f"The database went away: {_said(error)}.", gone or next_step) from error
        state = _fields(error).get("C", "")
        ours = isinstance(error, (DataError, IntegrityError, ProgrammingError))
        if state[:2] in _OUR_FAULTS if state else ours:
            raise
        raise DatabaseAwayError(f"The database refused: {_said(error)}.", next_step) from error
    except Exception as error:
        if type(error).__module__ != "pg8000.exceptions":
            raise
        # SQLAlchemy hands on what breaks while it makes a connection ready.
        raise DatabaseAwayError(f"The database went away: {error}.", gone or next_step) from error


def _fields(error: BaseException | None) -> dict[str, str]:
    """What PostgreSQL says of an error (C: its SQLSTATE, M: its message): pg8000 has one class for nearly all."""
    raised = error.orig if isinstance(error, DBAPIError) else error
    first = raised.args[0] if raised and raised.args else None
    return first if isinstance(first, dict) else {}


def _said(error: Exception) -> str:
    if isinstance(error, DBAPIError):
        return _fields(error).get("M") or str(error.orig)
    return str(error) or type(error).__name__


def upserting(session: Session, table: type[TableBase]) -> "sqlite.Insert":
    """An INSERT that may say what happens ON CONFLICT; both databases spell it the same."""
    from sqlalchemy.dialects import postgresql, sqlite  # a twentieth of a second that only writers need

    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return cast("sqlite.Insert", dialect.insert(plain(table)))


def plain(table: type[TableBase]) -> TableClause:
    """The table itself: statements on it skip the ORM's bookkeeping, which takes longer than the database does."""
    return cast(TableClause, table.__table__)


@contextmanager
def advisory_lock(engine: Engine, key: Advisory, patience: float = 0.0) -> Iterator[bool]:
    """PostgreSQL's lock between machines, which lives as long as its connection; SQLite's machine has its files' locks.

    No transaction is open meanwhile. A lock whose connection broke before the work ended is said in the log.

    Args:
        patience: seconds to wait for somebody else.

    Yields:
        Whether we have it.

    Raises:
        CaseError: the database went away while we asked for it.
    """
    if engine.dialect.name != "postgresql":
        yield True
        return
    with _refusals(_BACKUP):
        opened = engine.connect()
    with opened.execution_options(isolation_level="AUTOCOMMIT") as connection:
        deadline = time.monotonic() + patience
        while not _asked(connection, "SELECT pg_try_advisory_lock(:key)", key):
            if time.monotonic() >= deadline:
                yield False
                return
            time.sleep(0.05)
        try:
            yield True
        finally:
            try:
                _asked(connection, "SELECT pg_advisory_unlock(:key)", key)
            except CaseError as error:
                _log.warning("The lock %s was lost before the work ended. %s", key.name, error.problem)


def _asked(connection: Connection, query: str, key: Advisory) -> bool:
    with _refusals(_BACKUP):
        return bool(connection.scalar(text(query), {"key": key}))


def take_turns(connection: Connection, key: Advisory) -> None:
    """Waits until no other transaction has the key, and keeps it to this one's end; SQLite's writers do so anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _is_current(engine: Engine) -> bool:
    """Whether the database has the tables of today: one read, without a lock and without Alembic."""
    file = Path(engine.url.database or "")
    if (
        engine.dialect.name == "sqlite"
        and "uri" not in engine.url.query
        and not (file.is_file() and file.stat().st_size)
    ):
        return False  # a look would make the file, or disturb whoever is making it
    query = text(f"SELECT version, version_num FROM schema_version, {VERSION_TABLE}")
    try:
        with engine.execution_options(begin="DEFERRED").connect() as connection:
            return connection.execute(query).all() == [(SCHEMA, REVISION)]
    except (OperationalError, ProgrammingError):  # a table is missing; what else may be wrong shows when it is made
        return False


def _upgrade(engine: Engine, folder: Path) -> None:
    """One process at a time; when several want to, the others find it done."""
    from mondegreen import schema  # with Alembic: a quarter of a second that a database of today does not need

    alone = lock(folder / ".schema.lock") if engine.dialect.name == "sqlite" else nullcontext()
    try:
        with alone, engine.execution_options(foreign_keys="OFF").begin() as connection:
            take_turns(connection, Advisory.SCHEMA)
            done = schema.upgrade(connection)
        if done:
            _log.warning(done)
    except Timeout:
        raise CaseError(
            "Somebody else has been upgrading the database for ten minutes.", "Wait for it to end."
        ) from None
    finally:
        engine.dispose()  # of the connection without foreign keys


def _connect_postgresql(dialect: Any, _: Any, args: list[Any], options: dict[str, Any]) -> Any:
    """A connection, or the driver's error whatever the other side is: silent, resetting, restarting, no database."""
    for left in reversed(range(_TRIES)):
        try:
            connection = dialect.connect(*args, **options)
            connection._usock.settimeout(_SILENCE)  # the short one was for connecting
            return connection
        except Exception as error:
            known = isinstance(error, dialect.dbapi.Error)
            if not left or (known and _fields(error).get("C", "") not in ("", _STARTING)):
                raise error if known else dialect.dbapi.InterfaceError(f"{type(error).__name__}: {error}") from None
            time.sleep(1)
    raise AssertionError("unreachable")


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
    options = connection.get_execution_options()
    if "foreign_keys" in options:  # SQLite takes it between transactions only
        connection.exec_driver_sql(f"PRAGMA foreign_keys={options['foreign_keys']}")
    connection.exec_driver_sql(f"BEGIN {options.get('begin', 'IMMEDIATE')}")


def _named(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except Exception:
        return "MONDEGREEN_DATABASE_URL"


def batched(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many at once as one statement takes."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch
