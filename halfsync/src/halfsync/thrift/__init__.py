"""Thrift RPC, half-sync: the reactor holds the connections, threads run the handlers.

An extra: `halfsync[thrift]`.

    rpc.py     service = Service(Hello, HelloHandler())
    main.py    RpcListener.from_flags(service, workers, reactor)

A call's way: `framing` (bytes to frames) -> `connection` -> `job` (a thread) ->
`processor` (`message`, `header`, `codec`, `checks`) -> the handler of a `service` -> back, in one write.
`server` bounds and drains the connections, `login` (`sasl`, `mechanisms`, `users`) lets clients in,
`exposure` keeps unasked ones out, `listener` is the part.
`client` calls other services: `RpcClient`.
"""

from halfsync.thrift.call import Call, Identity, current_call
from halfsync.thrift.client.credentials import Credentials
from halfsync.thrift.client.errors import LoginFailed, RemoteError
from halfsync.thrift.client.fake import FakeRpc
from halfsync.thrift.client.rpc import RpcClient
from halfsync.thrift.errors import (
    DeadlinePassed,
    Forbidden,
    RpcError,
    ServerDraining,
    ServerOverloaded,
)
from halfsync.thrift.listener import RpcListener, workers_from_flags
from halfsync.thrift.service import Service

__all__ = [
    "Call",
    "Credentials",
    "DeadlinePassed",
    "FakeRpc",
    "Forbidden",
    "Identity",
    "LoginFailed",
    "RemoteError",
    "RpcClient",
    "RpcError",
    "RpcListener",
    "ServerDraining",
    "ServerOverloaded",
    "Service",
    "current_call",
    "workers_from_flags",
]
