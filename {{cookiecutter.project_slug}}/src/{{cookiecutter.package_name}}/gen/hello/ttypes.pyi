# Made from the code beside it by halfsync.thrift.stubs; do not edit.

class InvalidName(Exception):
    reason: str | None
    def __init__(self, reason: str | None = None) -> None: ...
