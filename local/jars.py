"""The class path of each Java server: fetched once per content of its pom.xml, by Maven or else by the wheel jgo.

A fetch that is aborted leaves no folder that a later one would take for complete, and two at once do no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import ssl
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from local import tools
from local.config import Config, StackError

HERE = Path(__file__).resolve().parent
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
#: Libraries for other machines, which only take up room.
ALIENS = ("*osx*", "*windows*", "*riscv64*")


def coordinates(server: str) -> list[tuple[str, str, str]]:
    """Return (group, artifact, version) of each dependency in the server's pom.xml; the first is the server itself."""
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    root = ElementTree.parse(HERE / server / "pom.xml").getroot()  # noqa: S314 - our own file
    found = []
    for node in root.findall("m:dependencies/m:dependency", space):
        parts = [node.findtext(f"m:{part}", "", space) for part in ("groupId", "artifactId", "version")]
        found.append((parts[0], parts[1], parts[2]))
    return found


def folder(config: Config, server: str) -> Path:
    """Return the folder where this server's jars are, or will be after `fetch`."""
    content = (HERE / server / "pom.xml").read_bytes()
    return config.cache / f"{server}-{hashlib.sha256(content).hexdigest()[:12]}"


def fetch(config: Config, server: str) -> Path:
    """Return the folder of the server's jars, fetched if it is not there yet."""
    lib = folder(config, server)
    if lib.exists():
        return lib
    part = lib.with_name(f"{lib.name}.part{os.getpid()}")
    part.mkdir(parents=True)
    try:
        maven = tools.maven()
        if maven:
            _by_maven(maven, server, part)
        else:
            _by_jgo(server, part)
        for alien in ALIENS:
            for jar in part.glob(alien):
                jar.unlink()
        with contextlib.suppress(OSError):  # somebody else was faster: theirs is as good
            part.rename(lib)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return lib


def _by_maven(maven: str, server: str, target: Path) -> None:
    command = [maven, "-q", "-B", "-f", str(HERE / server / "pom.xml"), f"{PLUGIN}:copy-dependencies",
               "-DincludeScope=runtime", f"-DoutputDirectory={target}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise StackError(
            f"Maven could not fetch the jars of {server}. Check the network and Maven's settings, then run `make up`"
            f" again. It said:\n{(done.stdout + done.stderr)[-2000:]}"
        )


def _by_jgo(server: str, target: Path) -> None:
    """Resolve the server with all it needs, and each further dependency alone.

    Together, the version rules of a logging library would leak into the server's own libraries.
    """
    from jgo.maven import Dependency, MavenContext

    _trust_this_machine()
    context = MavenContext(timeout=60)
    (group, artifact, version), *others = coordinates(server)
    try:
        component = context.project(group, artifact).at_version(version)
        inputs, transitive = context.resolver.resolve([Dependency(component.artifact(), scope="compile")])
        artifacts = [d.artifact for d in (*inputs, *transitive) if d.scope in (None, "compile", "runtime")]
        artifacts += [context.project(g, a).at_version(v).artifact() for g, a, v in others]
        for item in artifacts:
            path = item.resolve()
            shutil.copyfile(path, target / path.name)
    except (OSError, RuntimeError, ValueError) as error:
        raise StackError(
            f"The jars of {server} could not be fetched: {error}. Check the network, or install Maven, which knows"
            " mirrors and proxies; then run `make up` again."
        ) from error


def _trust_this_machine() -> None:
    """Let `requests` trust the authorities that this machine and pip trust, not only those in its own wheel."""
    known = (os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile)
    bundle = next((path for path in known if path and Path(path).exists()), None)
    if bundle:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", bundle)
