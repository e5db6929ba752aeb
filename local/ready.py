"""A server is ready when it answers one real request of its own protocol; no client library is needed to ask."""

from __future__ import annotations

import json
import socket
import struct
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any

from local.config import LOOPBACK

Entry = dict[str, Any]


def _ask(port: int, request: bytes, length: int) -> bytes:
    with socket.create_connection((LOOPBACK, port), 1) as connection:
        connection.settimeout(2)
        connection.sendall(request)
        return connection.recv(length)


def kafka(entry: Entry) -> bool:
    """Return whether the broker answers ApiVersions without error: it does once it takes part in the cluster."""
    body = struct.pack(">hhih", 18, 0, 7, 2) + b"up"
    answer = _ask(entry["port"], struct.pack(">i", len(body)) + body, 10)
    return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (7, 0)


def cassandra(entry: Entry) -> bool:
    """Return whether the node answers OPTIONS with SUPPORTED."""
    answer = _ask(entry["port"], bytes([4, 0, 0, 0, 5, 0, 0, 0, 0]), 9)
    return len(answer) >= 5 and answer[4] == 6


def postgres(entry: Entry) -> bool:
    """Return whether a whole start-up message is answered by an authentication request ('E' means: still starting)."""
    body = struct.pack(">i", 196608) + b"user\0postgres\0database\0postgres\0\0"
    return _ask(entry["port"], struct.pack(">i", len(body) + 4) + body, 1) == b"R"


#: Our names of Airflow's components -> their names in the health answer.
COMPONENTS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


def health(port: int) -> dict[str, Any]:
    """Return what Airflow's api-server says about all its components."""
    url = f"http://{LOOPBACK}:{port}/api/v2/monitor/health"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise OSError(f"{url}: {error.code}") from error
    return found


def api_server(entry: Entry) -> bool:
    """Return whether the health page answers and the metadata database is healthy."""
    return bool(health(entry["port"])["metadatabase"]["status"] == "healthy")


def component(name: str, entry: Entry) -> bool:
    """Return whether the api-server calls the component healthy, by a heartbeat that is younger than its process."""
    key = COMPONENTS[name]
    found = health(entry["port"])[key]
    beat = found.get(f"latest_{key}_heartbeat")
    return bool(found["status"] == "healthy" and beat and datetime.fromisoformat(beat).timestamp() >= entry["launched"])
