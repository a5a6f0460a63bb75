"""HTTP/1.1 on twisted.web, bounded and drained, for WSGI applications and twisted.web resources alike.

A request's way: `site` (what is open, what it costs, how it ends) -> `channel` (a connection, its deadlines)
-> `request` -> the resource. What arrives is read by `strict`: a `head`, then its `body`.
For WSGI the resource is the gateway in `wsgi`, which sends an `exchange` through a thread;
`environ` is its way in, `response` what it may answer.
`listener` has the flags, `bounds` what they bound, `access_log` what is known afterwards.
"""
