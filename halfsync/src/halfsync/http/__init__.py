"""HTTP/1.1 and HTTP/2, bounded and drained, for WSGI applications and resources of twisted.web alike.

A request's way: a `connection` (its deadlines) with its `parser` (bytes in, events out: a `head`, a `body`)
makes a `h1_stream` of it; the `context` that all connections of a listener share hands that to the handler.
`stream` is what all of these agree on. The handler is one of `wsgi` or `resources`, or a `mount` of several.
In `wsgi` an `exchange` goes through a thread; `environ` is its way in, `response` what it may answer.
A body that arrives is an `arrival`, kept in an `upload`; a response that waits for its client is on a
`spool`.
`rate` tells slow clients from stalled ones, `connections` has the deadlines, `site` is the factory.
`listener` has the flags, `bounds` what they bound, `access_log` what is known afterwards.

Over TLS a client may choose HTTP/2: then the connection is one of `h2`. It may also become a `websocket`.
"""
