"""What an erasure is about, and what was erased before.

From a case, a speaker, a caller or an age to the cases and recordings that go. What went is known again by its digest:
a late answer that is replayed stays away, an import is told.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Engine, func, or_, select
from sqlalchemy.orm import Session

from mondegreen.cases import queries
from mondegreen.config import RetentionDays
from mondegreen.db import batched, plain, reading
from mondegreen.speech.splits import speaker_key
from mondegreen.tables import (
    CaseRow,
    CorrectionRow,
    ErasedSubjectRow,
    ErasureRow,
    InferenceRow,
    ReviewDecisionRow,
    SuggestionRow,
)

What = Literal["case", "speaker", "caller", "older_than", "expired"]
_CHANNELS = 32  # what was computed from one channel of a recording is kept under a digest of its own
Subject = Literal["case", "audio", "speaker", "caller"]
JOURNAL = "erasure.json"  # in the folder of live state, while an erasure is under way


class Wanted(NamedTuple):
    """What somebody asks to be erased. `value`: the case, the speaker or the caller; `before`: of older_than."""

    what: What
    value: str = ""
    before: datetime | None = None


class ErasedCases(BaseModel):
    """What is erased. `inferences` only counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: What
    cases: tuple[str, ...] = ()  # ids
    recordings: tuple[str, ...] = ()  # sha256
    silenced: tuple[str, ...] = ()  # cases that lose their recording and keep their texts
    muted: tuple[str, ...] = ()  # the recordings of these
    speaker: str = ""
    spellings: tuple[str, ...] = ()  # in which the store has the speaker
    caller: str = ""
    before: AwareDatetime | None = None  # inferences of an earlier time go
    inferences: int = 0

    @property
    def aged(self) -> bool:
        """Whether it goes for its age, so that younger inferences of the same recording stay."""
        return self.what in ("older_than", "expired")

    @property
    def empty(self) -> bool:
        """Whether the store has nothing of it."""
        return not (self.cases or self.recordings or self.silenced or self.inferences)

    def names(self, what: Literal["speaker", "caller"]) -> tuple[str, ...]:
        """The speaker's or the caller's, in every spelling that is known."""
        given = (self.speaker, *self.spellings) if what == "speaker" else (self.caller,)
        return tuple(dict.fromkeys(name for name in given if name))


def person_key(name: str) -> str:
    """Under which a speaker is one person, as for the splits: whoever asks may write "Zoe" where a table has "zoe"."""
    return speaker_key(name.strip())


def digests_of(recordings: Collection[str]) -> set[str]:
    """Under which something of recordings may be kept: of their bytes, and of each of their channels."""
    channels = range(1, _CHANNELS + 1)
    return {
        *recordings,
        *(hashlib.sha256(f"{sha256}#{number}".encode()).hexdigest() for sha256 in recordings for number in channels),
    }


def select_for_erasure(session: Session, wanted: Wanted, days: RetentionDays, now: datetime) -> ErasedCases:
    """What the store holds of it. Raises CaseError for an unknown case."""
    if wanted.what == "expired":
        return _expired(session, days, now)
    if wanted.what == "older_than":
        assert wanted.before
        cases = set(session.scalars(select(CaseRow.id).where(CaseRow.last_seen < wanted.before)))
        return _aged(session, ErasedCases(what="older_than", cases=tuple(sorted(cases)), before=wanted.before))
    if wanted.what == "case":
        cases, recordings = {queries.get_case(session, wanted.value).id}, set[str]()
        whose: dict[str, Any] = {}
    else:
        written, column = CaseRow.details[wanted.what].as_string(), plain(InferenceRow).c[wanted.what]
        whose = {wanted.what: wanted.value}
        names = {wanted.value}
        if wanted.what == "speaker":
            names = _spellings(session, written, wanted.value) | _spellings(session, column, wanted.value)
            whose["spellings"] = tuple(sorted(names))
        cases = set(session.scalars(select(CaseRow.id).where(func.trim(written).in_(names))))
        recordings = set(session.scalars(select(InferenceRow.audio_sha256).where(column.in_(names)).distinct()))
    cases, recordings = _whole(session, cases, recordings)
    rows = sum(_count(session, InferenceRow.audio_sha256.in_(batch)) for batch in batched(sorted(recordings)))
    return ErasedCases(
        what=wanted.what, cases=tuple(sorted(cases)), recordings=tuple(sorted(recordings)), inferences=rows, **whose
    )


