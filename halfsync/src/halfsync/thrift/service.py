"""A service: what the compiler made of the IDL, and the handler that answers its methods.

    service = Service(Hello, HelloHandler())        # Hello is the generated module

A method of the handler is a plain function, which runs in a thread, or `async`, and runs in the reactor.
Of the generated code only its types are used. Its Processor is not: see `processor`.
"""

from __future__ import annotations

import inspect
import sys
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from thrift.Thrift import TException

from halfsync.thrift.checks import Checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from halfsync.thrift.checks import Check


class Method:
    """A method that can be called."""

    __slots__ = (
        "arguments",
        "check_replaced",
        "check_required",
        "check_result",
        "function",
        "get",
        "has_result",
        "is_async",
        "label",
        "name",
        "number",
        "raises",
        "result",
        "service",
    )

    def __init__(self, service: str, name: str, module: Any, function: Callable[..., Any]) -> None:
        self.service = service
        self.name = name
        self.label = f"{service}.{name}"
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.arguments: type[Any] = getattr(module, f"{name}_args")
        names = [spec[2] for spec in self.arguments.thrift_spec or () if spec is not None]
        self.number = len(names)
        self.get: Callable[[Any], Any] | None = attrgetter(*names) if names else None
        self.check_required: Check | None = Checks("required").of_struct(self.arguments)
        self.check_replaced: Check | None = Checks("replaced").of_struct(self.arguments)
        self.result: type[Any] | None = getattr(module, f"{name}_result", None)
        """None for a oneway method."""
        self.has_result = False
        self.check_result: Check | None = None
        self.raises: list[tuple[type[BaseException], str]] = []
        """The exceptions that the IDL declares, and the fields that carry them."""
        if self.result is not None:
            fields = [spec for spec in self.result.thrift_spec or () if spec is not None]
            self.has_result = any(spec[0] == 0 for spec in fields)
            self.check_result = Checks("returned").of_struct(self.result)
            self.raises = [
                (spec[3][0], spec[2])
                for spec in fields
                if spec[0] != 0 and issubclass(spec[3][0], TException)
            ]
        _check_signature(self.label, function, names)

    def call(self, arguments: Any) -> Any:
        """Call the handler."""
        if self.get is None:
            return self.function()
        if self.number == 1:
            return self.function(self.get(arguments))
        return self.function(*self.get(arguments))


class Service:
    """The methods of one service in the IDL, with those that it inherits, and their handler."""

    def __init__(self, module: ModuleType, handler: object, *, name: str | None = None) -> None:
        """Serve what a generated module describes.

        :param name: what multiplexing clients call it; the module's own name when it is None.
        :raises TypeError: when the handler lacks a method, or takes other arguments.
        """
        self.name = name or module.__name__.rpartition(".")[2]
        self.methods: dict[str, Method] = {}
        for method, home in methods_of(module):
            function = getattr(handler, method, None)
            stub = getattr(home.Iface, method)
            if not callable(function) or getattr(function, "__func__", None) is stub:
                raise TypeError(f"the handler of {self.name} has no method {method}")
            self.methods[method] = Method(self.name, method, home, function)


def lookup(services: list[Service]) -> dict[bytes, Method]:
    """Return every method by the name that stands in a message: `hello`, and `Hello:hello` when multiplexed.

    Without a prefix, a name is that of the first service that has it.
    """
    found: dict[bytes, Method] = {}
    for service in services:
        for name, method in service.methods.items():
            found[f"{service.name}:{name}".encode()] = method
            found.setdefault(name.encode(), method)
    return found


def methods_of(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names of the methods, each with the generated module that has its types."""
    seen = set()
    for cls in module.Iface.__mro__[:-1]:
        home = sys.modules[cls.__module__]
        for name in vars(cls):
            if not name.startswith("_") and name not in seen and hasattr(home, f"{name}_args"):
                seen.add(name)
                yield name, home


def _check_signature(label: str, function: Callable[..., Any], names: list[str]) -> None:
    try:
        inspect.signature(function).bind(*names)
    except TypeError as error:
        raise TypeError(f"the handler of {label} does not take ({', '.join(names)}): {error}") from None
    except ValueError:
        # A builtin may tell no signature.
        return
