"""Inferences of a server: which request, which version answered, for whom."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("inferences", sa.Column("request_id", sa.String(64), nullable=True))
    for name in ("served", "caller", "speaker", "channel"):
        op.add_column("inferences", sa.Column(name, sa.String(), nullable=True))
    op.create_index("inferences_by_request", "inferences", ["request_id"], unique=True)
