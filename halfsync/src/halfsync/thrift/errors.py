"""What goes wrong with a call, each with a number that a client can tell apart.

The numbers are the `type` of Thrift's TApplicationException. Up to 10 they are Apache's own (Thrift.py);
11 and 12 are used as fbthrift does (LOADSHEDDING and TIMEOUT); those from 100 on are ours.
"""

from __future__ import annotations

from typing import ClassVar

UNKNOWN_METHOD = 1
INVALID_MESSAGE_TYPE = 2
MISSING_RESULT = 5
INTERNAL_ERROR = 6
PROTOCOL_ERROR = 7
OVERLOADED = 11
DEADLINE_EXCEEDED = 12
DRAINING = 100
FORBIDDEN = 101

RETRYABLE = frozenset((OVERLOADED, DRAINING))
"""With these the server says that it has not begun the call: another try harms nothing."""

NAMES = {
    UNKNOWN_METHOD: "unknown_method",
    INVALID_MESSAGE_TYPE: "invalid_message_type",
    MISSING_RESULT: "missing_result",
    INTERNAL_ERROR: "internal_error",
    PROTOCOL_ERROR: "protocol_error",
    OVERLOADED: "overloaded",
    DEADLINE_EXCEEDED: "deadline_exceeded",
    DRAINING: "draining",
    FORBIDDEN: "forbidden",
}
"""As the log and the metrics call them."""


class FrameError(Exception):
    """The bytes are no frames that can be taken: nothing can be answered, and the connection ends."""


class RpcError(Exception):
    """A call was not answered with a result; a handler may raise one of its subclasses itself."""

    number: ClassVar[int] = INTERNAL_ERROR
    text: ClassVar[str] = "internal error"

    def __init__(self, text: str | None = None) -> None:
        super().__init__(self.text if text is None else text)

    @property
    def retryable(self) -> bool:
        """Whether the server did not begin the call."""
        return self.number in RETRYABLE


class UnknownMethod(RpcError):  # noqa: N818  what the client is told
    """There is no such method, or no such service."""

    number = UNKNOWN_METHOD
    text = "unknown method"


class InvalidMessageType(RpcError):  # noqa: N818  what the client is told
    """A oneway method was called as one with an answer."""

    number = INVALID_MESSAGE_TYPE
    text = "this method is oneway"


class MissingResult(RpcError):  # noqa: N818  what the client is told
    """A handler returned nothing where the method has a result."""

    number = MISSING_RESULT
    text = "missing result"


class InternalError(RpcError):
    """The handler failed with what its method does not declare; the log of the service has it."""


class InvalidArguments(RpcError):  # noqa: N818  what the client is told
    """The arguments cannot be decoded, lack what is required, or have something after them."""

    number = PROTOCOL_ERROR
    text = "invalid arguments"


class ServerOverloaded(RpcError):  # noqa: N818  what the client is told
    """There was no thread and no place to wait, or the call waited too long; it was not begun."""

    number = OVERLOADED
    text = "overloaded; try again later"


class DeadlinePassed(RpcError):  # noqa: N818  what the client is told
    """The time that the client gave was over before the call ended."""

    number = DEADLINE_EXCEEDED
    text = "deadline exceeded"


class ServerDraining(RpcError):  # noqa: N818  what the client is told
    """The process is about to end; the call was not begun."""

    number = DRAINING
    text = "draining; try another process"


class Forbidden(RpcError):  # noqa: N818  what the client is told
    """This client may not call this method."""

    number = FORBIDDEN
    text = "forbidden"


BY_NUMBER: dict[int, type[RpcError]] = {
    each.number: each
    for each in (
        UnknownMethod,
        InvalidMessageType,
        MissingResult,
        InternalError,
        InvalidArguments,
        ServerOverloaded,
        DeadlinePassed,
        ServerDraining,
        Forbidden,
    )
}
