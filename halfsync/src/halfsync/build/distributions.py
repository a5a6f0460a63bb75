"""The wheels that a file is made of: what each says of itself, and whether it is what the lock names."""

from __future__ import annotations

import email
import hashlib
import re
import zipfile
from dataclasses import dataclass
from importlib.metadata import distribution
from typing import TYPE_CHECKING

from halfsync.build.errors import BuildError
from halfsync.build.project import normal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from email.message import Message
    from pathlib import Path

    from halfsync.build.project import Project

LICENSE_FILE = re.compile(r"(?i)(licen[cs]e|copying|notice|authors)[^/]*$|^licenses/")
"""Beside METADATA, or in `licenses/` below it (PEP 639)."""


@dataclass(frozen=True)
class Wheel:
    """A wheel, opened once."""

    file: str
    name: str
    """As indexes compare it."""
    version: str
    sha256: str
    metadata: Message
    licenses: Mapping[str, str]
    """The texts of its licence files, by their names in `.dist-info`."""

    @property
    def license(self) -> str:
        """What it says of its licence: an SPDX expression, else its classifiers, else its own words."""
        if expression := self.metadata.get("License-Expression"):
            return str(expression)
        classifiers = [
            each.rpartition(" :: ")[2]
            for each in self.metadata.get_all("Classifier", ())
            if each.startswith("License :: ") and each != "License :: OSI Approved"
        ]
        words = str(self.metadata.get("License", "")).strip()
        # Some put the whole text there.
        return " AND ".join(classifiers) or (words if "\n" not in words else "")


def read(path: Path) -> Wheel:
    """Open a wheel.

    :raises BuildError: when the file is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = next(
                name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
            )
            folder = info.removesuffix("METADATA")
            metadata = email.message_from_bytes(archive.read(info))
            licenses = {
                name.removeprefix(folder): archive.read(name).decode("utf-8", "replace")
                for name in sorted(archive.namelist())
                if name.startswith(folder) and LICENSE_FILE.match(name.removeprefix(folder))
                if not name.endswith("/")
            }
    except (zipfile.BadZipFile, StopIteration):
        raise BuildError(f"{path}: it is no wheel; make clean, and try again") from None
    return Wheel(
        path.name,
        normal(str(metadata["Name"])),
        str(metadata["Version"]),
        hashlib.sha256(path.read_bytes()).hexdigest(),
        metadata,
        licenses,
    )


def installed(name: str) -> Wheel:
    """Return what an installed distribution says of itself; it has no file.

    :raises PackageNotFoundError: when there is none.
    """
    found = distribution(name)
    texts = {
        "/".join(each.parts[1:]): each.read_text()
        for each in found.files or ()
        if each.parts[0].endswith(".dist-info") and LICENSE_FILE.match("/".join(each.parts[1:]))
    }
    metadata = email.message_from_string(found.read_text("METADATA") or "")
    return Wheel("", normal(name), found.version, "", metadata, dict(sorted(texts.items())))


def read_locked(project: Project, folder: Path) -> list[Wheel]:
    """Open the wheels of a folder, in the order of their names, and compare each with requirements.lock.

    A wheel that was built here is in no lock: the archive that it was built from was compared as it came in.

    :raises BuildError: when one is not what the lock names.
    """
    wheels = [read(path) for path in sorted(folder.glob("*.whl"))]
    locked, built = project.locked(), project.built()
    for wheel in wheels:
        if wheel.sha256 not in locked.get(wheel.name, ()) and wheel.name not in built:
            raise BuildError(
                f"{folder / wheel.file}: requirements.lock does not name it; make clean, and try again"
            )
    return wheels
