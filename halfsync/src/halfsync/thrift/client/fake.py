"""A service for tests: it answers what the test says, to both faces, without a network.

    greeter = FakeRpc(Hello.Client)
    greeter.answers("hello", "Hello, Anna!")
    assert page(greeter) == "Hello, Anna!"
    assert greeter.calls == [("hello", {"name": "Anna"})]

It is an `RpcClient`, to type checkers too.
Arguments and answers must be of the types that the IDL gives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from halfsync.client.errors import CallError
from halfsync.deadline import DeadlineExceeded
from halfsync.thrift.client.rpc import RpcClient
from halfsync.thrift.header import BINARY

if TYPE_CHECKING:
    from halfsync.thrift.client.methods import RemoteMethod

C = TypeVar("C")


class FakeRpc(RpcClient[C]):
    """Answers from a list; every call that was made is in `calls`."""

    def __init__(self, client: type[C]) -> None:
        """Stand for a service.

        :param client: the class that the compiler made, such as `Hello.Client`.
        """
        super().__init__(client, "tcp:fake.invalid:1", reactor=None)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """The method's name and its arguments, by name."""
        self._answers: dict[str, list[Any]] = {}

    def answers(self, method: str, value: Any = None, *, error: BaseException | None = None) -> None:
        """Say what to answer to a method; given twice, one after the other; the last, ever again.

        :param error: what to raise instead: an exception that the IDL declares, or one of the client's own,
            such as `DeadlineExceeded()` or `RemoteError(errors.FORBIDDEN, "forbidden")`.
        :raises ValueError: when there is no such method, or it has no such answer.
        """
        known = self.methods.get(method)
        if known is None:
            raise ValueError(f"{method!r} is no method of the service")
        own = isinstance(error, CallError | DeadlineExceeded)
        self._answers.setdefault(method, []).append(error if own else known.answer(value, error))

    async def _await(self, method: RemoteMethod, *args: Any, **kwargs: Any) -> Any:
        return self._block(method, *args, **kwargs)

    def _block(self, method: RemoteMethod, *args: Any, **kwargs: Any) -> Any:
        method.encode(BINARY, args, kwargs)
        self.calls.append((method.name, method.bind(args, kwargs)))
        known = self._answers.get(method.name)
        if known is None:
            if method.is_oneway:
                return None
            raise AssertionError(f"the test gave no answer to {method.name}")
        answer = known.pop(0) if len(known) > 1 else known[0]
        if isinstance(answer, BaseException):
            raise answer
        return None if answer is None else method.outcome(answer)
