"""${message}"""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Make the tables what this version needs."""
    ${upgrades if upgrades else "op.execute('')"}
