"""Canary and shadow: which role answered, during which canary, and what the shadow would have made of it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("inferences", sa.Column("role", sa.String(16), nullable=True))
    op.add_column("inferences", sa.Column("canary", sa.Integer(), nullable=True))
    op.create_index("inferences_by_canary", "inferences", ["canary", "id"])
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "shadow_pairs",
        sa.Column("id", number, primary_key=True),
        sa.Column("request_id", sa.String(64), unique=True, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("canary", sa.Integer(), nullable=False),
        sa.Column("served", sa.String(), nullable=False),
        sa.Column("shadow", sa.String(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("words", sa.Integer(), nullable=False),
        sa.Column("served_score", sa.Double(), nullable=True),
        sa.Column("shadow_score", sa.Double(), nullable=True),
        sa.Column("comparable", sa.Boolean(), nullable=False),
    )
    op.create_index("shadow_pairs_by_canary", "shadow_pairs", ["canary", "id"])
