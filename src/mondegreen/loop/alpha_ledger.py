"""The ledger of looks: how many candidates a test set has judged, and what share of alpha the next one may spend.

Judge enough candidates on one test set and one of them passes by chance. So alpha is shared out over the looks: the
k-th may spend alpha * 6 / (pi^2 * k^2). The shares of any number of looks add up to no more than alpha, and so does the
chance (union bound) that any candidate which is no better passes. Sources: alpha spending over a sequence of hypotheses
in Foster & Stine, "Alpha-investing", JRSS B 2008, and Tian & Ramdas, "Online control of the familywise error rate",
Statistical Methods in Medical Research 2021; the series is Euler's.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from mondegreen.config import Params
from mondegreen.db import open_database, reading, transaction
from mondegreen.registry.mlflow_store import tracking_root
from mondegreen.scoring.decision import TestQuestion, decide
from mondegreen.scoring.paired_sets import PairedTestSets
from mondegreen.scoring.planning import share
from mondegreen.scoring.verdict import Look, Verdict
from mondegreen.tables import TestSpendRow

_FRESH = 0.5  # share of recordings that no look has seen, from which on a changed test set is a new one


class LookRecord(BaseModel):
    """A look as the ledger keeps it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    at: datetime
    family: str
    test_set: str
    candidate: str
    baseline: str
    look: int
    alpha: float


class LookLedger:
    """Counts looks in the database of live state. Two that look at once get different numbers."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def look(self, sets: PairedTestSets, alpha: float) -> Look:
        """The number and share of this candidate's look at this test set; writes only when it is the first time.

        A test set that changed goes on with the count of the former one unless at least half of its recordings are
        ones that no candidate was judged on: a corrected reference or ten new recordings make no fresh test set.

        Args:
            sets: which test set and which candidate.
            alpha: `validate.alpha`.

        Raises:
            CaseError: the database refuses.
        """
        candidate = sets.candidate_model or hypotheses_digest(sets)
        with reading(self.engine) as session:
            number = _known(session, sets.reference_digest, candidate)
        if number is None:
            with transaction(self.engine) as session:
                number = _enter(session, sets, candidate, alpha)
        return Look(number=number, before=number - 1, alpha=share(alpha, number))

    def history(self) -> list[LookRecord]:
        """Every look, oldest first."""
        with reading(self.engine) as session:
            rows = session.scalars(select(TestSpendRow).order_by(TestSpendRow.id))
            return [LookRecord.model_validate(row) for row in rows]


@contextmanager
def open_ledger(folder: Path | None = None) -> Iterator[LookLedger]:
    """The ledger in `folder`, or the project's: experiments in temporary folders share that of their workspace.

    Raises:
        CaseError: the database cannot be opened; without the count there is no verdict.
    """
    engine = open_database(folder or tracking_root() / "var")
    try:
        yield LookLedger(engine)
    finally:
        engine.dispose()


def judge(sets: PairedTestSets, params: Params, ledger: LookLedger, question: TestQuestion = "better") -> Verdict:
    """The verdict, with this look counted. A test set without a reference cannot be looked at."""
    look = ledger.look(sets, params.validate_.alpha) if sets.judging else None
    return decide(sets, params, look, question)


def hypotheses_digest(sets: PairedTestSets) -> str:
    """What stands for a candidate of which nobody knows the weights: its hypotheses on the test set."""
    lines = sorted(f"{row.hypothesis.id}\t{row.hypothesis.error}\t{row.text}\n" for row in sets.test.candidate)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _known(session: Session, test_set: str, candidate: str) -> int | None:
    return session.scalar(
        select(TestSpendRow.look).where(TestSpendRow.test_set == test_set, TestSpendRow.candidate == candidate)
    )


def _enter(session: Session, sets: PairedTestSets, candidate: str, alpha: float) -> int:
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(text("LOCK TABLE test_spend IN SHARE ROW EXCLUSIVE MODE"))
    test_set = sets.reference_digest
    if (number := _known(session, test_set, candidate)) is not None:
        return number  # somebody else entered it meanwhile
    members = [utterance.id for utterance in sets.judging]
    family, is_new = _family(session, test_set, members)
    number = 1 + (session.scalar(select(func.max(TestSpendRow.look)).where(TestSpendRow.family == family)) or 0)
    session.add(
        TestSpendRow(
            at=datetime.now(UTC),
            test_set=test_set,
            family=family,
            members=members if is_new else [],
            candidate=candidate,
            baseline=sets.baseline_model,
            look=number,
            alpha=share(alpha, number),
        )
    )
    return number


def _family(session: Session, test_set: str, members: Sequence[str]) -> tuple[str, bool]:
    """Which count a test set goes on with, and whether the ledger has yet to learn its members."""
    seen: dict[str, set[str]] = {}
    rows = session.execute(select(TestSpendRow.test_set, TestSpendRow.family, TestSpendRow.members))
    for known, family, ids in rows:
        if known == test_set:
            return family, False
        seen.setdefault(family, set()).update(ids)
    wanted = set(members)
    unseen = wanted.difference(*seen.values())
    if len(unseen) >= _FRESH * len(wanted):
        return test_set, True
    return max(sorted(seen), key=lambda family: len(seen[family] & wanted)), True
