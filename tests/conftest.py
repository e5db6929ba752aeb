"""Real servers for the tests: started once on free ports, in a home of their own, so that they run beside a demo.

A server that does not start fails the tests that need it; none is skipped. `ACCOUNT_MERGE_TEST_STACK` may name the
home of a stack that is up, which the tests then use and leave running.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
for _folder in (ROOT / "include", ROOT):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

from local import cql, provision  # noqa: E402
from local.airflow_parts import AIRFLOW_PORT_NAMES  # noqa: E402
from local.config import Config  # noqa: E402
from local.processes import tail  # noqa: E402
from local.stack import Stack  # noqa: E402

if TYPE_CHECKING:
    from account_merge.service import Service
    from account_merge.settings import Settings
    from cassandra.cluster import Cluster, Session
