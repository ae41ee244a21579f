"""The tables of live state: what arrives while the service lives. SQLite and PostgreSQL hold the same.

Whoever changes a table here raises SCHEMA and adds a migration to migrations/versions, which makes the same change to
the databases that are there (docs/cases.md, "The database grows").
"""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = 6  # the number of the newest migration
REVISION = f"{SCHEMA:04}"  # the same as Alembic's revision
VERSION_TABLE = "mondegreen_schema_version"  # where a database keeps its revision
# SQLite numbers rows by itself in an INTEGER column only.
NUMBER = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in, aware UTC datetimes out; SQLite keeps no time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None else None


_LONGEST_WORD = 64  # characters; PostgreSQL refuses 2 KiB
# The words of a case for PostgreSQL; a query must write it the same way to use the index.
TSVECTOR = "array_to_tsvector(string_to_array(trim(cases.words), ' '))"


_CORRECTED, _USED = text("label_method IS NOT NULL"), text("dataset_version IS NOT NULL")


class TableBase(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON(), list[str]: JSON()}  # noqa: RUF012


class CaseRow(TableBase):
    """A recording that a model misheard. The same audio and model again is the same case, seen once more."""

    __tablename__ = "cases"
    # One index a filter, each in the order that a list comes in: a page of a million cases is a page of an index. What
    # stands behind the id lets two filters be decided without a look at the case.
    __table_args__ = (
        Index("cases_by_time", "first_seen", "id"),
        Index("cases_by_model", "model_version", "first_seen", "id", "label_method", "dataset_version"),
        Index("cases_by_source", "source", "first_seen", "id", "label_method", "dataset_version"),
        Index("cases_by_method", "label_method", "first_seen", "id", "dataset_version"),
        Index("cases_by_dataset", "dataset_version", "first_seen", "id", "label_method"),
        Index("cases_corrected", "first_seen", "id", sqlite_where=_CORRECTED, postgresql_where=_CORRECTED),
        Index("cases_used", "first_seen", "id", sqlite_where=_USED, postgresql_where=_USED),
    )

    number: Mapped[int] = mapped_column(NUMBER, primary_key=True)  # of the row, for the index of words
    id: Mapped[str] = mapped_column(String(16), unique=True)  # from audio hash and model version
    audio_sha256: Mapped[str] = mapped_column(String(64))
    audio_name: Mapped[str]  # as it was called where it came from
    model_version: Mapped[str]
    original_transcript: Mapped[str]
    error_score: Mapped[float | None]
    duration: Mapped[float | None]  # seconds
    source: Mapped[str]  # where the case comes from: manual, production, import, …
    details: Mapped[dict[str, Any]] = mapped_column("metadata")
    first_seen: Mapped[datetime]
    last_seen: Mapped[datetime]
    times_seen: Mapped[int]
    # The correction that counts, repeated here so that a list of a million cases needs no join.
    label_method: Mapped[str | None]
    corrected_transcript: Mapped[str | None]
    dataset_version: Mapped[int | None]  # the first snapshot that holds it
    audio_erased_at: Mapped[datetime | None]  # its recording went for its age, its texts stayed
    words: Mapped[str] = mapped_column(default="")  # what a search finds it by; see `searchable`


class CaseErrorRow(TableBase):
    """One error type of a case, with the case's own `first_seen`, which never changes."""

    __tablename__ = "case_errors"
    __table_args__ = (
        Index("case_errors_by_type", "error_type", "first_seen", "case_id"),
        {"sqlite_with_rowid": False},
    )

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    error_type: Mapped[str] = mapped_column(primary_key=True)
    first_seen: Mapped[datetime]


class CaseCountRow(TableBase):
    """How many cases there are of each kind; written in the transaction that changes them.

    To count a million rows takes a third of a second, to add up these none.
    """

    __tablename__ = "case_counts"

    model_version: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    label_method: Mapped[str] = mapped_column(primary_key=True)  # "" without a correction
    used: Mapped[bool] = mapped_column(primary_key=True)
    cases: Mapped[int]


class ErrorTypeCountRow(TableBase):
    """How many failed cases have an error type; what the audit drew is none."""

    __tablename__ = "error_type_counts"

    error_type: Mapped[str] = mapped_column(primary_key=True)
    cases: Mapped[int]


class CorrectionRow(TableBase):
    """What somebody wrote for a case. Appended, never changed; a larger id is newer, whatever the clock says."""

    __tablename__ = "corrections"

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    transcript: Mapped[str]
    method: Mapped[str]  # manual, import or llm
    author: Mapped[str]
    at: Mapped[datetime]
    details: Mapped[dict[str, Any]] = mapped_column("metadata")


