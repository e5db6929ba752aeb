"""What people do that belongs to no merge: the kill switches that are on, and the record of each act."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from account_merge.journal.clock import now
from account_merge.journal.database import Database
from account_merge.journal.fence import ALL
from account_merge.journal.rows import merge_of
from account_merge.journal.schema import acts, merges, stops
from account_merge.model import Merge

_BESIDE = (
    select(merges, *(stops.c[name].label(f"stop_{name}") for name in ("tenant", "actor", "reason", "since")))
    .outerjoin(stops, or_(stops.c.tenant == ALL, stops.c.tenant == merges.c.tenant))
    .where(merges.c.merge_id == bindparam("merge", type_=merges.c.merge_id.type))
    .order_by(stops.c.tenant)
)


class Acts:
    """The record of one kind of act: each is a row, and no row is changed.

    :param of: the kind.
    """

    def __init__(self, journal: Database, of: str) -> None:
        self._journal, self._of = journal, of

    def add(self, what: str, note: str, about: bytes | None = None) -> None:
        """Record an act. :param about: what it was done to, as far as the journal may know it."""
        self._journal.run(insert(acts), [{"of": self._of, "what": what, "note": note, "about": about, "at": now()}])

    def all(self) -> list[tuple[datetime, str, str]]:
        """Every act's time, word and note, oldest first."""
        return [(row.at, row.what, row.note) for row in self._rows()]

    def newest_about(self, about: bytes) -> str | None:
        """Return the word of the newest act about something, or None."""
        found = [row.what for row in self._rows() if row.about == about]
        return found[-1] if found else None

    def _rows(self) -> list[Row[Any]]:
        return self._journal.rows(select(acts).where(acts.c.of == self._of).order_by(acts.c.position))


class Switches:
    """The kill switches that are on, with the record of each switching."""

    def __init__(self, journal: Database) -> None:
        self._journal = journal
        self.acts = Acts(journal, "switch")

    def on(self) -> list[Row[Any]]:
        """Return the switches that are on: `tenant`, `actor`, `reason`, `since`."""
        return self._journal.rows(select(stops).order_by(stops.c.since, stops.c.tenant))

    def beside(self, merge_id: uuid.UUID) -> tuple[Merge | None, list[Row[Any]]]:
        """Return a merge, and the switches that stop it, by one statement."""
        found = self._journal.rows(_BESIDE, {"merge": merge_id})
        return merge_of(found[0]) if found else None, [row for row in found if row.stop_tenant is not None]

    def put(self, tenant: str, by: str, reason: str, since: datetime, note: str) -> bool:
        """Switch on, and record it; False when that very switch is on already, by the same person for the same reason."""
        put = upsert(stops).values(tenant=tenant, actor=by, reason=reason, since=since)
        new = put.excluded
        with self._journal.transaction():
            put = put.on_conflict_do_update(
                index_elements=[stops.c.tenant], set_={"actor": new.actor, "reason": new.reason, "since": new.since},
                where=(stops.c.actor != new.actor) | (stops.c.reason != new.reason),
            )  # fmt: skip
            done = bool(self._journal.run(put))
            if done:
                self.acts.add("on", note)
        return done

    def remove(self, tenant: str, note: str) -> bool:
        """Switch off, and record it; False when it was not on."""
        with self._journal.transaction():
            done = bool(self._journal.run(delete(stops).where(stops.c.tenant == tenant)))
            if done:
                self.acts.add("off", note)
        return done
