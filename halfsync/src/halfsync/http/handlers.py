"""What may be given as that which answers requests, made a handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.web.resource import IResource

if TYPE_CHECKING:
    from halfsync.http.stream import Handler


def answers(given: Any) -> bool:
    """Say whether `as_handler` takes it."""
    return hasattr(given, "handle") or hasattr(given, "resource") or IResource.providedBy(given)


def as_handler(given: Any) -> Handler:
    """Return a handler for what may also be a resource of twisted.web, or an application of klein's.

    :raises TypeError: for anything else; a WSGI application needs threads, which a `Gateway` gives it.
    """
    if hasattr(given, "handle"):
        return cast("Handler", given)
    if hasattr(given, "resource"):
        given = given.resource()
    if IResource.providedBy(given):
        from halfsync.http.resources.handler import Resources  # noqa: PLC0415  a WSGI service does without twisted.web

        return Resources(given)
    raise TypeError(
        f"{given!r} answers no requests: right are a Gateway (for a WSGI application), a resource, a Mount"
    )
