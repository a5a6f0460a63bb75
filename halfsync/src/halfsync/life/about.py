"""What the process is called: the few facts that every part may show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """The identity of a service."""

    name: str
    """As people write it, and as its pex and unit are called: `hello-service`."""
    package: str
    """As Python imports it; in upper case, the prefix of its environment variables: `hello_service`."""
    version: str
    summary: str
    """One line."""
