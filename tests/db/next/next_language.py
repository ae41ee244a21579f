"""A migration as it may come: a column of `cases` that is filled from what is there, and an index."""

import sqlalchemy as sa
from alembic import op

from mondegreen.tables import SCHEMA

revision = f"{SCHEMA + 1:04}"
down_revision = f"{SCHEMA:04}"


def upgrade() -> None:
    op.add_column("cases", sa.Column("language", sa.String(), nullable=False, server_default=""))
    op.execute("UPDATE cases SET language = 'de' WHERE original_transcript LIKE 'der %'")
    op.create_index("cases_by_language", "cases", ["language", "first_seen", "id"])
