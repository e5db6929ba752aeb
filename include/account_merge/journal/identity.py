"""Who this journal is: its id, and the key of all its hashes, which it makes once in its life."""

from __future__ import annotations

import hashlib
import uuid
from functools import cached_property

from sqlalchemy import select

from account_merge.journal import schema
from account_merge.journal.database import Database
from account_merge.journal.database_errors import not_created

#: How an account id begins that was erased; the rest is its hash.
ERASED = "erased:"


class Identity(Database):
    """The journal's own id and key."""

    @cached_property
    def _own(self) -> tuple[uuid.UUID, bytes]:
        row = self.row(select(schema.journal.c.journal_id, schema.journal.c.hash_key))
        if row is None:
            raise not_created(self.where)
        return row.journal_id, row.hash_key

    @property
    def journal_id(self) -> uuid.UUID:
        """The journal's id: two journals are never the same."""
        return self._own[0]

    def hashed(self, *parts: bytes) -> bytes:
        """Return a keyed hash (16 bytes) of the parts: the same in every process, and nothing without the journal's key."""
        whole = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(whole, key=self._own[1], digest_size=16).digest()

    def hidden(self, text: str) -> str:
        """Return what the journal keeps of a text that it only has to recognise."""
        return self.hashed(b"hidden", text.encode()).hex()

    def erased_id(self, account_id: str) -> str:
        """Return what stands for an account id once it is erased; of one that is erased, itself."""
        if account_id.startswith(ERASED):
            return account_id
        return ERASED + self.hashed(b"account", account_id.encode()).hex()
