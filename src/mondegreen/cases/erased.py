"""What was erased is known again by its digest: a late answer that is replayed stays away, an import is told."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mondegreen.db import batched
from mondegreen.tables import ErasedSubjectRow, ErasureRow

Subject = Literal["case", "audio", "speaker", "caller"]


class Answered(Protocol):
    """An answer that is to be written down."""

    @property
    def at(self) -> datetime: ...
    @property
    def audio_sha256(self) -> str: ...
    @property
    def speaker(self) -> str | None: ...
    @property
    def caller(self) -> str | None: ...


Answer = TypeVar("Answer", bound=Answered)


def subject_digest(kind: Subject, value: str) -> str:
    """What stands for a case, a recording (by its sha256), a speaker or a caller in the record of erasures."""
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()


def erased_cases(session: Session, ids: Iterable[str]) -> dict[str, datetime]:
    """When each of these cases was last erased, by id; those that never were are left out."""
    by_digest = {subject_digest("case", key): key for key in ids}
    return {by_digest[digest]: at for digest, at in _last(session, by_digest).items()}


def without_erased(session: Session, answers: Sequence[Answer]) -> list[Answer]:
    """The answers but those that were given before their recording, speaker, caller or time was erased."""
    subjects = [_subjects(answer) for answer in answers]
    erased = _last(session, {digest for mine in subjects for digest in mine})
    before = session.scalar(select(func.max(ErasureRow.before)))
    return [
        answer
        for answer, mine in zip(answers, subjects, strict=True)
        if not (before and answer.at < before) and all(answer.at > erased[one] for one in mine if one in erased)
    ]


def _subjects(answer: Answered) -> list[str]:
    named: Mapping[Subject, str | None] = {
        "audio": answer.audio_sha256,
        "speaker": answer.speaker,
        "caller": answer.caller,
    }
    return [subject_digest(kind, value) for kind, value in named.items() if value]


def _last(session: Session, digests: Iterable[str]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for batch in batched(digests):
        query = (
            select(ErasedSubjectRow.digest, func.max(ErasureRow.at))
            .join(ErasureRow, ErasureRow.id == ErasedSubjectRow.erasure_id)
            .where(ErasedSubjectRow.digest.in_(batch))
            .group_by(ErasedSubjectRow.digest)
        )
        found.update((digest, at) for digest, at in session.execute(query))
    return found
