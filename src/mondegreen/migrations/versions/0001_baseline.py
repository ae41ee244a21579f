"""The tables as they were when the database began to grow by migrations, written down once more: tables.py goes on.

A database from before has no revision. It is checked against these tables, given those that it lacks, and is then at
this revision as a new one is.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from mondegreen.errors import CaseError

revision = "0001"
down_revision = None

_TABLES = sa.MetaData()
_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
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
    "postgresql": (
        "CREATE INDEX case_words ON cases USING gin (array_to_tsvector(string_to_array(trim(words), ' ')))",
    ),
}


def upgrade() -> None:
    """Makes the tables that are missing.

    Raises:
        CaseError: a table of that name is there and is another one.
    """
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names()) & set(_TABLES.tables)
    for name in sorted(there):
        if lacking := set(_TABLES.tables[name].columns.keys()) - {
            column["name"] for column in inspector.get_columns(name)
        }:
            raise CaseError(
                f"The table {name} of the database has no column {', '.join(sorted(lacking))}: it is not mondegreen's.",
                "Give mondegreen a database of its own (MONDEGREEN_DATABASE_URL).",
            )
    _TABLES.create_all(connection)
    if "cases" not in there:
        for statement in _WORD_INDEX[connection.dialect.name]:
            op.execute(statement)


def _column(name: str, kind: Any, *constraints: Any, nullable: bool = False, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, *constraints, nullable=nullable, **options)


def _partial(name: str, condition: str) -> sa.Index:
    return sa.Index(name, "first_seen", "id", sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))


sa.Table(
    "alerts",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("at", sa.DateTime),
    _column("metric", sa.String),
    _column("value", sa.Double, nullable=True),
    _column("threshold", sa.Double),
    _column("window", sa.String),
    _column("delivered", sa.Boolean, nullable=True),
    sa.Index("alerts_by_metric", "metric", "at"),
)
sa.Table(
    "case_counts",
    _TABLES,
    _column("model_version", sa.String, primary_key=True),
    _column("source", sa.String, primary_key=True),
    _column("label_method", sa.String, primary_key=True),
    _column("used", sa.Boolean, primary_key=True),
    _column("cases", sa.Integer),
)
sa.Table(
    "cases",
    _TABLES,
    _column("number", _NUMBER, primary_key=True),
    _column("id", sa.String(16), unique=True),
    _column("audio_sha256", sa.String(64)),
    _column("audio_name", sa.String),
    _column("model_version", sa.String),
    _column("original_transcript", sa.String),
    _column("error_score", sa.Double, nullable=True),
    _column("duration", sa.Double, nullable=True),
    _column("source", sa.String),
    _column("metadata", sa.JSON),
    _column("first_seen", sa.DateTime),
    _column("last_seen", sa.DateTime),
    _column("times_seen", sa.Integer),
    _column("label_method", sa.String, nullable=True),
    _column("corrected_transcript", sa.String, nullable=True),
    _column("dataset_version", sa.Integer, nullable=True),
    _column("words", sa.String),
    sa.Index("cases_by_dataset", "dataset_version", "first_seen", "id", "label_method"),
    sa.Index("cases_by_method", "label_method", "first_seen", "id", "dataset_version"),
    sa.Index("cases_by_model", "model_version", "first_seen", "id", "label_method", "dataset_version"),
    sa.Index("cases_by_source", "source", "first_seen", "id", "label_method", "dataset_version"),
    sa.Index("cases_by_time", "first_seen", "id"),
    _partial("cases_corrected", "label_method IS NOT NULL"),
    _partial("cases_used", "dataset_version IS NOT NULL"),
)
sa.Table(
    "deployments",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("at", sa.DateTime),
    _column("model_name", sa.String),
    _column("action", sa.String),
    _column("state", sa.String),
    _column("intent", sa.Integer, unique=True, nullable=True),
    _column("version", sa.Integer, nullable=True),
    _column("former", sa.Integer, nullable=True),
    _column("who", sa.String),
    _column("reason", sa.String),
    _column("forced", sa.Boolean),
    _column("outcome", sa.String),
    _column("digest", sa.String),
    _column("details", sa.JSON),
    sa.Index("deployments_by_model", "model_name", "id"),
)
sa.Table(
    "error_type_counts",
    _TABLES,
    _column("error_type", sa.String, primary_key=True),
    _column("cases", sa.Integer),
)
sa.Table(
    "jobs",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("state", sa.String, index=True),
    _column("requested_at", sa.DateTime),
    _column("reasons", sa.JSON),
    _column("trigger", sa.JSON),
    _column("dataset_version", sa.Integer, nullable=True),
    _column("run_id", sa.String, nullable=True),
    _column("outcome", sa.String, nullable=True),
    _column("gain", sa.Double, nullable=True),
    _column("details", sa.JSON),
)
sa.Table(
    "regression_runs",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("at", sa.DateTime),
    _column("model_version", sa.String),
    _column("model_digest", sa.String(64)),
    _column("passed", sa.Boolean),
    _column("reason", sa.String),
    _column("results", sa.JSON),
    sa.Index("regression_runs_by_model", "model_digest", "id"),
)
sa.Table(
    "schema_version",
    _TABLES,
    _column("version", sa.Integer, primary_key=True),
)
sa.Table(
    "test_spend",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("at", sa.DateTime),
    _column("test_set", sa.String(64)),
    _column("family", sa.String(64)),
    _column("members", sa.JSON),
    _column("candidate", sa.String(64)),
    _column("baseline", sa.String(64)),
    _column("look", sa.Integer),
    _column("alpha", sa.Double),
    sa.UniqueConstraint("test_set", "candidate"),
    sa.UniqueConstraint("family", "look"),
)
sa.Table(
    "case_errors",
    _TABLES,
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id"), primary_key=True),
    _column("error_type", sa.String, primary_key=True),
    _column("first_seen", sa.DateTime),
    sa.Index("case_errors_by_type", "error_type", "first_seen", "case_id"),
    sqlite_with_rowid=False,
)
sa.Table(
    "corrections",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id"), index=True),
    _column("transcript", sa.String),
    _column("method", sa.String),
    _column("author", sa.String),
    _column("at", sa.DateTime),
    _column("metadata", sa.JSON),
)
sa.Table(
    "inferences",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("at", sa.DateTime, index=True),
    _column("model_version", sa.String),
    _column("audio_sha256", sa.String(64)),
    _column("duration", sa.Double),
    _column("latency", sa.Double),
    _column("confidence", sa.Double, nullable=True),
    _column("error_score", sa.Double, nullable=True),
    _column("is_error", sa.Boolean, nullable=True),
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id"), nullable=True),
    sa.Index("inferences_by_model", "model_version", "at"),
)
sa.Table(
    "job_events",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("job_id", _NUMBER, sa.ForeignKey("jobs.id"), index=True),
    _column("at", sa.DateTime),
    _column("before", sa.String, nullable=True),
    _column("after", sa.String),
    _column("reason", sa.String),
)
sa.Table(
    "review_holds",
    _TABLES,
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id"), primary_key=True),
    _column("reason", sa.String(16), index=True),
    _column("reviewer", sa.String),
    _column("after", sa.Integer),
)
sa.Table(
    "review_leases",
    _TABLES,
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id"), primary_key=True),
    _column("holder", sa.String(64), index=True),
    _column("reviewer", sa.String),
    _column("shown_at", sa.DateTime, nullable=True),
    _column("expires_at", sa.DateTime),
)
sa.Table(
    "suggestions",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id")),
    _column("at", sa.DateTime),
    _column("text", sa.String),
    _column("model", sa.String),
    _column("digest", sa.String),
    _column("prompt_version", sa.String(64)),
    _column("accepted", sa.Boolean),
    _column("guard", sa.String),
    _column("reason", sa.String),
    sa.Index("suggestions_by_case", "case_id", "id"),
)
sa.Table(
    "review_decisions",
    _TABLES,
    _column("id", _NUMBER, primary_key=True),
    _column("case_id", sa.String(16), sa.ForeignKey("cases.id")),
    _column("reviewer", sa.String),
    _column("at", sa.DateTime),
    _column("action", sa.String(16)),
    _column("role", sa.String(16)),
    _column("transcript", sa.String, nullable=True),
    _column("chosen", sa.String),
    _column("seconds", sa.Double, nullable=True),
    _column("after", sa.Integer),
    _column("correction_id", _NUMBER, sa.ForeignKey("corrections.id"), nullable=True),
    _column("undoes", _NUMBER, sa.ForeignKey("review_decisions.id"), unique=True, nullable=True),
    sa.Index("review_decisions_by_action", "action", "correction_id"),
    sa.Index("review_decisions_by_case", "case_id", "id"),
    sa.Index("review_decisions_by_reviewer", "reviewer", "id"),
)
