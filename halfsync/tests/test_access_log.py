from __future__ import annotations

import pytest

from halfsync.http.access_log import PATH_LENGTH, Asked


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        (b"GET /a?token=x HTTP/1.1\r\n", ("GET", "/a")),
        (b"\r\n\r\nPOST /b HT", ("POST", "/b")),
        (b"GET /half", ("GET", "/half")),
        (b"GET ", ("GET", "")),
        (b"GET", ("", "")),
        (b"", ("", "")),
        (b"\x16\x03\x01 \x00", ("", "")),
        (b"GET /\xff\x1b[2J HTTP/1.1", ("GET", "/\\xff\x1b[2J")),
        (b"X" * 21 + b" /", ("", "")),
        (b"GET /" + b"x" * 100_000, ("GET", "/" + "x" * (PATH_LENGTH - 1))),
    ],
)
def test_what_was_asked_is_told_as_far_as_it_was_read(data, asked):
    """Method and path, bounded, without the query; nothing of what is no request."""
    assert Asked.begun(data) == asked
