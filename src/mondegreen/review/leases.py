"""Who has which case open: several people, in several processes, and no case twice. The database decides."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Engine, delete, or_, select, update
from sqlalchemy.orm import Session

from mondegreen.cases.database import plain, reading, transaction, upserting
from mondegreen.cases.records import PEOPLE
from mondegreen.cases.tables import CaseRow
from mondegreen.cases.tables_review import ReviewHoldRow, ReviewLeaseRow


class Leases:
    """The cases that browsers have open.

    A lease that is not renewed ends by itself, so that a closed lid keeps no case from the others.

    Args:
        lasting: from when it was taken or renewed.
    """

    def __init__(self, engine: Engine, lasting: timedelta) -> None:
        self.engine, self.lasting = engine, lasting

    def take(self, case_id: str, holder: str, reviewer: str, *, shown: bool) -> bool:
        """Takes a case that waits for this reviewer; False when somebody else has it, or it waits no longer.

        Args:
            shown: to the reviewer now, from when the seconds are counted; False keeps it ready as the next one.
        """
        now = datetime.now(UTC)
        values = {
            "case_id": case_id,
            "holder": holder,
            "reviewer": reviewer,
            "shown_at": now if shown else None,
            "expires_at": now + self.lasting,
        }
        with transaction(self.engine) as session:
            # Whoever decides on it at this moment ends first.
            session.execute(select(CaseRow.id).where(CaseRow.id == case_id).with_for_update())
            if not waits(session, case_id, reviewer):
                return False
            known = plain(ReviewLeaseRow).c
            statement = (
                upserting(session, ReviewLeaseRow)
                .values(values)
                .on_conflict_do_update(
                    index_elements=["case_id"],
                    set_={name: values[name] for name in ("holder", "reviewer", "shown_at", "expires_at")},
                    where=or_(known.expires_at <= now, known.holder == holder),
                )
                .returning(known.case_id)
            )
            return session.scalar(statement) is not None

    def held(self, holder: str) -> list[ReviewLeaseRow]:
        """What a browser has, the case on its screen first."""
        query = select(ReviewLeaseRow).where(
            ReviewLeaseRow.holder == holder, ReviewLeaseRow.expires_at > datetime.now(UTC)
        )
        with reading(self.engine) as session:
            rows = list(session.scalars(query.order_by(ReviewLeaseRow.case_id)))
        return sorted(rows, key=lambda row: row.shown_at is None)

    def taken(self, holder: str) -> dict[str, str]:
        """The cases that others have open, and who they are."""
        query = select(ReviewLeaseRow.case_id, ReviewLeaseRow.reviewer).where(
            ReviewLeaseRow.holder != holder, ReviewLeaseRow.expires_at > datetime.now(UTC)
        )
        with reading(self.engine) as session:
            return {row.case_id: row.reviewer for row in session.execute(query)}

    def renew(self, holder: str) -> None:
        """Called by an open page from time to time."""
        expires = datetime.now(UTC) + self.lasting
        with transaction(self.engine) as session:
            mine = _locked(session, ReviewLeaseRow.holder == holder)
            session.execute(update(ReviewLeaseRow).where(ReviewLeaseRow.case_id.in_(mine)).values(expires_at=expires))

    def release(self, holder: str) -> None:
        """Lets everything go that a browser has, and what nobody has any more."""
        ended = or_(ReviewLeaseRow.holder == holder, ReviewLeaseRow.expires_at <= datetime.now(UTC))
        with transaction(self.engine) as session:
            session.execute(delete(ReviewLeaseRow).where(ReviewLeaseRow.case_id.in_(_locked(session, ended))))


def _locked(session: Session, condition: ColumnElement[bool]) -> list[str]:
    """Leases held until the transaction ends, without waiting for those that somebody else holds: no circle forms."""
    query = select(ReviewLeaseRow.case_id).where(condition).order_by(ReviewLeaseRow.case_id)
    return list(session.scalars(query.with_for_update(skip_locked=True)))


def waits(session: Session, case_id: str, reviewer: str) -> bool:
    """Whether a case waits for this reviewer."""
    return session.scalar(select(CaseRow.id).where(CaseRow.id == case_id, waits_for(reviewer))) is not None


def waits_for(reviewer: str) -> ColumnElement[bool]:
    """Of a case: that this reviewer may be asked. A person's correction ends that, and so does what holds it.

    A case that waits for its second person does not wait for the first.
    """
    others = select(ReviewHoldRow.case_id).where(
        or_(ReviewHoldRow.reason != "second", ReviewHoldRow.reviewer == reviewer)
    )
    return or_(CaseRow.label_method.is_(None), CaseRow.label_method.not_in(PEOPLE)) & CaseRow.id.not_in(others)
