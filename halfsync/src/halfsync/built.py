"""What a process was built from: the facts that `make pex` puts into the file, read by the process itself.

They are files below the service's own package, in `_build/`: `build.json`, `sbom.json` and `licenses.txt`.
A service that runs from its source has none of them.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

FOLDER = "_build"
FACTS, SBOM, LICENSES = "build.json", "sbom.json", "licenses.txt"


def read(package: str, name: str) -> str | None:
    """Return the text of one of the files; None when there is none.

    :param package: the service's package, as `About.package` has it.
    """
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    for place in (found and found.submodule_search_locations) or ():
        try:
            return (Path(place) / FOLDER / name).read_text(encoding="utf-8")
        except OSError:
            continue
    return None


def facts(package: str) -> dict[str, Any] | None:
    """Return commit, hashes of the locks, version of the library and what it was built with and for."""
    text = read(package, FACTS)
    return None if text is None else json.loads(text)


def lines(package: str) -> list[str]:
    """Return the facts for people, a line each; none for a service that runs from its source."""
    known = facts(package)
    if known is None:
        return []
    commit = known["commit"] or "none: it was built outside a repository"
    return [
        f"commit: {commit}{', and changes that are not in it' if known['changed'] else ''}",
        *(f"{name}: sha256:{digest}" for name, digest in known["locks"].items()),
        f"halfsync: {known['library']}",
        f"pex: {known['pex']}",
        f"for: CPython {', '.join(known['pythons'])} on {', '.join(known['platforms'])}",
    ]
