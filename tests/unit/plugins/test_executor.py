"""The local stack's executor: a task process that it forks finds all modules of our DAGs imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

SCRIPT = """
import runpy, sys
from account_merge_airflow.executor import WarmLocalExecutor

begun = []
executor = WarmLocalExecutor(parallelism=1)
executor._spawn_worker = lambda: begun.append("airflow.sdk.execution_time.task_runner" in sys.modules)
executor.start()
assert begun == [True], begun
before = set(sys.modules)
for path in sys.argv[1:]:
    runpy.run_path(path)
new = set(sys.modules) - before
print(sorted(name for name in new if name.startswith(("account_merge", "airflow.providers", "airflow.sdk.execution"))))
"""


def test_workers_are_forked_when_all_that_our_dags_import_is_there(tmp_path):
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "include"), str(ROOT / "plugins")]), "AIRFLOW_HOME": str(tmp_path),
    }  # fmt: skip
    dags = sorted(str(path) for path in (ROOT / "dags").glob("*.py"))
    command = [sys.executable, "-c", SCRIPT, *dags]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == "[]"
