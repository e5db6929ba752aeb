"""The keys and passwords of one stack: made once at random, kept in a file that only its owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

USERS = {"admin": "admin", "operator": "op", "viewer": "viewer"}  # user -> role; two that may approve


def load(home: Path) -> dict[str, str]:
    """Return the secrets of the stack with this home; make those that are missing."""
    path = home / "secrets.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    made = {
        "jwt_secret": secrets.token_urlsafe(48),
        "secret_key": secrets.token_urlsafe(48),
        "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
    } | {f"{user}_password": secrets.token_urlsafe(12) for user in USERS}
    if made.keys() - found.keys():
        found = made | found
        write_private(path, json.dumps(found, indent=2))
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 that is never, not even for a moment, readable by others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    part.replace(path)
