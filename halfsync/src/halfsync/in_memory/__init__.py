"""Requests without sockets, for `halfsync.testing`: a client, and what a test sees of a response."""
