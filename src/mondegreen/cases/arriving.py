"""Corrections that arrive in a file, beside those of the store: which are new, and which come too late to count."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from sqlalchemy import select
from sqlalchemy.orm import Session

from mondegreen.cases.queries import active_corrections, current_correction, review_holds
from mondegreen.cases.records import LATE, PEOPLE, preferred
from mondegreen.cases.sent_cases import SentCase, SentCorrection
from mondegreen.tables import CorrectionRow, ReviewDecisionRow


def compared(
    session: Session, batch: Sequence[tuple[str, SentCase]], author: str
) -> tuple[list[tuple[str, SentCorrection]], dict[str, str]]:
    """The corrections that the store lacks, in the file's order; and by case the text that it has without a time.

    The same words in the same moment twice are two corrections. One without a time is compared with what the file's
    others leave over of the history: `aaa` behind `aaa`, `bbb` goes back to the first.
    """
    query = select(CorrectionRow).where(CorrectionRow.case_id.in_([key for key, _ in batch]))
    rows = session.scalars(query.order_by(CorrectionRow.case_id))
    stored = {key: list(found) for key, found in groupby(rows, lambda row: row.case_id)}
    missing, repeated = list[tuple[str, SentCorrection]](), dict[str, str]()
    for key, case in batch:
        sent = [item if item.author else item.model_copy(update={"author": author}) for item in case.corrections]
        there = Counter(_facts(row) for row in stored.get(key, []))
        left = there - Counter(_facts(item) for item in sent if item.at)
        for (text, method, writer, _), number in left.items():
            there[text, method, writer, None] += number
        for item in sent:
            if not there[_facts(item)]:
                missing.append((key, item))
                continue
            there[_facts(item)] -= 1
            if not item.at and item is preferred(sent):
                repeated[key] = item.transcript
    return missing, repeated


def _facts(item: CorrectionRow | SentCorrection) -> tuple[str, str, str, datetime | None]:
    return item.transcript, item.method, item.author, item.at


def superseded_texts(session: Session, texts: Mapping[str, str]) -> list[str]:
    """The cases in which another text counts, or none."""
    active, held = active_corrections(session, texts.keys()), review_holds(session, texts)
    current = {key: current_correction(history, held.get(key)) for key, history in active.items()}
    return [key for key, text in texts.items() if not (found := current.get(key)) or found.transcript != text]


def dated(session: Session, missing: Sequence[tuple[str, SentCorrection]]) -> list[tuple[str, SentCorrection]]:
    """Marks the corrections that are older than the one that counts, or than the decision of a review that keeps the
    case's from counting, so that they join the history and no more."""
    keys = {key for key, _ in missing}
    active, held = active_corrections(session, keys), _held_since(session, keys)
    counting = {key: preferred(history) for key, history in active.items()}

    def is_late(key: str, sent: SentCorrection) -> bool:
        current, decided = counting.get(key), held.get(key)
        same_kind = current is not None and (current.method in PEOPLE) == (sent.method in PEOPLE)
        newest = [current.at] if current and same_kind else []
        newest += [decided] if decided and sent.method in PEOPLE else []  # a machine's never counts there
        return bool(sent.at and newest and sent.at < max(newest))

    marked = []
    for key, sent in missing:
        metadata = {name: value for name, value in sent.metadata.items() if name != LATE}  # of another store's history
        more = {LATE: True} if is_late(key, sent) else {}
        marked.append((key, sent.model_copy(update={"metadata": metadata | more})))
    return marked


def _held_since(session: Session, case_ids: Iterable[str]) -> dict[str, datetime]:
    """When the newest decision that stands was made of each case that a review keeps from counting."""
    undone = select(ReviewDecisionRow.undoes).where(ReviewDecisionRow.undoes.is_not(None))
    query = select(ReviewDecisionRow.case_id, ReviewDecisionRow.at).where(
        ReviewDecisionRow.case_id.in_(review_holds(session, case_ids)),
        ReviewDecisionRow.action.not_in(("skip", "undo")),
        ReviewDecisionRow.id.not_in(undone),
    )
    return {row.case_id: row.at for row in session.execute(query.order_by(ReviewDecisionRow.id))}
