"""Finding cases by their words, through an index of either database.

Texts are cut into words and folded here, so that both databases find the same: every word that is asked for, in upper
or lower case, must begin a word of the case.
"""

import re
import unicodedata
from collections.abc import Iterator

from sqlalchemy import ColumnElement, Select, select, text
from sqlalchemy.orm import Session, aliased

from mondegreen.cases.tables import TSVECTOR, CaseRow
from mondegreen.errors import UsageError

_LONGEST = 64  # characters of a word; PostgreSQL refuses 2 KiB
_FEW = 2_000  # cases that are soon looked at one by one
_RECENT = 5_000

# A table of cases, and the conditions that they pass there.
Place = tuple[type[CaseRow], list[ColumnElement[bool]]]


def words(*texts: str | None) -> str:
    """What is stored of a case: its distinct words, with a space before each."""
    found = dict.fromkeys(word for written in texts if written for word in _cut(written))
    return "".join(f" {word}" for word in found)


def places(session: Session, wanted: str, newest: Select[CaseRow] | None) -> Iterator[Place]:
    """Where to look for cases with these words, best first. Only the last place has them all.

    Args:
        newest: the cases in question, newest first; None when only all of them will do.

    Raises:
        UsageError: there is no word to look for.
    """
    asked = _cut(wanted)
    if not asked:
        raise UsageError(f"There is no word in {wanted!r}.", "Search for the beginnings of words.")
    if session.get_bind().dialect.name == "postgresql":
        query = " & ".join(f"'{word}':*" for word in asked)
        yield CaseRow, [text(f"{TSVECTOR} @@ CAST(:words AS tsquery)").bindparams(words=query)]  # type: ignore[list-item]
        return
    if newest is not None:  # a common word fills a page from these, while its index alone takes long to go through
        recent = aliased(CaseRow, newest.limit(_RECENT).subquery())
        yield recent, _scanned(recent, asked)
    found = _few(session, asked)
    if found is None:
        yield CaseRow, _scanned(CaseRow, asked)
    else:
        # The limit keeps SQLite from looking elsewhere first and for these among them.
        yield aliased(CaseRow, select(CaseRow).where(CaseRow.number.in_(found)).limit(_FEW).subquery()), []


def _scanned(row: type[CaseRow], asked: list[str]) -> list[ColumnElement[bool]]:
    return [row.words.contains(f" {word}", autoescape=True) for word in asked]


def _few(session: Session, asked: list[str]) -> list[int] | None:
    """Numbers of the cases with these words; None when they are many."""
    query = " AND ".join(f'"{word}"*' for word in asked)
    statement = text("SELECT rowid FROM case_words WHERE case_words MATCH :words LIMIT :most")
    found = list(session.scalars(statement, {"words": query, "most": _FEW + 1}))
    return found if len(found) <= _FEW else None


def _cut(written: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", written).casefold())
    return [word[:_LONGEST] for word in re.findall(r"[^\W_]+", folded)]
