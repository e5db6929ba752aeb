"""The keys and passwords of one stack: made once at random, kept in a file that only its owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

USERS = {"admin": "admin", "viewer": "viewer"}  # user -> role


def load(home: Path) -> dict[str, str]:
    """The secrets of the stack with this home, made now if there are none."""
    path = home / "secrets.json"
    if not path.exists():
        made = {
            "jwt_secret": secrets.token_urlsafe(48),
            "secret_key": secrets.token_urlsafe(48),
            "fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        } | {f"{user}_password": secrets.token_urlsafe(12) for user in USERS}
        write_private(path, json.dumps(made, indent=2))
    found: dict[str, str] = json.loads(path.read_text())
    return found


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600 that is never, not even for a moment, readable by others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    part.replace(path)
