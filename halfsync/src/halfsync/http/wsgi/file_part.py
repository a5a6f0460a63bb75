"""A part of a file, for `wsgi.file_wrapper`."""

from __future__ import annotations

from typing import Any


class FilePart:
    """So many bytes of a file, from where it stands."""

    def __init__(self, file: Any, left: int) -> None:
        self.file = file
        self.left = left

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of it."""
        data: bytes = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self.file.close()
