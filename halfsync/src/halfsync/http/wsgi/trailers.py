"""Fields behind the body of a response (RFC 9110 section 6.5), for clients that say `TE: trailers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfsync.http.body import is_no_trailer
from halfsync.http.wsgi.response import read_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from halfsync.http.stream import RequestHead

    Values = Callable[[], Iterable[tuple[str, str]]]


class Trailers:
    """Those of one response: named before it begins, made when its body has been."""

    def __init__(self, names: Iterable[str], values: Values) -> None:
        """Name them.

        :param values: called when the body has been handed over, in the same thread.
        :raises ValueError: for a name that is none, or that may not stand there (RFC 9110 section 6.5.1).
        """
        if isinstance(names, str):
            raise ValueError(f"names of trailers are a list, not {names!r}")  # noqa: TRY004  as for other names
        self.names = tuple(names)
        self._values = values
        self._known = frozenset(each.lower() for each in self.names)
        for name in self.names:
            if is_no_trailer(name):
                raise ValueError(f"the field {name} may not stand behind a body")
        read_fields([(each, "") for each in self.names])

    def fields(self) -> list[tuple[str, str]]:
        """Have their values made.

        :raises ValueError: for one that was not named, and for a value that HTTP does not allow.
        """
        fields = read_fields(self._values())
        for name, _ in fields:
            if name.lower() not in self._known:
                raise ValueError(f"the trailer {name} was not named before the response began")
        return fields


def takes_trailers(head: RequestHead) -> bool:
    """Say whether the client of a request is ready for trailers (RFC 9110 section 10.1.4)."""
    asked = head.variables.get("HTTP_TE", "").lower().split(",")
    return head.version != "HTTP/1.0" and "trailers" in {each.strip("\t ") for each in asked}


def none_taken(names: Iterable[str], values: Values) -> bool:
    """Stand in for `halfsync.send_trailers` where the client takes none: check the names all the same."""
    Trailers(names, values)
    return False


def by_name(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the trailers of a request by their names in lower case, repeated ones joined."""
    found: dict[str, str] = {}
    for name, value in fields:
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
