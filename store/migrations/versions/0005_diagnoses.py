"""The newest diagnosis of each target."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "source_diagnosis",
        sa.Column("source_id", sa.Integer(), sa.ForeignKey("source.id"), primary_key=True),
        sa.Column("target", AutoString(), primary_key=True),
        sa.Column("taken_at", UTCDateTime(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("body", AutoString(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("source_diagnosis")
