# Made from the code beside it by halfsync.thrift.stubs; do not edit.
from abc import abstractmethod
from abc import ABC
from collections.abc import Awaitable
from typing import Any
class Iface(ABC):
    @abstractmethod
    def hello(self, name: str) -> str | Awaitable[str]: ...

class Client(Iface):
    def __init__(self, iprot: Any, oprot: Any = None) -> None: ...
    def hello(self, name: str) -> str: ...
