"""EduBrite's two cookies, and how often a sign-in may be tried.

SESSION_ID is a random number with a signature. SESSION_INFO is the user's token of Airflow's auth manager, encrypted for
exactly that SESSION_ID: one without the other opens nothing, and neither shows a secret. Both are made of the API server's
secret key, so any process of it reads what another one made, and both expire.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
import time
from collections import OrderedDict, deque

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_MOST_KEYS = 10_000


class Sessions:
    """Makes and opens the cookies.

    :param secret: what all processes of the API server share.
    :param seconds: how long a cookie is valid.
    """

    def __init__(self, secret: str, seconds: float) -> None:
        self._seconds = seconds
        self._signing, self._sealing = (
            hmac.new(secret.encode(), f"account-merge edubrite {use}".encode(), hashlib.sha256).digest()
            for use in ("SESSION_ID", "SESSION_INFO")
        )

    def new_id(self) -> str:
        """Return a new SESSION_ID."""
        body = f"{os.urandom(16).hex()}.{self._expiry()}"
        return f"{body}.{self._signature(body)}"

    def valid_id(self, session_id: str) -> bool:
        """Whether it is ours and still valid; compared in constant time."""
        body, _, signature = session_id.rpartition(".")
        genuine = hmac.compare_digest(signature.encode(), self._signature(body).encode())
        return genuine and _in_time(body.rpartition(".")[2])

    def seal(self, session_id: str, token: str) -> str:
        """SESSION_INFO for this session and token."""
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(self._sealing).encrypt(nonce, f"{self._expiry()} {token}".encode(), session_id.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    def open(self, session_id: str, info: str) -> str:
        """Return the token; empty when a cookie is not ours, expired, or the two do not belong together."""
        if not self.valid_id(session_id):
            return ""
        try:
            raw = base64.urlsafe_b64decode(info.encode() + b"=" * (-len(info) % 4))
            plain = AESGCM(self._sealing).decrypt(raw[:_NONCE], raw[_NONCE:], session_id.encode()).decode()
        except (ValueError, InvalidTag):
            return ""
        expiry, _, token = plain.partition(" ")
        return token if _in_time(expiry) else ""

    def _expiry(self) -> int:
        return int(time.time() + self._seconds)

    def _signature(self, body: str) -> str:
        return hmac.new(self._signing, body.encode(), hashlib.sha256).hexdigest()


def _in_time(expiry: str) -> bool:
    return expiry.isascii() and expiry.isdigit() and time.time() < int(expiry)


class Throttle:
    """At most so many events of one key within a minute, in this process.

    :param most: events a minute.
    """

    MINUTE = 60.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Return seconds until this key may do it once more; 0 when it may now."""
        with self._lock:
            seen, now = self._seen.get(key), time.monotonic()
            while seen and now - seen[0] >= self.MINUTE:
                seen.popleft()
            return self.MINUTE - (now - seen[0]) if seen and len(seen) >= self._most else 0.0

    def count(self, key: str) -> None:
        """Count one event of this key; what was not seen for longest is forgotten when there are too many keys."""
        with self._lock:
            seen = self._seen.setdefault(key, deque(maxlen=self._most))
            seen.append(time.monotonic())
            self._seen.move_to_end(key)
            while len(self._seen) > _MOST_KEYS:
                self._seen.popitem(last=False)
