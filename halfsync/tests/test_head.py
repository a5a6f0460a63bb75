"""The head of a request, by its bytes: with what status each fault is refused, and what is remembered."""

from __future__ import annotations

import pytest

from halfsync.http import head
from halfsync.http.head import KNOWN_BLOCKS, KNOWN_NAMES, KNOWN_SIZE, LONGEST_NAME, Refused, is_host, read

HOST = "\r\nHost: example.org"


def refusal(text: str, *, max_headers: int = 100) -> int | None:
    """Return the status of the refusal; None when the head is taken."""
    try:
        read(text.encode("latin-1"), max_headers)
    except Refused as refused:
        return refused.code
    return None


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET / HTTP/1.1" + HOST, None),
        ("GET / HTTP/1.1", 400),
        ("GET / HTTP/1.0\r\nContent-Length: 0", None),
        ("GET / HTTP/1.1" + HOST + "\r\nX: \x01", 400),
        ("GET / HTTP/1.1" + HOST + "\r\nHost: other.org", 400),
        ("GET / HTTP/2.0" + HOST, 505),
        ("CONNECT example.org:80 HTTP/1.1" + HOST, 501),
        ("POST / HTTP/1.1" + HOST + "\r\nTransfer-Encoding: gzip, chunked", 501),
        ("POST / HTTP/1.1" + HOST + "\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
        ("POST / HTTP/1.1" + HOST + "\r\nContent-Length: 1\r\nContent-Length: 2", 400),
        ("GET / HTTP/1.1" + HOST + "\r\n" + "x" * LONGEST_NAME + ": 1", None),
        ("GET / HTTP/1.1" + HOST + "\r\n" + "x" * (LONGEST_NAME + 1) + ": 1", 431),
    ],
)
def test_each_fault_has_its_status(text, status):
    """What the client is told is the status of RFC 9110 for its fault, and none is taken for another."""
    assert refusal(text) == status


def test_one_header_too_many_is_431():
    """As many as there may be are taken."""
    text = "GET / HTTP/1.1" + HOST + "\r\nX-A: 1\r\nX-B: 2"
    assert (refusal(text, max_headers=3), refusal(text, max_headers=2)) == (None, 431)


def test_what_is_remembered_of_heads_is_bounded():
    """Clients choose heads, hosts and names: a million different ones cost no more memory than a few."""
    for number in range(KNOWN_BLOCKS + KNOWN_NAMES + 10):
        assert refusal(f"GET / HTTP/1.1\r\nHost: h{number}.example\r\nX-N{number}: {number}") is None
        assert len(head._blocks) <= KNOWN_BLOCKS
    assert is_host("one.more.example")
    assert len(head._hosts) == len(head._names) == KNOWN_NAMES
    before = set(head._blocks)
    assert refusal("GET / HTTP/1.1" + HOST + "\r\nX: " + "y" * KNOWN_SIZE) is None
    assert set(head._blocks) == before


def test_a_name_with_an_underscore_reaches_no_application():
    """`X_User` and `X-User` would be one variable, and a proxy that removes the one lets the other pass."""
    text = "GET / HTTP/1.1" + HOST + "\r\nX_User: root\r\nX-User: ada"
    assert read(text.encode(), 100).variables["HTTP_X_USER"] == "ada"
