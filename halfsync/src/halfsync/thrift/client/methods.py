"""The methods of a service as its clients see them: arguments to bytes, and answers to results or exceptions.

Of the generated code only its types are used, as in the server; its Client is not run.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from thrift.Thrift import TApplicationException

from halfsync.client.errors import Interrupted
from halfsync.deadline import DeadlineExceeded
from halfsync.thrift import codec, errors
from halfsync.thrift.checks import Checks, Wrong
from halfsync.thrift.client.errors import RemoteError
from halfsync.thrift.message import EXCEPTION
from halfsync.thrift.service import methods_of

if TYPE_CHECKING:
    from halfsync.thrift.message import Message

LONGEST_ERROR = 64 * 1024
"""Bytes of a TApplicationException, which the reactor decodes."""


class RemoteMethod:
    """A method that a server may be asked for."""

    __slots__ = ("_arguments", "_check", "_fields", "_replaced", "_result", "name", "wire_name")

    def __init__(self, module: Any, name: str, prefix: str) -> None:
        self.name = name
        self.wire_name = f"{prefix}{name}".encode()
        self._arguments: type[Any] = getattr(module, f"{name}_args")
        self._fields = [spec[2] for spec in self._arguments.thrift_spec or () if spec is not None]
        self._check = Checks("returned").of_struct(self._arguments)
        self._result: type[Any] | None = getattr(module, f"{name}_result", None)
        self._replaced = None if self._result is None else Checks("replaced").of_struct(self._result)

    @property
    def is_oneway(self) -> bool:
        """Whether no answer comes."""
        return self._result is None

    def encode(self, protocol: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the arguments of a call as bytes.

        :raises TypeError: when there are too many, or one of another name, or one is missing.
        :raises ValueError: when one is not what its type allows; nothing has been sent.
        """
        struct = self._arguments(**self.bind(args, kwargs))
        try:
            if self._check is not None:
                self._check(struct)
            return codec.encode(struct, protocol)
        except Wrong as error:
            raise ValueError(f"{self.name}: {error}") from error

    def decode(self, answer: Message) -> Any:
        """Return the result that an answer holds.

        :raises Exception: the one that the IDL declares and the server answered with.
        :raises RemoteError: when it has neither.
        :raises Interrupted: when the bytes are no answer to this method.
        """
        if self._result is None:
            raise Interrupted(f"{self.name}: an answer to a oneway call")
        try:
            result = codec.decode(
                self._result(), answer.protocol, answer.payload, answer.body, self._replaced
            )
        except Wrong as error:
            raise Interrupted(f"{self.name}: the answer is none: {error}") from error
        return self.outcome(result)

    def outcome(self, result: Any) -> Any:
        """Return or raise what a result struct of the generated module holds."""
        value = None
        has_value = False
        for spec in result.thrift_spec or ():
            if spec is None:
                continue
            held = getattr(result, spec[2])
            if spec[0] == 0:
                has_value = True
                value = held
            elif held is not None:
                raise held
        if has_value and value is None:
            raise RemoteError(errors.MISSING_RESULT, f"{self.name}: the server answered with no result")
        return value

    def answer(self, value: Any = None, error: BaseException | None = None) -> Any:
        """Return the result struct for a value or a declared exception, as the wire brings it; for fakes.

        :raises ValueError: when the method has no such result, and does not declare that exception.
        """
        if self._result is None:
            return None
        specs = [spec for spec in self._result.thrift_spec or () if spec is not None]
        names = [
            spec[2]
            for spec in specs
            if (spec[0] != 0 and isinstance(error, spec[3][0])) or (spec[0] == 0 and error is None)
        ]
        if error is not None and not names:
            raise ValueError(f"{self.name} declares no {type(error).__name__}")
        held: Any = value if error is None else error
        struct = self._result(**{names[0]: held}) if names else self._result()
        check = Checks("returned").of_struct(self._result)
        try:
            if check is not None:
                check(struct)
            codec.encode(struct, 0)
        except Wrong as wrong:
            raise ValueError(f"{self.name}: {wrong}") from wrong
        return struct

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by their names.

        :raises TypeError: when they are not those of the method.
        """
        fields = self._fields
        if len(args) > len(fields):
            raise TypeError(f"{self.name} takes ({', '.join(fields)}), and got {len(args)} arguments")
        given = dict(zip(fields, args, strict=False))
        if twice := given.keys() & kwargs.keys():
            raise TypeError(f"{self.name} got {min(twice)!r} twice")
        given |= kwargs
        if given.keys() != set(fields):
            wrong = min(given.keys() ^ set(fields))
            raise TypeError(f"{self.name} takes ({', '.join(fields)}); look at {wrong!r}")
        return given


def remote_error(answer: Message, peer: str) -> RemoteError | DeadlineExceeded | None:
    """Return the error that an answer holds; None when it holds a result.

    :raises Interrupted: when the bytes are no error.
    """
    if answer.kind != EXCEPTION:
        return None
    if len(answer.payload) > LONGEST_ERROR:
        raise Interrupted(f"{peer} answered with an error of {len(answer.payload)} bytes")
    try:
        held = codec.decode(TApplicationException(), answer.protocol, answer.payload, answer.body, None)
    except Wrong as error:
        raise Interrupted(f"{peer} answered with an error that is none: {error}") from error
    text = f"{peer}: {held.message or 'no reason given'}"
    if held.type == errors.DEADLINE_EXCEEDED:
        return DeadlineExceeded(text)
    return RemoteError(held.type, text)


def remote_methods(client: type[Any], service: str | None) -> dict[str, RemoteMethod]:
    """Return the methods of a generated Client class, with those that its service inherits.

    :param service: the name before each method for a multiplexing server; None for a server with one service.
    :raises TypeError: when the class is none that the compiler made.
    """
    module = sys.modules.get(client.__module__)
    if not hasattr(module, "Iface") or not isinstance(client, type) or not issubclass(client, module.Iface):  # type: ignore[union-attr]
        raise TypeError(f"{client!r} is no Client that Thrift's compiler made, such as Hello.Client")
    prefix = "" if service is None else f"{service}:"
    return {name: RemoteMethod(home, name, prefix) for name, home in methods_of(module)}
