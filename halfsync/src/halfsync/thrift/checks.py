"""What the runtime's codec leaves unchecked in a struct: required fields, text, and bytes.

It decodes bad UTF-8 by replacing it, encodes `bytes` as if they were text and text as if it were bytes,
and nothing calls the `validate` that the compiler makes for required fields, in a struct or in one inside it.
A check is made once for a type, from its `thrift_spec`, and is None where there is nothing to look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from thrift.protocol.TProtocol import TProtocolException
from thrift.Thrift import TType

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], None]

REPLACED = "\N{REPLACEMENT CHARACTER}"


class Wrong(ValueError):  # noqa: N818  it says of a value what it is
    """A value is none that its type allows."""


class Suspicious(Exception):  # noqa: N818  the same
    """A text holds a character that the codec also puts where the bytes were no UTF-8."""


class Checks:
    """The checks of types, of one kind each.

    `required`: whether the required fields are set. `replaced`: whether the codec may have replaced bytes.
    `returned`: whether text is text, binary is binary, and the required fields are set.
    """

    def __init__(self, kind: Literal["required", "replaced", "returned"]) -> None:
        self._kind = kind
        self._made: dict[type, Check | None] = {}
        self._open: set[type] = set()

    def of_struct(self, cls: type[Any]) -> Check | None:
        """Return the check of a struct's values; None when they need none."""
        if cls in self._made:
            return self._made[cls]
        if cls in self._open:
            # It holds itself: the check is looked up when it is needed.
            return lambda value: self._again(cls, value)
        self._open.add(cls)
        fields = [
            (spec[2], check)
            for spec in cls.thrift_spec or ()
            if spec is not None and (check := self._of(spec[1], spec[3])) is not None
        ]
        self._open.discard(cls)
        validate = None if self._kind == "replaced" else getattr(cls, "validate", None)
        if validate is not None and "TProtocolException" not in validate.__code__.co_names:
            validate = None
        self._made[cls] = _struct_check(fields, validate) if fields or validate else None
        return self._made[cls]

    def _again(self, cls: type, value: Any) -> None:
        check = self._made.get(cls)
        if check is not None:
            check(value)

    def _of(self, kind: int, detail: Any) -> Check | None:
        if kind == TType.STRING:
            return self._of_string(binary=detail == "BINARY")
        if kind == TType.STRUCT:
            return self.of_struct(detail[0])
        if kind in (TType.LIST, TType.SET):
            item = self._of(detail[0], detail[1])
            return None if item is None else _items_check(item)
        if kind == TType.MAP:
            key = self._of(detail[0], detail[1])
            value = self._of(detail[2], detail[3])
            return None if key is value is None else _map_check(key, value)
        return None

    def _of_string(self, *, binary: bool) -> Check | None:
        if self._kind == "returned":
            return _check_bytes if binary else _check_text
        return _check_replaced if self._kind == "replaced" and not binary else None


def _struct_check(fields: list[tuple[str, Check]], validate: Check | None) -> Check:
    def check(struct: Any) -> None:
        if validate is not None:
            try:
                validate(struct)
            except TProtocolException as error:
                raise Wrong(str(error.message)) from error
        for name, check_field in fields:
            value = getattr(struct, name)
            if value is not None:
                check_field(value)

    return check


def _items_check(check_item: Check) -> Check:
    def check(items: Any) -> None:
        for item in items:
            check_item(item)

    return check


def _map_check(check_key: Check | None, check_value: Check | None) -> Check:
    def check(mapping: Any) -> None:
        if check_key is not None:
            for key in mapping:
                check_key(key)
        if check_value is not None:
            for value in mapping.values():
                check_value(value)

    return check


def _check_replaced(text: str) -> None:
    if REPLACED in text:
        raise Suspicious


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise Wrong(f"{type(text).__name__} where text (str) belongs")


def _check_bytes(data: Any) -> None:
    if not isinstance(data, bytes):
        raise Wrong(f"{type(data).__name__} where binary (bytes) belongs")
