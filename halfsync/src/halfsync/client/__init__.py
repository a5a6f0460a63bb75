"""Outgoing calls that survive their peers. Public are the names in `__all__`; see `docs/library.md`.

A call's way: `http` -> `attempts` (one deadline for all, which address, when again) -> `tries`, `connector`.
Without HTTP in them: `attempts`, `budget` of retries, `breaker`, `balancer` over `addresses`,
`places` below the cap, `latencies` for hedging, `trust` for TLS. `fake` is a peer for tests.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfsync.client.errors import (
        CallError,
        CircuitOpen,
        DeadlineExceeded,
        Interrupted,
        NoAddress,
        Overloaded,
        Unreachable,
    )
    from halfsync.client.fake import FakePeer
    from halfsync.client.http import HttpClient
    from halfsync.client.proxy import relay
    from halfsync.client.requests import Response, StreamedResponse
    from halfsync.client.trust import Trust

__all__ = [
    "CallError",
    "CircuitOpen",
    "DeadlineExceeded",
    "FakePeer",
    "HttpClient",
    "Interrupted",
    "NoAddress",
    "Overloaded",
    "Response",
    "StreamedResponse",
    "Trust",
    "Unreachable",
    "relay",
]

_HOMES = {
    "FakePeer": "fake",
    "HttpClient": "http",
    "Response": "requests",
    "StreamedResponse": "requests",
    "Trust": "trust",
    "relay": "proxy",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function has every name

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for: RPC uses the parts without HTTP, and not treq."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
