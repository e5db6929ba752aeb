"""Users of the platform for tests: rows as its user service writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.learners import account, put


def person(
    session: Any,
    keyspace: str,
    name: str,
    *,
    roles: Sequence[str] = (),
    old_roles: Sequence[str] | None = None,
    stored: str = "",
    **columns: Any,
) -> str:
    """Makes a user with this name; answers the account.

    :param stored: how user and user_lookup hold the name, when it is not its lower case.
    """
    found, stored = account(), stored or name.lower()
    row = {
        "id": found,
        "userid": found,
        "firstname": "A",
        "username": stored,
        "status": 1,
        "isdeleted": False,
        **columns,
    }
    put(session, keyspace, "user", row | ({"roles": list(old_roles)} if old_roles else {}))
    for kind in ("username", "email", "phone"):
        if row.get(kind):
            put(session, keyspace, "user_lookup", {"type": kind, "value": row[kind], "userid": found})
    for role in roles:
        put(session, keyspace, "user_roles", {"userid": found, "role": role})
    return found


def user(session: Any, keyspace: str, found: str) -> dict[str, Any]:
    """The user's row without nulls."""
    row = session.execute(f"SELECT * FROM {keyspace}.user WHERE id = %s", [found]).one()
    return {column: value for column, value in row._asdict().items() if value not in (None, [], {})}


def lookups(session: Any, keyspace: str, found: str) -> list[tuple[str, str]]:
    """(type, value) of each row that leads to the user."""
    rows = session.execute(f"SELECT type, value, userid FROM {keyspace}.user_lookup")
    return sorted((row.type, row.value) for row in rows if row.userid == found)
