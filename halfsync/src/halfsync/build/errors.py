"""What keeps a build from going on, told to a person."""

from __future__ import annotations


class BuildError(Exception):
    """One line that names what is wrong, and what would be right."""
