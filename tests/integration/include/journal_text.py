"""The journal as somebody with a dump of it sees it: every value of every column, packed ones unpacked."""

from __future__ import annotations

import zlib


def journal_text(session, service, *merge_ids):
    """Everything in the three tables, or what is there of these merges, as one text."""
    found = []
    for table in ("accounts", "merges", "log"):
        for row in session.execute(f"SELECT * FROM {service.settings.journal_keyspace}.{table}"):
            values = row._asdict()
            if not merge_ids or values.get("merge_id") in merge_ids:
                found += [part for value in values.values() for part in texts(value)]
    return "\n".join(found)


def texts(value):
    """A value as text, and unpacked if it is a packed one."""
    if isinstance(value, bytes):
        yield value.decode("latin-1")
        try:
            unpacked = zlib.decompress(value)
        except zlib.error:
            return
        yield unpacked.decode("latin-1")
        yield unpacked.decode(errors="replace")
    else:
        yield str(value)
