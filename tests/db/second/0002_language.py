"""A migration as it may come: a column of `cases` that is filled from what is there, and an index."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("cases", sa.Column("language", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE cases SET language = 'de' WHERE original_transcript LIKE 'der %'")
    op.create_index("cases_by_language", "cases", ["language", "first_seen", "id"])
