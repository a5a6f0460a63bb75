"""What keeps a service from starting, told to a person."""

from __future__ import annotations


class StartError(Exception):
    """The world does not let a part start: a port is taken, a key is missing. One line, for a person."""
