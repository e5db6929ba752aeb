"""Alembic's way to the journal: the connection that `create-journal` hands over, one transaction for all steps."""

from __future__ import annotations

from alembic import context

from account_merge.journal.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
