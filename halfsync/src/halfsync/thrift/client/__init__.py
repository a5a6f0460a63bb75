"""Outgoing RPC. Public are `RpcClient`, `Credentials`, `FakeRpc`, `RemoteError` and `LoginFailed`.

A call's way: `faces` -> `methods` (to bytes) -> `rpc` (what goes along; `halfsync.client.attempts` tries)
-> `pool` (which connection) -> `connection` (`login`, `credentials`) -> back. `fake` is a service for tests.
"""
