"""The plugins folder as Airflow sees it, with a throw-away AIRFLOW_HOME."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Airflow reads its configuration when it is first imported, so this comes before any test imports it.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="account-merge-airflow-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for folder in ("include", "plugins"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))
