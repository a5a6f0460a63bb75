"""Outgoing calls that survive their peers: `HttpClient` (in `http`), its errors, `relay` for proxies.

A call's way: `http` (one deadline over all) -> `tries` (which address, when again) -> `connector` (treq).
Without HTTP in them: `budget` of retries, `breaker`, `balancer` over `addresses`, `places` below the cap,
`latencies` for hedging. `fake` is a peer for tests.
"""
