"""What a language model suggested for a case, and what the guards said to it. Append-only; no suggestion is a label."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from mondegreen.cases.tables import NUMBER, Table


class SuggestionRow(Table):
    """One suggestion for one case. An accepted one is in `corrections` too, of the method llm."""

    __tablename__ = "suggestions"
    __table_args__ = (Index("suggestions_by_case", "case_id", "id"),)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"))
    at: Mapped[datetime]
    text: Mapped[str]
    model: Mapped[str]  # as the server names it
    digest: Mapped[str]  # of its weights
    prompt_version: Mapped[str] = mapped_column(String(64))
    accepted: Mapped[bool]
    guard: Mapped[str]  # the one that decided: edits, vocabulary, sound, acoustic, …
    reason: Mapped[str]  # in words, for the person who decides next