class InferenceRow(TableBase):
    """One transcription in production."""

    __tablename__ = "inferences"
    __table_args__ = (
        Index("inferences_by_model", "model_version", "at"),
        Index("inferences_by_request", "request_id", unique=True),
        Index("inferences_by_canary", "canary", "id"),
        Index("inferences_by_audit", "audit_id"),
        Index("inferences_by_version", "served", "id"),
    )

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    model_version: Mapped[str]
    audio_sha256: Mapped[str] = mapped_column(String(64))
    duration: Mapped[float]  # seconds of audio
    latency: Mapped[float]  # seconds of work
    confidence: Mapped[float | None]
    error_score: Mapped[float | None]
    is_error: Mapped[bool | None]  # None: no detector looked; with a score: one that is not calibrated
    case_id: Mapped[str | None] = mapped_column(ForeignKey("cases.id"))
    request_id: Mapped[str | None] = mapped_column(String(64))  # a server's; None from the command line
    served: Mapped[str | None]  # the registered version that answered, such as fine-tuned-stt/3
    caller: Mapped[str | None]  # an opaque id of the caller's own
    speaker: Mapped[str | None]
    channel: Mapped[str | None]
    role: Mapped[str | None] = mapped_column(String(16))  # of the version that answered: champion or canary
    canary: Mapped[int | None]  # the ledger's entry of the canary that both took part in; None without one
    recording: Mapped[str | None]  # what the audio is a piece of
    words: Mapped[int | None]  # of the transcript
    inclusion: Mapped[float | None]  # probability with which it was to be drawn for the audit; None: nobody drew
    audit_id: Mapped[str | None] = mapped_column(String(16))  # the case that it waits as; no key, a case may be erased
    batch: Mapped[int | None]  # recordings of the server's batch that it was heard in; None: not known


class ShadowPairRow(TableBase):
    """What the challenger would have answered, beside the champion's answer. Numbers only: the texts are not kept."""

    __tablename__ = "shadow_pairs"
    __table_args__ = (Index("shadow_pairs_by_canary", "canary", "id"),)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    request_id: Mapped[str] = mapped_column(String(64), unique=True)  # of the champion's inference
    at: Mapped[datetime]
    canary: Mapped[int]  # the ledger's entry of the canary
    served: Mapped[str]  # the version that answered
    shadow: Mapped[str]  # the version that heard it too
    errors: Mapped[int]  # words in which they differ, the champion's taken for the reference
    words: Mapped[int]  # of the champion
    served_score: Mapped[float | None]  # the detector's, of each
    shadow_score: Mapped[float | None]
    comparable: Mapped[bool]  # whether the detector is calibrated for both, or for neither


class JobRow(TableBase):
    """One fine-tuning round, from the request to its end."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    state: Mapped[str] = mapped_column(index=True)
    requested_at: Mapped[datetime]
    reasons: Mapped[list[str]]
    trigger: Mapped[dict[str, Any]]  # the values and thresholds that were compared
    dataset_version: Mapped[int | None]
    run_id: Mapped[str | None]  # MLflow's
    outcome: Mapped[str | None]  # of the verdict
    gain: Mapped[float | None]  # WER before minus after, absolute
    details: Mapped[dict[str, Any]]


class JobEventRow(TableBase):
    """One transition of a job. The first has no state before it."""

    __tablename__ = "job_events"

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[datetime]
    before: Mapped[str | None]
    after: Mapped[str]
    reason: Mapped[str]


class AlertRow(TableBase):
    """One alert on its way to the webhook. Written before it is sent, so that of two monitors one sends."""

    __tablename__ = "alerts"
    __table_args__ = (Index("alerts_by_metric", "metric", "at"),)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    at: Mapped[datetime]
    metric: Mapped[str]
    value: Mapped[float | None]
    threshold: Mapped[float]
    window: Mapped[str]
    delivered: Mapped[bool | None]  # None: being sent, or the sender died


class SchemaRow(TableBase):
    """The number of the newest migration that the database has, for versions of mondegreen that knew only 1."""

    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True)


class TestSpendRow(TableBase):
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


class RegressionRunRow(TableBase):
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


class DeploymentRow(TableBase):
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


class SuggestionRow(TableBase):
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


class ReviewDecisionRow(TableBase):
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


class ReviewHoldRow(TableBase):
    """A case whose corrections up to `after` do not count, nor any machine's. Follows from its decisions."""

    __tablename__ = "review_holds"

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    reason: Mapped[str] = mapped_column(String(16), index=True)  # bad_audio, not_speech, second, disputed
    reviewer: Mapped[str]  # who decided last
    after: Mapped[int]


class ReviewLeaseRow(TableBase):
    """A case that somebody has open, so that nobody else is given it."""

    __tablename__ = "review_leases"

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64), index=True)  # the browser
    reviewer: Mapped[str]
    shown_at: Mapped[datetime | None]  # None: kept ready as the next one
    expires_at: Mapped[datetime]


class ErasureRow(TableBase):
    """One erasure: who asked for it, why, and how much went. Nothing of what went, and nobody's name."""

    __tablename__ = "erasures"

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str]
    reason: Mapped[str]
    what: Mapped[str] = mapped_column(String(16))  # case, speaker, caller, older_than, expired
    before: Mapped[datetime | None]  # inferences from before then went, and do not come back
    finished_at: Mapped[datetime | None]  # None: it was interrupted; the next `cases erase` goes on
    counts: Mapped[dict[str, Any]]  # rows by table, recordings, files


class ErasedSubjectRow(TableBase):
    """The sha256 of what was erased (a recording's digest, a name), by which it is known again when it comes back."""

    __tablename__ = "erased_subjects"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    erasure_id: Mapped[int] = mapped_column(ForeignKey("erasures.id"), primary_key=True)


def search_words(written: str) -> list[str]:
    """The words of a text as a search compares them."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", written).casefold())
    return [word[:_LONGEST_WORD] for word in re.findall(r"[^\W_]+", folded)]


def searchable(*texts: str | None) -> str:
    """What is stored of a case: its distinct words, with a space before each."""
    found = dict.fromkeys(word for written in texts if written for word in search_words(written))
    return "".join(f" {word}" for word in found)
