"""Whether requirements.lock has what a database of advisories warns of; pip-audit asks it.

pip-audit is fetched when it is wanted, in the version named here, and apart from `.tools`: it is no part of
what a service is built with.
It asks OSV, or the address in `PIP_AUDIT_OSV_URL`, and is told of no file but the lock.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync.build.command import run
from halfsync.build.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfsync.build.project import Project

TOOL = "pip-audit==2.10.1"


def audit(project: Project, more: Sequence[str] = ()) -> list[str]:
    """Return a line for each advisory, and one for how many distributions were looked up.

    :param more: further arguments of pip-audit, such as `--ignore-vuln=PYSEC-2026-1`.
    :raises BuildError: when the tool or the database cannot be reached.
    """
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "tool", "run", "--quiet", "--system-certs", "--from", TOOL, "pip-audit"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off"]
    command += ["--require-hashes", "--disable-pip", "--requirement", "requirements.lock", *more]
    done = run(command, project.root)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = said[-1] if said else f"exit code {done.returncode}"
        raise BuildError(
            f"not audited: {TOOL} or the database that it asks is not reachable: {reason}"
        ) from None
    asked = [each for each in found if "version" in each]
    lines = [_line(each, advisory) for each in asked for advisory in each["vulns"]]
    return [*lines, f"{len(asked)} distributions of requirements.lock looked up: {len(lines)} advisories"]


def _line(found: dict[str, Any], advisory: dict[str, Any]) -> str:
    fixed = ", ".join(advisory["fix_versions"]) or "none yet"
    names = " ".join(dict.fromkeys([advisory["id"], *advisory["aliases"]]))
    return f"{found['name']} {found['version']}: {names}: fixed in {fixed}"
