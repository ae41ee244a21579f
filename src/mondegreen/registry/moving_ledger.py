"""A move in the ledger; ledger, looks and backups of a registered model in the live state of another folder."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from mondegreen.db import database_url, open_database, reading, transaction
from mondegreen.errors import RegistryError
from mondegreen.registry.aliases import Registry
from mondegreen.registry.ledger import CHAMPION, Aliases, Ledger
from mondegreen.registry.package import Backups
from mondegreen.tables import DeploymentRow, RegressionRunRow, TableBase, TestSpendRow

Row = dict[str, Any]


def move_key(client: MlflowClient, name: str) -> str:
    """What tells a registered model, and so its move, from another one of its name."""
    born = f"{name}\0{client.get_registered_model(name).creation_timestamp}"
    return hashlib.sha256(born.encode()).hexdigest()[:16]


def enter_move(ledger: Ledger, key: str, held: Aliases, about: Mapping[str, object]) -> None:
    """The move in the ledger, once. One that has not begun begins in the new home, by who holds what there.

    Args:
        key: of the move.
        held: who holds which of our aliases.
        about: `from`, `to` and `runs`.
    """
    if ledger.last() and not _is_entered(ledger, key):
        _enter(ledger, held, {"move": key, **about})


def enter_return(ledger: Ledger, key: str, held: Aliases, about: Mapping[str, object]) -> None:
    """That a move was taken back, once, where the ledger knows of it; see `enter_move`."""
    if _is_entered(ledger, key):
        _enter(ledger, held, {"returned": key, **about})


def _is_entered(ledger: Ledger, key: str) -> bool:
    """Whether the ledger knows of a move that nobody took back since."""
    found = [entry for entry in ledger.entries() if key in (entry.details.get("move"), entry.details.get("returned"))]
    return bool(found) and "move" in found[-1].details


def _enter(ledger: Ledger, held: Aliases, details: Mapping[str, object]) -> None:
    champion = held.get(CHAMPION)
    reason = f"from {details['from']} to {details['to']}"
    ledger.note("moved", champion, former=champion, reason=reason, details={"before": held, "after": held, **details})


def same_state(folder: Path, other: Path) -> bool:
    """Whether two folders of live state share their database: then the ledger is there already."""
    return database_url(folder.absolute()) == database_url(other.absolute())


def copy_state(registry: Registry, other: Path) -> None:
    """The ledger of this model, every look at a test set, the runs of the suites, and the backups; again, what is new.

    All rows come in one transaction. Numbers of entries stay what they are where they are free, since canaries name
    theirs; else they are counted on from the last one.

    Raises:
        RegistryError: the other folder has a ledger of this model, or looks, that are not these.
        CaseError: the other database refuses.
    """
    with reading(registry.ledger.engine) as session:
        of_model = select(DeploymentRow).where(DeploymentRow.model_name == registry.name)
        entries = _rows(session, of_model.order_by(DeploymentRow.id), DeploymentRow)
        looks = _rows(session, select(TestSpendRow).order_by(TestSpendRow.id), TestSpendRow)
        runs = _rows(session, select(RegressionRunRow).order_by(RegressionRunRow.id), RegressionRunRow)
    engine = open_database(other)
    try:
        _write(engine, registry.name, entries, looks, runs)
    finally:
        engine.dispose()
    backups = Backups(other, registry.name)
    for version in registry.backups.versions():
        if not registry.backups.problems(version) and (record := registry.backups.read(version)):
            backups.make(version, registry.backups.package(version), record.files, record.digest)


def _write(engine: Engine, name: str, entries: list[Row], looks: list[Row], runs: list[Row]) -> None:
    with transaction(engine) as session:
        of_model = select(DeploymentRow).where(DeploymentRow.model_name == name)
        there = _rows(session, of_model.order_by(DeploymentRow.id), DeploymentRow)
        if [_plain(row) for row in there] != [_plain(row) for row in entries[: len(there)]]:
            raise RegistryError(
                f"The database there has a ledger of {name} that is another one.", "Name an empty folder of live state."
            )
        numbers = dict(zip((row["id"] for row in entries), (row["id"] for row in there), strict=False))
        last = session.scalar(select(func.max(DeploymentRow.id))) or 0
        for row in entries[len(there) :]:
            numbers[row["id"]] = last = max(last + 1, row["id"])
            session.add(DeploymentRow(**_renumbered(row, numbers)))
            session.flush()  # an entry names one before it
        _join(session, TestSpendRow, looks, ("test_set", "candidate"), ("family", "look"))
        _join(session, RegressionRunRow, runs, ("at", "model_digest"))


def _renumbered(row: Row, numbers: dict[int, int]) -> Row:
    """An entry with its number there, and those of the entries that it names."""
    details = dict(row["details"])
    if "started" in details:  # a canary's
        details["started"] = numbers.get(details["started"], details["started"])
    return row | {"id": numbers[row["id"]], "intent": row["intent"] and numbers[row["intent"]], "details": details}


def _join(
    session: Session, table: type[TableBase], rows: list[Row], key: Sequence[str], other: Sequence[str] = ()
) -> None:
    """Adds rows that are not there by their key.

    Args:
        other: fields that are unique as well: rows that share them and not the key count something else.
    """
    there = _rows(session, select(table), table)
    known, taken = ({tuple(row[name] for name in names) for row in there} for names in (key, other))
    for row in rows:
        if tuple(row[name] for name in key) in known:
            continue
        if other and tuple(row[name] for name in other) in taken:
            raise RegistryError(
                f"The database there has counted other looks at test set {row['test_set'][:12]}.",
                "Name an empty folder of live state: two counts of looks cannot be made one.",
            )
        session.add(table(**{name: value for name, value in row.items() if name != "id"}))


def _rows(session: Session, query: Any, table: type[TableBase]) -> list[Row]:
    columns = [column.name for column in table.__table__.columns]
    return [{name: getattr(row, name) for name in columns} for row in session.scalars(query)]


def _plain(row: Row) -> Row:
    """An entry without numbers, which may be other ones there."""
    left_out = ("id", "intent", "details")
    return {name: value for name, value in row.items() if name not in left_out}
