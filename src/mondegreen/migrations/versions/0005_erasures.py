"""What was erased, when and why; SQLite's index of words forgets a case that goes."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("id", _NUMBER, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("who", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("what", sa.String(16), nullable=False),
        sa.Column("before", sa.DateTime, nullable=True),
        sa.Column("finished_at", sa.DateTime, nullable=True),
        sa.Column("counts", sa.JSON, nullable=False),
    )
    op.create_table(
        "erased_subjects",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("erasure_id", _NUMBER, sa.ForeignKey("erasures.id"), primary_key=True),
    )
    op.add_column("cases", sa.Column("audio_erased_at", sa.DateTime, nullable=True))
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER case_words_remove AFTER DELETE ON cases BEGIN "
            "INSERT INTO case_words(case_words, rowid, words) VALUES ('delete', old.number, old.words); END"
        )
