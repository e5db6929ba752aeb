"""Callers of the pages and the API on a running Airflow: nobody, and users by role."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import jwt

APP = "/account-merge"
API = f"{APP}/api/v1"


class Caller:
    """One user, or nobody; answers are never followed nor checked.

    :param token: empty = nobody.
    """

    def __init__(self, url: str, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.token = token
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(API + path, **options)

    def post(self, path: str, body: Mapping[str, Any], key: str = "", **options: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.http.post(API + path, json=body, headers=headers, **options)


def log_in(url: str, username: str, password: str) -> str:
    """The token of a user with a password."""
    answer = httpx.post(f"{url}/auth/token", json={"username": username, "password": password}, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["access_token"])


def as_role(token: str, role: str, secret: str) -> str:
    """The same token for a user of another role of the simple auth manager, signed as Airflow signs it."""
    claims = jwt.decode(token, options={"verify_signature": False}) | {"sub": role, "role": role}
    header = jwt.get_unverified_header(token)
    return jwt.encode(
        claims | {"jti": role}, secret, algorithm=header["alg"], headers={"kid": header.get("kid", "not-used")}
    )
