"""Websockets (RFC 6455) at a path of a listener, bounded and drained."""
