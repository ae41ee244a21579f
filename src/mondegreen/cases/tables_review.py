"""What people decided about cases while reviewing. Decisions are append-only; holds and leases are what follows now."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from mondegreen.cases.tables import NUMBER, Table


class ReviewDecisionRow(Table):
    """One decision of one person about one case. To undo is a decision of its own, about an earlier one."""

    __tablename__ = "review_decisions"
    __table_args__ = (
        Index("review_decisions_by_case", "case_id", "id"),
        Index("review_decisions_by_reviewer", "reviewer", "id"),
        Index("review_decisions_by_action", "action", "correction_id"),
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"))
    reviewer: Mapped[str]
    at: Mapped[datetime]
    action: Mapped[str] = mapped_column(String(16))  # text, bad_audio, not_speech, skip, undo
    role: Mapped[str] = mapped_column(String(16))  # single, first, second, final; "" for skip and undo
    transcript: Mapped[str | None]  # of a text; "": nothing was said
    chosen: Mapped[str]  # where the text comes from: typed, heard, nbest, llm, reviewer
    seconds: Mapped[float | None]  # from when the case was shown
    after: Mapped[int]  # the case's newest correction then, 0 for none
    correction_id: Mapped[int | None] = mapped_column(ForeignKey("corrections.id"))  # what it became, or takes back
    undoes: Mapped[int | None] = mapped_column(ForeignKey("review_decisions.id"), unique=True)


class ReviewHoldRow(Table):
    """A case whose corrections up to `after` do not count, nor any machine's. Follows from its decisions."""

    __tablename__ = "review_holds"

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    reason: Mapped[str] = mapped_column(String(16), index=True)  # bad_audio, not_speech, second, disputed
    reviewer: Mapped[str]  # who decided last
    after: Mapped[int]


class ReviewLeaseRow(Table):
    """A case that somebody has open, so that nobody else is given it."""

    __tablename__ = "review_leases"

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64), index=True)  # the browser
    reviewer: Mapped[str]
    shown_at: Mapped[datetime | None]  # None: kept ready as the next one
    expires_at: Mapped[datetime]
