"""The ledger of deployments: who moved which version where, when and why. Appended to, never changed.

Aliases are in MLflow, the ledger is in the database of live state, and no transaction spans both. So a move is written
down before it is made (`intend`) and again when it is made (`end`); what a crash leaves open, `recovery` settles by
the alias, which is the truth.
"""

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, func, select

from mondegreen.db import open_database, reading, transaction
from mondegreen.git import login
from mondegreen.registry.mlflow_store import shown, tracking_uri
from mondegreen.tables import DeploymentRow, InferenceRow

CHAMPION, CHALLENGER, PREVIOUS = ALIASES = "champion", "challenger", "previous"
State = Literal["intended", "done", "undone"]
Aliases = dict[str, int]


class LedgerEntry(BaseModel):
    """A row of the ledger."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    id: int
    at: datetime
    model_name: str
    action: str  # found, register, deploy, rollback, by hand, moved, prune, restore, delete, canary start, …stop
    state: State
    intent: int | None
    version: int | None
    former: int | None
    who: str
    reason: str
    forced: bool
    outcome: str
    digest: str
    details: dict[str, Any]

    @property
    def after(self) -> Aliases:
        """Who holds which alias once the entry is done."""
        return dict(self.details.get("after", {}))

    @property
    def before(self) -> Aliases:
        """Who held which alias before."""
        return dict(self.details.get("before", {}))


@dataclass(frozen=True)
class Succession:
    """Who was in production one after the other, without those that were rolled back from."""

    reigns: tuple[int | None, ...]  # the last one is champion; None where nobody was
    fallen: frozenset[int]  # rolled back from, and not deployed again since
    served: frozenset[int]  # everybody who ever was champion

    def targets(self) -> list[int]:
        """Where rollback leads, nearest first."""
        away = {None, *self.reigns[-1:], *self.fallen}
        earlier = dict.fromkeys(reversed(self.reigns[:-1]))  # each once
        return [version for version in earlier if version is not None and version not in away]


class Ledger:
    """The ledger of one registered model.

    Args:
        engine: the database of live state.
    """

    def __init__(self, engine: Engine, model_name: str) -> None:
        self.engine, self.model_name = engine, model_name

    @classmethod
    def open(cls, folder: Path, model_name: str) -> "Ledger":
        """The ledger in the live state of `folder`. Raises CaseError when the database cannot be opened."""
        return cls(open_database(folder), model_name)

    def intend(self, action: str, version: int, **fields: Any) -> LedgerEntry:
        """Writes down a move before anything of it is made.

        Args:
            fields: details, former, who, reason, forced, outcome, digest.

        Raises:
            CaseError: the database refuses.
        """
        return self._append(action, version, "intended", **fields)

    def end(self, intent: LedgerEntry, state: State, note: str = "") -> LedgerEntry:
        """Writes down what became of an intended move. Raises CaseError."""
        fields = intent.model_dump(include={"former", "who", "reason", "forced", "outcome", "digest"})
        details = intent.details | ({"note": note} if note else {})
        return self._append(intent.action, intent.version, state, intent=intent.id, details=details, **fields)

    def note(self, action: str, version: int | None, **fields: Any) -> LedgerEntry:
        """Writes down what has happened already, with the fields of `intend`. Raises CaseError."""
        return self._append(action, version, "done", **fields)

    def everything(self) -> list[LedgerEntry]:
        """Every row, oldest first: in the order of their numbers, whatever the clock said."""
        query = select(DeploymentRow).where(DeploymentRow.model_name == self.model_name).order_by(DeploymentRow.id)
        with reading(self.engine) as session:
            return [LedgerEntry.model_validate(row) for row in session.scalars(query)]

    def entries(self) -> list[LedgerEntry]:
        """What was done, oldest first."""
        return [entry for entry in self.everything() if entry.state == "done"]

    def unfinished(self) -> list[LedgerEntry]:
        """Moves that were intended and of which nobody knows the end."""
        rows = self.everything()
        ended = {row.intent for row in rows}
        return [row for row in rows if row.state == "intended" and row.id not in ended]

    def last(self, *actions: str) -> LedgerEntry | None:
        """The newest of what was done; of these actions when any are named."""
        query = select(DeploymentRow).where(DeploymentRow.model_name == self.model_name, DeploymentRow.state == "done")
        query = query.where(DeploymentRow.action.in_(actions)) if actions else query
        with reading(self.engine) as session:
            row = session.scalar(query.order_by(DeploymentRow.id.desc()).limit(1))
            return LedgerEntry.model_validate(row) if row else None

    def aliases(self) -> Aliases | None:
        """Who held which alias after the last entry; None before the first one."""
        last = self.last()
        return last.after if last else None

    def succession(self) -> Succession:
        """Who was in production, from the entries."""
        return succession(self.entries())

    def when_gone(self) -> str:
        """What to do where the registry is not there any more: go where it was moved to, else put it back."""
        moved = self.last("moved")
        if moved and (to := moved.details["to"]) != shown(tracking_uri()):
            return f"It was moved: export MLFLOW_TRACKING_URI={to}."
        return "Put it back from a backup of mlruns/; the files of deployed models are in var/backups."

    def last_inference(self) -> int:
        """The number of the newest inference, so that what comes later can be told without a clock."""
        with reading(self.engine) as session:
            return session.scalar(select(func.max(InferenceRow.id))) or 0

    def _append(self, action: str, version: int | None, state: State, **known: Any) -> LedgerEntry:
        fields = {"intent": None, "former": None, "who": "", "reason": "", "forced": False, "outcome": "", "digest": ""}
        row = DeploymentRow(
            at=datetime.now(UTC),
            model_name=self.model_name,
            action=action,
            version=version,
            state=state,
            **fields | known | {"who": known.get("who") or author()},
        )
        with transaction(self.engine) as session:
            session.add(row)
            session.flush()
            return LedgerEntry.model_validate(row)


def succession(entries: list[LedgerEntry]) -> Succession:
    """Follows the champion through the entries: a rollback goes back along the line, anything else goes on.

    A rollback to one that left the line, as it was rolled back from itself, goes on too: those before it stay.
    """
    reigns: list[int | None] = []
    fallen: set[int | None] = set()
    served: set[int | None] = set()
    for entry in entries:
        now = entry.after.get(CHAMPION)
        served.add(now)
        top = reigns[-1] if reigns else None
        if now == top:
            continue
        if not reigns and PREVIOUS in entry.after and entry.action == "found":  # all that the registry remembers
            reigns.append(entry.after[PREVIOUS])
            served.add(entry.after[PREVIOUS])
        if entry.action == "rollback":
            fallen.add(top)
            while now in reigns and reigns[-1] != now:
                reigns.pop()
        if not reigns or reigns[-1] != now:
            reigns.append(now)
        fallen.discard(now)
    return Succession(tuple(reigns), _versions(fallen), _versions(served))


def _versions(found: set[int | None]) -> frozenset[int]:
    return frozenset(version for version in found if version is not None)


def author() -> str:
    """Who runs this, for the ledger: user@host."""
    return f"{login() or f'uid {os.getuid()}'}@{socket.gethostname()}"
