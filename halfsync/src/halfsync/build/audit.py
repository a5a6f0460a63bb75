"""Whether requirements.lock has what a database of advisories warns of; pip-audit asks it.

pip-audit is fetched when it is wanted, as audit.lock beside this names it and all that it needs, each with
its hashes. It lies in `.tools` in a folder of its own: it is no part of what a service is built with.
It asks OSV, or the address in `PIP_AUDIT_OSV_URL`, and is told of no file but the lock.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.build.project import Project

LOCK = Path(__file__).with_name("audit.lock")
"""Made by the template's `make locks`."""


def audit(project: Project, more: Sequence[str] = ()) -> list[str]:
    """Return a line for each advisory, and one for how many distributions were looked up.

    :param more: further arguments of pip-audit, such as `--ignore-vuln=PYSEC-2026-1`.
    :raises BuildError: when tool or database cannot be reached, or the tool is not what its lock names.
    """
    environ = {**os.environ, "PYTHONPATH": str(_tool(project))}
    command = [sys.executable, "-m", "pip_audit"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off"]
    command += ["--require-hashes", "--disable-pip", "--requirement", "requirements.lock", *more]
    done = run(command, project.root, environ)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise BuildError(f"not audited: the database that {_pin()} asks is not reachable: {reason}") from None
    asked = [each for each in found if "version" in each]
    lines = [_line(each, advisory) for each in asked for advisory in each["vulns"]]
    return [*lines, f"{len(asked)} distributions of requirements.lock looked up: {len(lines)} advisories"]


def _tool(project: Project) -> Path:
    """Return the folder that has pip-audit; fetch it when it is not there."""
    tools = project.root / ".tools"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    folder = tools / f"pip-audit-{digest[:16]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=tools) as name:
            part = Path(name) / "part"
            command = [
                str(Path(sys.executable).with_name("uv")),
                "pip",
                "install",
                "--quiet",
                "--system-certs",
            ]
            command += ["--python", sys.executable, "--require-hashes", "--no-deps", "--target", str(part)]
            done = run([*command, "--requirement", str(LOCK)], project.root)
            if done.returncode != 0:
                raise BuildError(f"not audited: {_pin()} cannot be fetched: {last_words(done)}")
            # Whole or not there: a run that is broken off leaves nothing that passes for it.
            part.rename(folder)
    return folder


def _pin() -> str:
    (pin,) = re.findall(r"(?m)^pip-audit==[^ \n]+", LOCK.read_text(encoding="utf-8"))
    return str(pin)


def _line(found: dict[str, Any], advisory: dict[str, Any]) -> str:
    fixed = ", ".join(advisory["fix_versions"]) or "none yet"
    names = " ".join(dict.fromkeys([advisory["id"], *advisory["aliases"]]))
    return f"{found['name']} {found['version']}: {names}: fixed in {fixed}"
