"""What-if scenarios that somebody saved."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString, UTCDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scenario",
        sa.Column("name", AutoString(), primary_key=True),
        sa.Column("saved_at", UTCDateTime(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", AutoString(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("scenario")
