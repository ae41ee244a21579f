"""How many were heard together, so that work compares; and a version's newest inferences are found by its name."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("inferences", sa.Column("batch", sa.Integer(), nullable=True))
    op.create_index("inferences_by_version", "inferences", ["served", "id"])