def _spellings(session: Session, column: ColumnElement[Any], speaker: str) -> set[str]:
    """The names in a column that are this speaker's."""
    names = session.scalars(select(column).where(column.is_not(None)).distinct())
    found = [name for name in names if person_key(name) == person_key(speaker)]
    return {*found, *(name.strip() for name in found)}


def _whole(session: Session, cases: set[str], recordings: set[str]) -> tuple[set[str], set[str]]:
    """With the same recordings' other cases, and the digests under which their channels were logged."""
    before = -1
    while before != len(cases) + len(recordings):
        before = len(cases) + len(recordings)
        for batch in batched(sorted(cases)):
            recordings |= set(session.scalars(select(CaseRow.audio_sha256).where(CaseRow.id.in_(batch))))
            of_them = or_(InferenceRow.case_id.in_(batch), InferenceRow.audit_id.in_(batch))
            recordings |= set(session.scalars(select(InferenceRow.audio_sha256).where(of_them)))
        for batch in batched(sorted(recordings)):
            cases |= set(session.scalars(select(CaseRow.id).where(CaseRow.audio_sha256.in_(batch))))
            kept = select(InferenceRow.case_id, InferenceRow.audit_id).where(InferenceRow.audio_sha256.in_(batch))
            cases |= {key for both in session.execute(kept) for key in both if key}
    return cases, recordings


def _expired(session: Session, days: RetentionDays, now: datetime) -> ErasedCases:
    limits = {name: now - timedelta(days=count) for name, count in days.model_dump().items() if count is not None}
    cases: set[str] = set()
    silenced: set[str] = set()
    if before := limits.get("texts"):
        cases = set(session.scalars(select(CaseRow.id).where(CaseRow.last_seen < before)))
    if before := limits.get("audio"):
        old = select(CaseRow.id).where(CaseRow.last_seen < before, CaseRow.audio_erased_at.is_(None))
        silenced = set(session.scalars(old)) - cases
    found = ErasedCases(what="expired", cases=tuple(sorted(cases)), silenced=tuple(sorted(silenced)))
    return _aged(session, found.model_copy(update={"before": limits.get("inferences")}))


def _aged(session: Session, found: ErasedCases) -> ErasedCases:
    """With its inferences counted, and with the recordings that no case needs any more."""
    recordings: set[str] = set()
    rows = 0
    if found.before:
        old = InferenceRow.at < found.before
        rows = _count(session, old)
        recordings = set(session.scalars(select(InferenceRow.audio_sha256).where(old).distinct()))
    going = {*found.cases, *found.silenced}
    for batch in batched(sorted(going)):
        recordings |= set(session.scalars(select(CaseRow.audio_sha256).where(CaseRow.id.in_(batch))))
    for batch in batched(sorted(recordings)):
        heard = CaseRow.audio_sha256.in_(batch), CaseRow.audio_erased_at.is_(None)
        having = session.execute(select(CaseRow.id, CaseRow.audio_sha256).where(*heard))
        recordings -= {sha256 for key, sha256 in having if key not in going}
    silenced: set[str] = set()  # those whose recording goes: a younger case of another model may need it still
    muted: set[str] = set()
    for batch in batched(found.silenced):
        for key, sha256 in session.execute(select(CaseRow.id, CaseRow.audio_sha256).where(CaseRow.id.in_(batch))):
            if sha256 in recordings:
                silenced.add(key)
                muted.add(sha256)
    more = {"recordings": tuple(sorted(recordings)), "muted": tuple(sorted(muted)), "inferences": rows}
    return found.model_copy(update=more | {"silenced": tuple(sorted(silenced))})


