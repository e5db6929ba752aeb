"""Finds the browser, or gets it: CHROMIUM, this machine's own, Playwright's; else Debian's package, else Playwright's download."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def _found(playwright: Any) -> str | None:
    named = os.environ.get("CHROMIUM")
    candidates = [named, *map(shutil.which, NAMES), playwright.chromium.executable_path]
    return next((path for path in candidates if path and Path(path).exists()), None)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    return "" if done.returncode == 0 else f"{' '.join(command)}: {(done.stderr or done.stdout)[-800:]}"


def _get(playwright: Any) -> list[str]:
    problems = []
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        # Lists that are old are no reason to fail: only the package counts.
        _run("apt-get", "update", "-qq")
        problems.append(_run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"))
    if not _found(playwright):
        problems.append(_run(sys.executable, "-m", "playwright", "install", "--with-deps", "chromium"))
    return problems


def executable(playwright: Any) -> str:
    """The path of a Chromium; one that cannot be had fails the tests, with what was tried."""
    found = _found(playwright)
    if found is None:
        problems = _get(playwright)
        found = _found(playwright)
        tried = "\n".join(filter(None, problems))
        assert found, f"No Chromium. Install one, or name it in CHROMIUM. Tried:\n{tried}"
    return found
