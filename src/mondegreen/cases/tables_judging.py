"""What judged a model and what became of it: looks at test sets, regression runs, deployments. Append-only."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mondegreen.cases.tables import NUMBER, Table


class TestSpendRow(Table):
    """One look of one candidate at one test set. The same candidate looking again is the same look. Appended only."""

    __tablename__ = "test_spend"
    __table_args__ = (UniqueConstraint("test_set", "candidate"), UniqueConstraint("family", "look"))

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    at: Mapped[datetime]
    test_set: Mapped[str] = mapped_column(String(64))  # digest over its ids and references
    family: Mapped[str] = mapped_column(String(64))  # digest of the first test set that most of its recordings were in
    members: Mapped[list[str]]  # ids of its recordings, in the first row of a test set; [] in the others
    candidate: Mapped[str] = mapped_column(String(64))  # digest of the model, or of what it heard
    baseline: Mapped[str] = mapped_column(String(64))
    look: Mapped[int]  # 1 for the first candidate on this family
    alpha: Mapped[float]  # what this look could spend when it was made


class RegressionRunRow(Table):
    """One run of the regression suites."""

    __tablename__ = "regression_runs"
    __table_args__ = (Index("regression_runs_by_model", "model_digest", "id"),)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    at: Mapped[datetime]
    model_version: Mapped[str]
    model_digest: Mapped[str] = mapped_column(String(64))  # "" when the caller gave only a function
    passed: Mapped[bool]
    reason: Mapped[str]
    results: Mapped[dict[str, Any]]  # RegressionResults


class DeploymentRow(Table):
    """One entry of the ledger: who moved which version where, when and why. Appended, never changed.

    A move has two rows: `intended` before anything is touched, then `done` or `undone`, which names the first one in
    `intent`. What needs no such care (a move by hand that was noticed) has one row, `done`.
    """

    __tablename__ = "deployments"
    __table_args__ = (Index("deployments_by_model", "model_name", "id"),)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)  # the order; a clock may be moved
    at: Mapped[datetime]
    model_name: Mapped[str]
    action: Mapped[str]  # register, deploy, rollback, by hand, …
    state: Mapped[str]  # intended, done, undone
    intent: Mapped[int | None] = mapped_column(unique=True)  # the row that this one ends
    version: Mapped[int | None]  # what was moved; None: nobody is champion any more
    former: Mapped[int | None]  # the champion before
    who: Mapped[str]
    reason: Mapped[str]
    forced: Mapped[bool]
    outcome: Mapped[str]  # of the verdict
    digest: Mapped[str]  # of the model
    details: Mapped[dict[str, Any]]
