"""The rate of writing: when the next rows may be written, for all processes together."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the one row's table."""
    op.execute(
        "CREATE TABLE write_rate (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), free_at timestamptz NOT NULL)"
    )
