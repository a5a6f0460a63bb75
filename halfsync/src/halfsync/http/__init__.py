"""HTTP/1.1 and HTTP/2 on twisted.web, bounded and drained, for WSGI applications and resources alike.

A request's way: `site` (what is open, what it costs, how it ends) -> `channel` (a connection, its deadlines)
-> `request` -> the resource. What arrives is read by `strict`: a `head`, then its `body`.
For WSGI the resource is the gateway in `wsgi`, which sends an `exchange` through a thread;
`environ` is its way in, `response` what it may answer.
`pace` tells slow clients from stalled ones, `spool` is where their answers wait.
`listener` has the flags, `bounds` what they bound, `access_log` what is known afterwards.

Over TLS a client may choose HTTP/2: then `h2` is the connection, on hyper-h2 (`h2_session`),
and an `h2_stream` of it stands in for a channel; `h2_head` is what it begins with.
"""
