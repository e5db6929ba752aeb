"""The platform's users: who a user name is, the rows that lead to a user, and all accounts along the token ring.

`Directory` is the port that administrators' calls go through: another directory (LDAP, an HTTP service) is another class
with the same methods. Plain statements only: the platform's user service writes these tables without conditions. CQL on
the platform's users is in this module alone.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from account_merge.connection.driver_errors import DRIVER_ERRORS, driver_error
from account_merge.errors import MergeError, NeedsAttention
from account_merge.settings import Settings
from account_merge.sunbird.catalogue import columns_of
from account_merge.sunbird.store import Store

#: What leads to a user in user_lookup, and the column of `user` that holds the value exactly as it is there.
LOOKED_UP = {"email": "email", "phone": "phone", "username": "username"}
_KEY = b"ThisAsISerceKtey"  # the platform's own fixed key; only the salt is secret
_ROUNDS = 3
#: The ends of the token ring (Murmur3).
FIRST, LAST = -(2**63), 2**63 - 1
#: `ProjectUtil.Status`: switched off by a merge or an administrator; deleted on the person's wish.
INACTIVE, DELETED = 0, 2


@dataclass(frozen=True)
class Person:
    """A user of the platform.

    :param active: neither deactivated nor deleted.
    :param admin: a site administrator.
    """

    account: str
    active: bool
    admin: bool


class Directory(Protocol):
    """Port through which administrators' calls find users."""

    def find(self, user_name: str) -> Person | None:
        """Return the user with this name, None when nobody has it.

        :raises TransientError: the directory is away.
        """
        ...


class PlatformDirectory:
    """The platform's `user_lookup`, `user` and `user_roles`.

    :param session: an open session of Cassandra's driver; statements name the keyspace.
    """

    def __init__(self, session: Any, store: Store, settings: Settings) -> None:
        self._session, self._store, self._settings = session, store, settings

    def find(self, user_name: str) -> Person | None:
        """Return the user with this name, whatever its upper and lower case; see `Directory`."""
        for value in spellings(user_name, self._settings.user_name_salt):
            found = self._rows("SELECT userid FROM {ks}.user_lookup WHERE type = ? AND value = ?",
                               self._settings.user_name_type, value)  # fmt: skip
            if found and found[0][0]:
                return self._person(found[0][0])
        return None

    def _person(self, account: str) -> Person | None:
        rows = self._rows("SELECT status, isdeleted, roles FROM {ks}.user WHERE id = ?", account)
        if not rows:
            return None
        granted = self._rows("SELECT role FROM {ks}.user_roles WHERE userid = ?", account)
        status, deleted, own = rows[0]
        roles = {*(own or ()), *(role for (role,) in granted)}
        return Person(
            account,
            active=status in (None, 1) and not deleted,
            admin=bool(roles & set(self._settings.admin_roles)),
        )

    def has(self, account: str) -> bool | None:
        """Whether the platform has a user with this account id; None where its users cannot be read."""
        try:
            return bool(self._rows("SELECT id FROM {ks}.user WHERE id = ?", account))
        except NeedsAttention:
            return None

    # --- the rows that lead to a user -----------------------------------------------------------------------------
    def free(self, account: str, names: Mapping[str, str], until: int) -> None:
        """Delete the rows of user_lookup that lead to this account; a name that leads elsewhere stays. May be repeated.

        :param names: type -> value exactly as it is stored.
        :param until: µs; the same at every repetition, so that one that comes late does not delete what came after.
        """
        for kind, value in names.items():
            holder, written = self._leads(kind, value)
            if holder == account and written <= until:
                self._rows("DELETE FROM {ks}.user_lookup USING TIMESTAMP ? WHERE type = ? AND value = ?",
                           written + 1, kind, value)  # fmt: skip

    def give_back(self, account: str, names: Mapping[str, str], until: int) -> list[str]:
        """Write those rows again; return the types whose value leads to another account by now. May be repeated."""
        insert = "INSERT INTO {ks}.user_lookup (type, value, userid) VALUES (?, ?, ?) USING TIMESTAMP ?"
        taken = []
        for kind, value in names.items():
            # Just above our own deletion; if another account had the name since and gave it up, above that as well.
            for timestamp in (until + 2, int(time.time() * 1_000_000)):
                if self._leads(kind, value)[0] is None:
                    self._rows(insert, kind, value, account, timestamp)
            if self._leads(kind, value)[0] != account:
                taken.append(kind)
        return taken

    def _leads(self, kind: str, value: str) -> tuple[str | None, int]:
        cql = "SELECT userid, WRITETIME(userid) FROM {ks}.user_lookup WHERE type = ? AND value = ?"
        rows = self._rows(cql, kind, value)
        return (rows[0][0], rows[0][1] or 0) if rows else (None, 0)

    def _rows(self, cql: str, *values: Any) -> list[Any]:
        keyspace = f'"{self._settings.users_keyspace}"'
        try:
            return list(self._session.execute(self._store.prepare(cql.replace("{ks}", keyspace)), values))
        except DRIVER_ERRORS as error:
            raise self._told(driver_error("answer for the platform's users", error, self._settings)) from error
        except MergeError as error:
            raise self._told(error) from error

    def _told(self, error: MergeError) -> MergeError:
        """Return the error of a table or column of the platform's users that is missing."""
        return no_directory(self._settings) if error.code == "SCHEMA_CHANGED" else error


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
        """Switched off, but not deleted: the rows of a deleted person are not moved."""
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


def no_directory(settings: Settings) -> NeedsAttention:
    """Return the error of a cluster that has no users where the settings say."""
    return NeedsAttention(
        "NO_DIRECTORY",
        f"keyspace {settings.users_keyspace} has no tables user, user_lookup and user_roles as the platform makes them",
        "Name the right keyspace in ACCOUNT_MERGE_USERS_KEYSPACE.",
    )


def spellings(user_name: str, salt: str) -> Iterator[str]:
    """Yield the forms in which user_lookup may hold a user name: in lower case, and encrypted where the platform does that.

    :param salt: the platform's sunbird_encryption_key; empty where names are plain.
    """
    plain = user_name.strip().lower()
    if not salt:
        yield plain
        return
    yield encrypted(plain, salt, lines=True)
    yield encrypted(plain, salt, lines=False)  # older releases and some ports write base64 in one line


def encrypted(value: str, salt: str, lines: bool) -> str:
    """Return a value as the platform's encryption service writes it.

    :param lines: base64 in lines of 76 characters, as Java's older encoder makes it.
    """
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    for _ in range(_ROUNDS):
        padder = padding.PKCS7(128).padder()
        padded = padder.update((salt + value).encode()) + padder.finalize()
        # The platform's cipher, to find what it wrote; it protects nothing here.
        encryptor = Cipher(algorithms.AES(_KEY), modes.ECB()).encryptor()  # noqa: S305
        raw = base64.b64encode(encryptor.update(padded) + encryptor.finalize()).decode()
        value = "\n".join(raw[i : i + 76] for i in range(0, len(raw), 76)) if lines else raw
    return value
