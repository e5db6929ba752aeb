"""Whether this PostgreSQL keeps what it acknowledges: on its disk, and on a standby that may take over."""

from __future__ import annotations

from sqlalchemy import text

from account_merge.journal.database import Database


def server_version(journal: Database) -> str:
    """Return the server's version, as `16.4`."""
    return str(journal.value(text("SHOW server_version"))).split(" ")[0]


def durability(journal: Database) -> list[str]:
    """Return one sentence for each way in which an acknowledged change can be lost here; none is best."""
    found = []
    if journal.value(text("SHOW fsync")) == "off":
        found.append(
            "fsync is off: a crash of the machine loses or breaks the journal, so use such a server for trials only"
        )
    if journal.value(text("SHOW synchronous_commit")) == "off":
        found.append("synchronous_commit is off for new sessions: set it on for this database and its users")
    behind = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'async'"
    if journal.value(text(behind)) and not journal.value(text("SHOW synchronous_standby_names")):
        found.append(
            "a standby follows asynchronously: if it takes over, the last merges are forgotten and may count twice"
        )
    return found
