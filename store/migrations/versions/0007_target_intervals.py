"""How often a target is read, where that is not as often as its source."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection_attempt", sa.Column("interval_s", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("collection_attempt", "interval_s")
