"""The environment of every server: one Python, one set of locked packages, made when it is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "bench"
LOCK = HERE / "requirements.lock"
OPTIONAL = "uwsgi"
"""It comes as C source: a machine without a compiler does without it."""


class Environment:
    """A virtual environment with ours' dependencies and the peers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.missing: dict[str, str] = {}
        """Peers that could not be installed, and why."""

    def program(self, name: str) -> str:
        """Return the path of a program in it."""
        return str(self.folder / "bin" / name)

    def version(self, package: str) -> str:
        """Return the version of a package that was installed."""
        return locked_versions(LOCK.read_text())[package]


def split(lock: str, name: str) -> tuple[str, str]:
    """Return a lock without one package, and that package's entry."""
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE | re.IGNORECASE)
    own = [entry for entry in entries if entry.startswith(f"{name}==")]
    return "".join(entry for entry in entries if entry not in own), "".join(own)


def locked_versions(lock: str) -> dict[str, str]:
    """Return what a lock pins. Where it has several versions of a package, by Python, the last one."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ \n]+)", lock, flags=re.MULTILINE))


def ensure() -> Environment:
    """Make the environment if it is not there, or if the lock or the Python has changed since."""
    environment = Environment(CACHE / "env")
    made_from = environment.folder / "made-from"
    wanted = f"{sys.version}\n{LOCK.read_text()}"
    failure = environment.folder / "uwsgi-failed"
    if not made_from.exists() or made_from.read_text() != wanted:
        print("installing the peers (about half a minute; uWSGI is compiled) ...", flush=True)
        venv.create(environment.folder, clear=True, with_pip=True)
        rest, optional = split(LOCK.read_text(), OPTIONAL)
        rest, builder = split(rest, "setuptools")
        error = _install(environment, builder) or _install(environment, rest)
        if error:
            raise SystemExit(f"The peers cannot be installed:\n{error}")
        error = _install(environment, optional)
        if error:
            failure.write_text(error)
        made_from.write_text(wanted)
    if failure.exists():
        environment.missing["uwsgi"] = "did not compile (it needs gcc and Python's headers)"
    return environment


def _install(environment: Environment, requirements: str) -> str | None:
    """Install, and return what pip said when it could not."""
    path = environment.folder / "part.lock"
    path.write_text(requirements)
    command = [str(environment.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Without isolation sources are built by the setuptools that the lock pins.
    command += ["--require-hashes", "--no-deps", "--no-build-isolation", "--requirement", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stderr[-2000:] if run.returncode else None
