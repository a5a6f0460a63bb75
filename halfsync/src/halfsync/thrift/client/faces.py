"""The two faces of a client: methods to be awaited in the reactor, and the same ones that block a thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from halfsync.thrift.client.methods import remote_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from halfsync.thrift.client.methods import RemoteMethod

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class Faces(Generic[C]):
    """What calls the methods of a generated Client class `C`.

    `await each.hello("x")` waits in the reactor, `each.blocking.hello("x")` in a thread.
    `await each.call(Hello.Client.hello, "x")` is the first one for type checkers,
    and for a method whose name this class has itself.
    """

    blocking: C
    """The methods for threads: they wait, and have the types of the generated class."""

    def __init__(self, client: type[C], service: str | None) -> None:
        """Have the methods of a generated class.

        :raises TypeError: when it is none.
        """
        self.methods = remote_methods(client, service)
        faces = _Blocking()
        for name, method in self.methods.items():
            setattr(faces, name, partial(self._block, method))
        self.blocking = cast("C", faces)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a method of the service, to be awaited."""
        method = self.__dict__.get("methods", {}).get(name)
        if method is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._await, method)

    async def call(self, method: Callable[Concatenate[C, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the generated class, such as `Hello.Client.hello`; see the class."""
        return cast("T", await self._await(self.methods[method.__name__], *args, **kwargs))

    async def _await(self, method: RemoteMethod, *args: Any, **kwargs: Any) -> Any:
        """Call in the reactor."""
        raise NotImplementedError

    def _block(self, method: RemoteMethod, *args: Any, **kwargs: Any) -> Any:
        """Call in a thread."""
        raise NotImplementedError


class _Blocking:
    """Has a function for each method."""
