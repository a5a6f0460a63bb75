"""Types for the code that Thrift's compiler makes: a `.pyi` beside each of its modules.

    python -m halfsync.thrift.stubs hello_service.hello

The compiler's Python (`py:slots`, 0.17) has no annotations, but its tables of fields (`thrift_spec`) say all:
the stubs are made from them, so that they are right for whatever the IDL says now.
In them a method may be answered by a plain function or by an `async` one, and a handler that lacks one
is abstract. A field that a peer may leave out is `X | None`; an argument is `X`, as in the hints of later
compilers: write `1: required string name` where a call without it is to be refused.
"""

from __future__ import annotations

import sys
from importlib import import_module
from inspect import isclass
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from thrift.Thrift import TType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

SCALARS = {
    TType.BOOL: "bool",
    TType.BYTE: "int",
    TType.I16: "int",
    TType.I32: "int",
    TType.I64: "int",
    TType.DOUBLE: "float",
}

IMPORTS = {
    "@abstractmethod": "from abc import abstractmethod",
    "(ABC)": "from abc import ABC",
    "Awaitable[": "from collections.abc import Awaitable",
    "Any": "from typing import Any",
}
"""What a stub may need, by what it then holds."""

HEAD = "# Made from the code beside it by halfsync.thrift.stubs; do not edit.\n"


class Stub:
    """The types of one generated module."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._imports: set[str] = set()

    def text(self) -> str:
        """Return the whole `.pyi`."""
        blocks = list(self._blocks())
        names = "\n".join(f"import {each}" for each in sorted(self._imports))
        used = [line for name, line in IMPORTS.items() if any(name in block for block in blocks)]
        head = "\n".join(filter(None, [*used, names]))
        return "\n".join(filter(None, [HEAD + head, *blocks])).rstrip("\n") + "\n"

    def _blocks(self) -> Iterator[str]:
        if hasattr(self._module, "Iface"):
            yield from self._service()
        elif self._module.__name__.endswith(".constants"):
            yield from self._constants()
        else:
            for thing in vars(self._module).values():
                if isclass(thing) and thing.__module__ == self._module.__name__:
                    yield self._enum(thing) if hasattr(thing, "_VALUES_TO_NAMES") else self._struct(thing)

    def _service(self) -> Iterator[str]:
        module: Any = self._module
        for name in ("Iface", "Client"):
            parents = ["ABC"] if name == "Iface" else ["Iface"]
            extended = getattr(module, name).__mro__[1]
            if extended is module.Iface:
                extended = getattr(module, name).__mro__[2]
            if extended is not object and extended.__module__ != module.__name__:
                parents = [self._name(extended), *(each for each in parents if each != "ABC")]
            lines = [f"class {name}({', '.join(parents)}):"]
            if name == "Client":
                lines.append("    def __init__(self, iprot: Any, oprot: Any = None) -> None: ...")
            for method in vars(module.Iface):
                arguments = getattr(module, f"{method}_args", None)
                if not method.startswith("_") and arguments is not None:
                    lines.append(self._method(method, arguments, may_wait=name == "Iface"))
            yield "\n".join(lines if len(lines) > 1 else [f"{lines[0]} ..."]) + "\n"

    def _method(self, method: str, arguments: Any, *, may_wait: bool) -> str:
        told = "".join(f", {spec[2]}: {self._type(spec[1], spec[3])}" for spec in _fields(arguments))
        result = next(
            (
                self._type(spec[1], spec[3])
                for spec in _fields(getattr(self._module, f"{method}_result", None))
                if spec[0] == 0
            ),
            "None",
        )
        waits = f" | Awaitable[{result}]" if may_wait else ""
        abstract = "    @abstractmethod\n" if may_wait else ""
        return f"{abstract}    def {method}(self{told}) -> {result}{waits}: ..."

    def _struct(self, cls: Any) -> str:
        required = [each for each in cls.validate.__code__.co_consts if isinstance(each, str)]
        base = "(Exception)" if issubclass(cls, Exception) else ""
        attributes, parameters = [], []
        for _, kind, name, detail, default in _fields(cls):
            told = self._type(kind, detail)
            if default is None and f"Required field {name} is unset!" not in required:
                attributes.append(f"    {name}: {told} | None")
                parameters.append(f"{name}: {told} | None = None")
            else:
                attributes.append(f"    {name}: {told}")
                parameters.append(f"{name}: {told} = ...")
        init = f"    def __init__({', '.join(['self', *parameters])}) -> None: ..."
        return "\n".join([f"class {cls.__name__}{base}:", *attributes, init]) + "\n"

    def _enum(self, cls: Any) -> str:
        lines = [f"    {name}: int" for name in cls._NAMES_TO_VALUES]
        lines += ["    _VALUES_TO_NAMES: dict[int, str]", "    _NAMES_TO_VALUES: dict[str, int]"]
        return "\n".join([f"class {cls.__name__}:", *lines]) + "\n"

    def _constants(self) -> Iterator[str]:
        # What a module of constants has beside them, the module of types has, too.
        known = vars(import_module(f"{self._module.__package__}.ttypes"))
        names = [each for each in vars(self._module) if each not in known and not each.startswith("__")]
        if names:
            yield "".join(f"{each}: {self._value(getattr(self._module, each))}\n" for each in names)

    def _value(self, value: Any) -> str:
        if isinstance(value, dict):
            return "dict[Any, Any]"
        if isinstance(value, (list, set, frozenset, tuple)):
            return {list: "list[Any]", set: "set[Any]", frozenset: "frozenset[Any]"}.get(
                type(value), "tuple[Any, ...]"
            )
        return self._name(type(value))

    def _type(self, kind: int, detail: Any) -> str:
        if kind in SCALARS:
            return SCALARS[kind]
        if kind == TType.STRING:
            return "bytes" if detail == "BINARY" else "str"
        if kind in (TType.LIST, TType.SET):
            return f"{'list' if kind == TType.LIST else 'set'}[{self._type(detail[0], detail[1])}]"
        if kind == TType.MAP:
            return f"dict[{self._type(detail[0], detail[1])}, {self._type(detail[2], detail[3])}]"
        return self._name(detail[0])

    def _name(self, cls: type) -> str:
        """Return what a class is called in this stub."""
        if cls.__module__ in {self._module.__name__, "builtins"}:
            return cls.__name__
        self._imports.add(cls.__module__)
        return f"{cls.__module__}.{cls.__name__}"


def _fields(cls: Any) -> list[tuple[Any, ...]]:
    return [] if cls is None else [each for each in cls.thrift_spec or () if each is not None]


def write(package: str) -> list[Path]:
    """Write the stubs of a generated package, and return where they are.

    :raises ImportError: when there is no such package.
    """
    made = import_module(package)
    written = []
    for found in iter_modules(made.__path__):
        if not found.ispkg:
            module = import_module(f"{package}.{found.name}")
            path = Path(str(module.__file__)).with_suffix(".pyi")
            path.write_text(Stub(module).text(), encoding="utf-8")
            written.append(path)
    # Its __all__ names modules that a type checker does not see there.
    path = Path(str(made.__file__)).with_suffix(".pyi")
    path.write_text(HEAD, encoding="utf-8")
    return [*written, path]


def main(packages: Sequence[str]) -> int:
    """Write the stubs of the packages that are named."""
    if not packages:
        print("usage: python -m halfsync.thrift.stubs PACKAGE...", file=sys.stderr)  # noqa: T201  for a person
        return 2
    for package in packages:
        write(package)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
