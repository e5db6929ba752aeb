"""The platform's own table of accounts, read along the token ring: one small page at a time, one request in flight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.errors import NeedsAttention
from account_merge.settings import Settings
from account_merge.sunbird.schema import columns_of
from account_merge.sunbird.store import Store

#: The ends of the token ring (Murmur3).
FIRST, LAST = -(2**63), 2**63 - 1
#: `ProjectUtil.Status`: switched off by a merge or an administrator; deleted on the person's wish.
INACTIVE, DELETED = 0, 2


@dataclass(frozen=True)
class User:
    """One account as the platform has it. :param off_since: its last update, as the platform wrote it."""

    account: str
    token: int
    status: int | None
    is_deleted: bool | None
    off_since: str

    @property
    def deactivated(self) -> bool:
        """Switched off, but not deleted: what a deleted person owned is nobody's to move."""
        return self.status != DELETED and (self.status == INACTIVE or bool(self.is_deleted))


class Users:
    """Reads the table `user`."""

    def __init__(self, session: Any, store: Store, settings: Settings) -> None:
        self._session, self._store, self._settings = session, store, settings
        keyspace, table = settings.users_keyspace, settings.table("user")
        columns = self._columns(keyspace, table)
        wanted = [name if name in columns else None for name in ("status", "isdeleted", "updateddate")]
        names = ", ".join(f'"{name}"' for name in wanted if name)
        self._where = {name: at for at, name in enumerate((name for name in wanted if name), start=2)}
        key = "id" if "id" in columns else "userid"
        self._cql = (
            f'SELECT "{key}", token("{key}"){", " if names else ""}{names} FROM "{keyspace}"."{table}" '
            f'WHERE token("{key}") > ? LIMIT ?'
        )

    def _columns(self, keyspace: str, table: str) -> list[str]:
        try:
            columns = columns_of(self._session, keyspace).get(table, [])
        except DRIVER_ERRORS as error:
            raise driver_error("show its schema", error, self._settings) from error
        if not {"id", "userid"} & set(columns) or not {"status", "isdeleted"} & set(columns):
            raise NeedsAttention(
                "NO_USER_TABLE",
                f"{keyspace}.{table} is no table of accounts: it needs id, and status or isdeleted",
                'Name its keyspace in ACCOUNT_MERGE_USERS_KEYSPACE, the table in ACCOUNT_MERGE_TABLE_NAMES as "user".',
            )
        return columns

    def page(self, behind: int, size: int) -> list[User]:
        """Return the next accounts behind a token, at most `size`, along the ring; none at its end."""
        found = self._store.fetch(self._store.prepare(self._cql), (behind, size))
        return [self._user(row) for row in found]

    def _user(self, row: tuple[Any, ...]) -> User:
        shown: Mapping[str, Any] = {name: row[at] for name, at in self._where.items()}
        return User(row[0], row[1], shown.get("status"), shown.get("isdeleted"), str(shown.get("updateddate") or ""))
