"""The audit sample: with which probability an inference was to be drawn, and as which case it waits to be heard."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("inferences", sa.Column("recording", sa.String(), nullable=True))
    op.add_column("inferences", sa.Column("words", sa.Integer(), nullable=True))
    op.add_column("inferences", sa.Column("inclusion", sa.Double(), nullable=True))
    op.add_column("inferences", sa.Column("audit_id", sa.String(16), nullable=True))
    op.create_index("inferences_by_audit", "inferences", ["audit_id"])
