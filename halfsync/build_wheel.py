"""The library's own build backend (PEP 517): a wheel of the same bytes anywhere, by the standard library.

The template builds the wheel into each service that it generates, with whatever Python cookiecutter runs on:
nothing can be fetched there, and the service's lock names the wheel's hash.
setuptools writes the time of the build into its archives; hatchling obeys any `.gitignore` above the folder.
Files are stored, not deflated: zlib's output differs between its versions.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent
LABEL = "vendored"
"""The local version label of the wheel that services carry: no index can supply a version that has one."""


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,  # noqa: ARG001 - PEP 517 passes it
) -> str:
    """Build the wheel into a folder, and return its name (PEP 517).

    :param config_settings: `label` is added to the version: `vendored` gives `0.2.0+vendored`.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    name, release = project["name"], version((config_settings or {}).get("label", ""))
    info = f"{name}-{release}.dist-info"
    members = dict(_sources())
    members[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    members[f"{info}/METADATA"] = _metadata(project, release)
    members[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: build_wheel\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in members.items())
    members[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = f"{name}-{release}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory) / wheel, "w", zipfile.ZIP_STORED) as archive:
        for path, data in members.items():
            member = zipfile.ZipInfo(path)  # of 1980-01-01, the oldest that zip can tell
            member.create_system = 3  # UNIX, wherever it is built
            member.external_attr = 0o100644 << 16
            archive.writestr(member, data)
    return wheel


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """Refuse: PEP 517 asks for the function, and nothing here needs a source archive."""
    raise NotImplementedError("halfsync is built as a wheel only")


def version(label: str = "") -> str:
    """Return the version that `src/halfsync/__init__.py` tells, with a local label when one is given."""
    tree = ast.parse((ROOT / "src" / "halfsync" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value)) + (f"+{label}" if label else "")
    raise ValueError("src/halfsync/__init__.py has no __version__")


def _sources() -> Iterator[tuple[str, bytes]]:
    source = ROOT / "src"
    # By their names as strings: paths sort by the rules of the platform.
    paths = {path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()}
    # For `python -m halfsync.recipes`.
    paths |= {f"halfsync/examples/{path.name}": path for path in (ROOT / "examples").glob("*.py")}
    for name in sorted(paths):
        if not re.search(r"(^|/)(__pycache__|\.[^/]*)(/|$)|\.egg-info/|\.py[co]$|~$", name):
            yield name, paths[name].read_bytes()


def _metadata(project: Mapping[str, Any], release: str) -> bytes:
    requires = [f"Requires-Dist: {each}" for each in project["dependencies"]]
    for extra, needed in project.get("optional-dependencies", {}).items():
        requires.append(f"Provides-Extra: {extra}")
        requires += [f'Requires-Dist: {each}; extra == "{extra}"' for each in needed]
    head = [
        "Metadata-Version: 2.4",
        f"Name: {project['name']}",
        f"Version: {release}",
        f"Summary: {project['description']}",
        f"License-Expression: {project['license']}",
        "License-File: LICENSE",
        *(f"Classifier: {each}" for each in project.get("classifiers", ())),
        *(f"Project-URL: {label}, {url}" for label, url in project.get("urls", {}).items()),
        f"Requires-Python: {project['requires-python']}",
        *requires,
        "Description-Content-Type: text/markdown",
    ]
    readme = (ROOT / str(project["readme"])).read_text(encoding="utf-8")
    return ("\n".join(head) + "\n\n" + readme).encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
