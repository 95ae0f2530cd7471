"""Measured runs of engines beside what was predicted for them."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "memory_run",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("digest", AutoString(), nullable=False),
        sa.Column("kept_at", UTCDateTime(), nullable=False),
        sa.Column("measured_at", UTCDateTime(), nullable=True),
        sa.Column("model", AutoString(), nullable=False),
        sa.Column("engine", AutoString(), nullable=False),
        sa.Column("engine_version", AutoString(), nullable=True),
        sa.Column("device", AutoString(), nullable=False),
        sa.Column("ranks", sa.Integer(), nullable=False),
        sa.Column("board", AutoString(), nullable=True),
        sa.Column("profile", AutoString(), nullable=True),
        sa.Column("device_bytes", sa.BigInteger(), nullable=True),
        sa.Column("terms", AutoString(), nullable=False),
        sa.Column("measured", AutoString(), nullable=False),
        sa.UniqueConstraint("digest"),
    )


def downgrade() -> None:
    op.drop_table("memory_run")
