"""How far back counts are followed: of engines for readings that come in late, of gateways for the first hour."""

import sqlalchemy as sa
from alembic import op
from sqlmodel.sql.sqltypes import AutoString

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, series in (("counter_beginning", "serving_series"), ("histogram_beginning", "histogram_series")):
        op.create_table(
            name,
            sa.Column("series_id", sa.Integer(), sa.ForeignKey(f"{series}.id"), primary_key=True, autoincrement=False),
            sa.Column("until_ms", sa.BigInteger(), nullable=False),
            sa.Column("first", AutoString(), nullable=False),
            sa.Column("head", AutoString(), nullable=True),
            sa.Column("until", AutoString(), nullable=True),
            sqlite_with_rowid=False,
        )
    op.add_column("spend_series", sa.Column("since_ms", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("spend_series", "since_ms")
    op.drop_table("histogram_beginning")
    op.drop_table("counter_beginning")
