"""EduBrite's two cookies.

SESSION_ID is a random number. SESSION_INFO is the user's token of Airflow's auth manager, under a key of exactly that
SESSION_ID: one without the other opens nothing, and neither shows a secret. Both are Fernet tokens under the API server's
secret key, so any process of it reads what another one made, and both expire.
"""

from __future__ import annotations

import base64
import hmac
import os
import time

from cryptography.fernet import Fernet, InvalidToken


class Sessions:
    """The maker and reader of the cookies.

    :param secret: what all processes of the API server share.
    :param seconds: how long a cookie that is made here is valid, wherever it is opened.
    """

    def __init__(self, secret: str, seconds: float) -> None:
        self._secret, self._seconds = secret.encode(), seconds

    def new_id(self) -> str:
        """Return a new SESSION_ID."""
        return self._made("SESSION_ID", os.urandom(16).hex())

    def valid_id(self, session_id: str) -> bool:
        """Whether it is ours and still valid; compared in constant time."""
        return self._opened("SESSION_ID", session_id) != ""

    def seal(self, session_id: str, token: str) -> str:
        """Return SESSION_INFO for this session and token."""
        return self._made(f"SESSION_INFO {session_id}", token)

    def open(self, session_id: str, info: str) -> str:
        """Return the token; empty when a cookie is not ours, expired, or the two do not belong together."""
        return self._opened(f"SESSION_INFO {session_id}", info) if self.valid_id(session_id) else ""

    def _fernet(self, use: str) -> Fernet:
        key = hmac.digest(self._secret, f"account-merge edubrite {use}".encode(), "sha256")
        return Fernet(base64.urlsafe_b64encode(key))

    def _made(self, use: str, text: str) -> str:
        # The expiry stands inside: Fernet's own TTL would be that of the process which opens the cookie.
        expiry = int(time.time() + self._seconds)
        # Old clients do not know quoted cookies, and `=` is quoted.
        return self._fernet(use).encrypt(f"{expiry} {text}".encode()).decode().rstrip("=")

    def _opened(self, use: str, cookie: str) -> str:
        raw = cookie.encode()
        try:
            expiry, _, text = self._fernet(use).decrypt(raw + b"=" * (-len(raw) % 4)).decode().partition(" ")
        except InvalidToken:
            return ""
        return text if time.time() < int(expiry) else ""
