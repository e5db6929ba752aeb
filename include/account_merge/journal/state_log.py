"""What belongs to no merge: logs of whole states, beside the merges' own in the table log."""

from __future__ import annotations

from datetime import datetime

from account_merge.journal.cas import NO_MERGE, JournalSession, now


class StateHistory:
    """What belongs to no merge, as a log of whole states: the newest entry says what holds, the others how it came.

    One partition, so that one SERIAL read answers; meant for what a person changes, some entries a day at most.

    :param name: where a merge's log has the table's name.
    """

    def __init__(self, cas: JournalSession, name: str) -> None:
        self._cas, self._name = cas, name

    def newest(self) -> tuple[int, bytes]:
        """Return the newest entry's number and state (SERIAL); -1 and nothing when there is none."""
        rows = self._cas.read(
            "SELECT seq, payload FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = 0 "
            "ORDER BY seq DESC LIMIT 1",
            [NO_MERGE, self._name],
        )
        return (rows[0].seq, rows[0].payload) if rows else (-1, b"")

    def append(self, seq: int, kind: str, state: bytes, note: str) -> bool:
        """Write entry `seq` if nobody has; False when somebody else was first."""
        return self._cas.write_if(
            "INSERT INTO {ks}.log (merge_id, table_name, bucket, seq, kind, payload, note, created_at) "
            "VALUES (?, ?, 0, ?, ?, ?, ?, ?) IF NOT EXISTS",
            [NO_MERGE, self._name, seq, kind, state, note, now()],
        )

    def states(self) -> list[tuple[str, bytes]]:
        """Every entry's kind and state, oldest first."""
        rows = self._cas.read(
            "SELECT kind, payload FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = 0",
            [NO_MERGE, self._name],
        )
        return [(row.kind, row.payload) for row in rows]

    def history(self) -> list[tuple[datetime, str, str]]:
        """Every entry's time, kind and note, oldest first."""
        rows = self._cas.read(
            "SELECT created_at, kind, note FROM {ks}.log WHERE merge_id = ? AND table_name = ? AND bucket = 0",
            [NO_MERGE, self._name],
        )
        return [(row.created_at, row.kind, row.note) for row in rows]
