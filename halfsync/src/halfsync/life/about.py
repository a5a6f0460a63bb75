"""What the process is called: the few facts that every part may show."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """The identity of a service."""

    name: str
    """As people write it, and as its pex and unit are called: `hello-service`."""
    package: str = ""
    """As Python imports it; in upper case, the prefix of its environment variables: `hello_service`.

    Empty is the name, with what no package can be called replaced by `_`."""
    version: str = "0"
    summary: str = ""
    """One line."""

    def __post_init__(self) -> None:
        if not self.package:
            package = re.sub(r"\W", "_", self.name, flags=re.ASCII).lower()
            object.__setattr__(self, "package", package)