def _count(session: Session, where: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).select_from(InferenceRow).where(where)) or 0


def texts_of(session: Session, selection: ErasedCases) -> set[str]:
    """All that was heard and written in the cases that go, to find it on pages where no id stands beside it."""
    found: set[str | None] = set()
    for batch in batched(selection.cases):
        columns = CaseRow.original_transcript, CaseRow.corrected_transcript, CaseRow.details
        for heard, said, details in session.execute(select(*columns).where(CaseRow.id.in_(batch))):
            others = details.get("nbest")
            found |= {heard, said}
            found |= {one.get("text") for one in others if isinstance(one, dict)} if isinstance(others, list) else set()
        found |= set(session.scalars(select(CorrectionRow.transcript).where(CorrectionRow.case_id.in_(batch))))
        found |= set(session.scalars(select(SuggestionRow.text).where(SuggestionRow.case_id.in_(batch))))
        decided = select(ReviewDecisionRow.transcript).where(ReviewDecisionRow.case_id.in_(batch))
        found |= set(session.scalars(decided))
    return {written for written in found if written and written.strip()}


def dataset_versions_of(session: Session, selection: ErasedCases) -> list[int]:
    """The first dataset versions that hold the cases: what was trained from there on has learned from them."""
    found: set[int] = set()
    for batch in batched(selection.cases):
        query = select(CaseRow.dataset_version).where(CaseRow.id.in_(batch), CaseRow.dataset_version.is_not(None))
        found |= {number for number in session.scalars(query) if number is not None}
    return sorted(found)


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


AnsweredRow = TypeVar("AnsweredRow", bound=Answered)


def subject_digest(kind: Subject, value: str) -> str:
    """What stands for a case, a recording (by its sha256), a speaker or a caller in the record of erasures."""
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()


def erased_cases(session: Session, ids: Iterable[str]) -> dict[str, datetime]:
    """When each of these cases was last erased, by id; those that never were are left out."""
    return _erased(session, "case", ids)


def erased_recordings(session: Session, recordings: Iterable[str]) -> dict[str, datetime]:
    """The same of recordings, by sha256; age is no erasure of a recording, which other rows may need."""
    return _erased(session, "audio", recordings)


def _erased(session: Session, kind: Subject, values: Iterable[str]) -> dict[str, datetime]:
    by_digest = {subject_digest(kind, value): value for value in values}
    return {by_digest[digest]: at for digest, at in _last(session, by_digest).items()}


def without_erased(session: Session, answers: Sequence[AnsweredRow]) -> list[AnsweredRow]:
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
    digests = [subject_digest(kind, value) for kind, value in named.items() if value]
    return [*digests, subject_digest("speaker", person_key(answer.speaker))] if answer.speaker else digests


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


def overdue(engine: Engine, folder: Path, days: RetentionDays) -> dict[str, int]:
    """How much is older than retention_days allows: cases, recordings of cases that stay, inferences; and 1 for an
    erasure that was interrupted."""
    interrupted = {"interrupted": 1} if (folder / JOURNAL).is_file() else {}
    if days == RetentionDays():
        return interrupted
    with reading(engine) as session:
        found = select_for_erasure(session, Wanted("expired"), days, datetime.now(UTC))
    counts = {"cases": len(found.cases), "recordings": len(found.silenced), "inferences": found.inferences}
    return {name: count for name, count in counts.items() if count} | interrupted


def history(engine: Engine) -> list[dict[str, Any]]:
    """The record of erasures, newest first."""
    columns = ErasureRow.id, ErasureRow.at, ErasureRow.who, ErasureRow.reason, ErasureRow.what, ErasureRow.finished_at
    with reading(engine) as session:
        rows = session.execute(select(*columns, ErasureRow.counts).order_by(ErasureRow.id.desc()))
        return [dict(row._mapping) for row in rows]
