"""HTTP/2 (RFC 9113). `session` is its state, bytes in and out; `connection` and `stream` are above it."""
