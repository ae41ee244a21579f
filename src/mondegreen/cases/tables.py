"""The tables of live state: what arrives while the service lives. SQLite and PostgreSQL hold the same."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Connection,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    TypeDecorator,
    event,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

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


# The words of a case for PostgreSQL; a query must write it the same way to use the index.
TSVECTOR = "array_to_tsvector(string_to_array(trim(cases.words), ' '))"


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON(), list[str]: JSON()}  # noqa: RUF012


def _partial(name: str, condition: str) -> Index:
    return Index(name, "first_seen", "id", sqlite_where=text(condition), postgresql_where=text(condition))


class CaseRow(Table):
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
        _partial("cases_corrected", "label_method IS NOT NULL"),
        _partial("cases_used", "dataset_version IS NOT NULL"),
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
    words: Mapped[str] = mapped_column(default="")  # what a search finds it by; see search.py


# An index of words is each database's own. SQLite's has to be told of every change.
_WORD_INDEX = {
    "sqlite": (
        "CREATE VIRTUAL TABLE case_words USING fts5(words, content='cases', content_rowid='number', detail=none, "
        "columnsize=0, tokenize='unicode61 remove_diacritics 0')",
        "CREATE TRIGGER case_words_add AFTER INSERT ON cases BEGIN "
        "INSERT INTO case_words(rowid, words) VALUES (new.number, new.words); END",
        "CREATE TRIGGER case_words_change AFTER UPDATE OF words ON cases BEGIN "
        "INSERT INTO case_words(case_words, rowid, words) VALUES ('delete', old.number, old.words); "
        "INSERT INTO case_words(rowid, words) VALUES (new.number, new.words); END",
    ),
    "postgresql": (f"CREATE INDEX case_words ON cases USING gin ({TSVECTOR.replace('cases.', '')})",),
}


@event.listens_for(CaseRow.__table__, "after_create")
def _make_word_index(_: Any, connection: Connection, **__: Any) -> None:
    for statement in _WORD_INDEX[connection.dialect.name]:
        connection.execute(text(statement))


class CaseErrorRow(Table):
    """One error type of a case, with the case's own `first_seen`, which never changes."""

    __tablename__ = "case_errors"
    __table_args__ = (
        Index("case_errors_by_type", "error_type", "first_seen", "case_id"),
        {"sqlite_with_rowid": False},
    )

    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    error_type: Mapped[str] = mapped_column(primary_key=True)
    first_seen: Mapped[datetime]


class CaseCountRow(Table):
    """How many cases there are of each kind; written in the transaction that changes them.

    To count a million rows takes a third of a second, to add up these none.
    """

    __tablename__ = "case_counts"

    model_version: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    label_method: Mapped[str] = mapped_column(primary_key=True)  # "" without a correction
    used: Mapped[bool] = mapped_column(primary_key=True)
    cases: Mapped[int]


class ErrorTypeCountRow(Table):
    """How many cases have an error type."""

    __tablename__ = "error_type_counts"

    error_type: Mapped[str] = mapped_column(primary_key=True)
    cases: Mapped[int]


class CorrectionRow(Table):
    """What somebody wrote for a case. Appended, never changed; a larger id is newer, whatever the clock says."""

    __tablename__ = "corrections"

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    transcript: Mapped[str]
    method: Mapped[str]  # manual, import or llm
    author: Mapped[str]
    at: Mapped[datetime]
    details: Mapped[dict[str, Any]] = mapped_column("metadata")


class InferenceRow(Table):
    """One transcription in production."""

    __tablename__ = "inferences"
    __table_args__ = (Index("inferences_by_model", "model_version", "at"),)

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    model_version: Mapped[str]
    audio_sha256: Mapped[str] = mapped_column(String(64))
    duration: Mapped[float]  # seconds of audio
    latency: Mapped[float]  # seconds of work
    confidence: Mapped[float | None]
    error_score: Mapped[float | None]
    is_error: Mapped[bool | None]  # None: no detector looked at it
    case_id: Mapped[str | None] = mapped_column(ForeignKey("cases.id"))


class JobRow(Table):
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


class JobEventRow(Table):
    """One transition of a job. The first has no state before it."""

    __tablename__ = "job_events"

    id: Mapped[int] = mapped_column(NUMBER, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[datetime]
    before: Mapped[str | None]
    after: Mapped[str]
    reason: Mapped[str]


class AlertRow(Table):
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


class SchemaRow(Table):
    """The version of these tables that a database was made with."""

    __tablename__ = "schema_version"

    version: Mapped[int] = mapped_column(primary_key=True)
