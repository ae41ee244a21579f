"""Finding cases by their words, through an index of either database.

Texts are cut into words and folded here, so that both databases find the same: every word that is asked for, in upper
or lower case, must begin a word of the case.
"""

import re
import unicodedata

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.orm import Session, aliased

from mondegreen.cases.tables import TSVECTOR, CaseRow
from mondegreen.errors import UsageError

_LONGEST = 64  # characters of a word; PostgreSQL refuses 2 KiB
_FEW = 2_000


def words(*texts: str | None) -> str:
    """What is stored of a case: its distinct words, with a space before each."""
    found = dict.fromkeys(word for written in texts if written for word in _cut(written))
    return "".join(f" {word}" for word in found)


def matching(session: Session, wanted: str) -> tuple[type[CaseRow], list[ColumnElement[bool]]]:
    """Where to look for cases with these words, and the conditions that they pass there.

    Raises:
        UsageError: there is no word to look for.
    """
    asked = _cut(wanted)
    if not asked:
        raise UsageError(f"There is no word in {wanted!r}.", "Search for the beginnings of words.")
    if session.get_bind().dialect.name == "postgresql":
        query = " & ".join(f"'{word}':*" for word in asked)
        return CaseRow, [text(f"{TSVECTOR} @@ CAST(:words AS tsquery)").bindparams(words=query)]  # type: ignore[list-item]
    found = _few(session, asked)
    if found is None:  # so common that the newest cases soon give a page
        return CaseRow, [CaseRow.words.contains(f" {word}", autoescape=True) for word in asked]
    # The limit keeps SQLite from looking elsewhere first and for these among them.
    few = select(CaseRow).where(CaseRow.number.in_(found)).limit(_FEW).subquery()
    return aliased(CaseRow, few), []


def _few(session: Session, asked: list[str]) -> list[int] | None:
    """Numbers of the cases with these words; None when they are many."""
    query = " AND ".join(f'"{word}"*' for word in asked)
    statement = text("SELECT rowid FROM case_words WHERE case_words MATCH :words LIMIT :most")
    found = list(session.scalars(statement, {"words": query, "most": _FEW + 1}))
    return found if len(found) <= _FEW else None


def _cut(written: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", written).casefold())
    return [word[:_LONGEST] for word in re.findall(r"[^\W_]+", folded)]
