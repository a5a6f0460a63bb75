"""Why an RPC was not answered with a result, beside what `halfsync.client.errors` has."""

from __future__ import annotations

from halfsync.client.errors import CallError
from halfsync.thrift.errors import NAMES, RETRYABLE


class RemoteError(CallError):
    """The server answered with an error that the IDL does not declare (a TApplicationException).

    It is no `RpcError`: a handler that lets it pass answers `internal error` to its own client, and never
    says of its own call what the other server said of another one.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        """The exception's `type`; those that are known are in `halfsync.thrift.errors`."""

    @property
    def name(self) -> str:
        """What log and metrics call it, such as `forbidden`; `other` for a number that is not known."""
        return NAMES.get(self.number, "other")

    @property
    def retryable(self) -> bool:
        """Whether the server says that it did not begin the call."""
        return self.number in RETRYABLE


class LoginFailed(CallError):  # noqa: N818  what happened
    """The server did not let us in, or did not prove that it knows the password; it has seen no call."""
