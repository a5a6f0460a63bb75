"""The names of Twisted that are not public and that the library uses nevertheless, each with its reason.

No other module may touch a private name of Twisted (SLF001 stands guard).
They were tested with Twisted 26.10; `tests/test_private_names.py` fails when one of them changes its meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twisted.internet.abstract import FileDescriptor


def waiting(transport: FileDescriptor) -> int:
    """Return how many bytes wait in a transport's memory for the peer: in its buffer, and not yet joined.

    Nothing public tells: `write` appends to a list, which `doWrite` joins to the buffer.
    """
    inside: Any = transport
    count: int = len(inside.dataBuffer) - inside.offset + inside._tempDataLen  # noqa: SLF001  see above
    return count
