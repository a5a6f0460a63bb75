"""What a file is made to run on: this machine's Python, or several Pythons on several platforms."""

from __future__ import annotations

import json
import platform
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging import tags
from packaging.markers import default_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PYTHONS = ((3, 11), (3, 12), (3, 13))
"""Those that the library supports."""
MACHINES = {"x86_64": 5, "aarch64": 17}
"""Processors, as `uname -m` names them, with the oldest glibc, 2.x, that wheels were made for."""
GLIBC = 28
"""The newest glibc, 2.x, that a wheel may need: RHEL 8, Debian 10 and Ubuntu 18.10 have it."""
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True)
class Target:
    """A minor version of CPython on Linux with glibc, on one kind of processor."""

    python: tuple[int, int]
    machine: str

    @property
    def minor(self) -> str:
        """The version as people write it: `3.11`."""
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def platforms(self) -> list[str]:
        """The platform tags of wheels that run there, best first (PEP 600)."""
        found = []
        for minor in range(GLIBC, MACHINES[self.machine] - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _OLD_NAMES:
                found.append(f"{_OLD_NAMES[minor]}_{self.machine}")
        return [*found, f"linux_{self.machine}"]

    @property
    def environment(self) -> Mapping[str, str]:
        """The values of the markers of requirements there (PEP 508)."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.minor}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.minor}.0",
            "python_version": self.minor,
            "sys_platform": "linux",
        }

    def complete_platform(self) -> str:
        """Return what pex takes as `--complete-platform`."""
        return json.dumps(
            {"compatible_tags": [str(each) for each in self._tags()], "marker_environment": self.environment}
        )

    def _tags(self) -> Iterator[tags.Tag]:
        abi = f"cp{self.python[0]}{self.python[1]}"
        yield from tags.cpython_tags(self.python, [abi], self.platforms)
        yield from tags.compatible_tags(self.python, abi, self.platforms)


def everywhere(oldest: tuple[int, int]) -> list[Target]:
    """Return every Python from the oldest that the service takes on, each on every platform."""
    return [Target(python, machine) for python in PYTHONS if python >= oldest for machine in MACHINES]


@dataclass(frozen=True)
class Aim:
    """What one file is for, as its facts tell it."""

    pythons: Sequence[str]
    system: str
    """As `sys.platform` begins."""
    machines: Sequence[str]
    environments: Sequence[Mapping[str, str]]
    glibc: int = 0
    """The oldest glibc, 2.x, that has what the wheels need; 0 when they need none."""

    def platforms(self) -> list[str]:
        """Name each kind of machine, with what it must have."""
        library = f" with glibc >= 2.{self.glibc}" if self.glibc else ""
        return [f"{self.system}-{machine}{library}" for machine in self.machines]

    def wanted(self) -> str:
        """Say in words what a machine must have."""
        library = f" with glibc 2.{self.glibc} or newer" if self.glibc else ""
        return f"CPython {_either(self.pythons)} on {self.system.title()} ({_either(self.machines)}){library}"

    def with_wheels(self, names: Sequence[str]) -> Aim:
        """Return what a file is for once it has wheels with these file names (PEP 600)."""
        return replace(self, glibc=max(map(_glibc, names), default=0))


def here() -> Aim:
    """Return the Python that runs this, on this machine."""
    environment = {name: str(value) for name, value in default_environment().items()}
    return Aim([minor()], sys.platform, [platform.machine()], [environment])


def aim(targets: Sequence[Target]) -> Aim:
    """Return what a file for several targets is for."""
    machines = [each for each in MACHINES if any(target.machine == each for target in targets)]
    pythons = sorted({target.python for target in targets})
    return Aim(
        [f"{major}.{minor}" for major, minor in pythons],
        "linux",
        machines,
        [target.environment for target in targets],
    )


def _glibc(wheel: str) -> int:
    found = [int(each) for each in re.findall(r"manylinux_2_(\d+)_", wheel)]
    found += [minor for minor, name in _OLD_NAMES.items() if name in wheel]
    return min(found, default=0)


def _either(words: Sequence[str]) -> str:
    return " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"


def minor() -> str:
    """Return the minor version of the Python that runs this."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
