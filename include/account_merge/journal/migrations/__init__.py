"""The versions of the journal's tables: Alembic's migrations, each a step from one version to the next."""
