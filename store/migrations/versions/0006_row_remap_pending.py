"""Whether memory rows of a GPU wait to be remapped."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sample", sa.Column("row_remap_pending", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("sample", "row_remap_pending")
