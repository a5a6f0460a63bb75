from __future__ import annotations

import pytest

from halfsync.manhole.options import Terms, terms

EXPIRES = 1_767_225_600  # 2026-01-01 00:00 UTC


@pytest.mark.parametrize(
    ("patterns", "address", "lets_in"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.10", False),
        ("10.0.0.0/8,192.168.0.0/16", "192.168.3.4", True),
        ("10.0.0.0/8,!10.1.0.0/16", "10.1.2.3", False),
        ("!10.1.0.0/16,10.0.0.0/8", "10.2.2.3", True),
        ("!10.1.2.3", "10.2.2.3", False),
        ("10.0.?.*", "10.0.1.77", True),
        ("10.0.?.*", "10.0.11.77", False),
        ("*", "::1", True),
        ("2001:DB8::/32", "2001:db8::5", True),
        ("2001:db8::/32", "10.0.0.1", False),
        ("*", None, False),
    ],
)
def test_from(patterns, address, lets_in):
    """sshd(8), PATTERNS of ssh_config(5): one must match and none that is negated; no address, no match."""
    refusal = terms([("from", patterns)]).refusal(address, 0)
    assert (refusal is None) == lets_in, refusal


@pytest.mark.parametrize(
    "patterns", ["example.org", "*.example.org", "10.0.0.0/33", "10.0.0.1/8", "", "10.0.0.1,,"]
)
def test_a_from_that_is_not_understood(patterns):
    """Names are not looked up; a network with host bits is a mistake."""
    with pytest.raises(ValueError, match=r"^a from= that holds something else"):
        terms([("from", patterns)])


@pytest.mark.parametrize("text", ["20260101Z", "202601010000Z", "20260101000000Z"])
def test_expiry(text):
    """Up to that second it is valid."""
    found = terms([("expiry-time", text)])
    assert found.refusal(None, EXPIRES - 1) is None
    assert found.refusal(None, EXPIRES) == "the key has expired (expiry-time)"


def test_expiry_in_local_time(monkeypatch):
    """Without a Z it is the server's own."""
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    import time

    time.tzset()
    try:
        assert terms([("expiry-time", "20260101")]).expires == EXPIRES - 7200
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_earliest_expiry_counts():
    """Both were meant."""
    assert terms([("expiry-time", "20270101Z"), ("expiry-time", "20260101Z")]).expires == EXPIRES


@pytest.mark.parametrize("text", ["", "2026", "20261301Z", "20260101 ", "202601010Z", "always"])
def test_an_expiry_that_is_not_understood(text):
    """It must not become a key for ever."""
    with pytest.raises(ValueError, match=r"^an expiry-time= that is no YYYYMMDD"):
        terms([("expiry-time", text)])


@pytest.mark.parametrize(
    ("options", "terminal"),
    [
        (["restrict"], False),
        (["restrict", "pty"], True),
        (["no-pty"], False),
        (["no-x11-forwarding", "user-rc"], True),
    ],
)
def test_what_restricts_a_terminal(options, terminal):
    """Nothing else is there that `restrict` could take away."""
    assert terms((name, None) for name in options) == Terms(terminal=terminal)


@pytest.mark.parametrize(
    "options",
    [
        [("command", "x")],
        [("environment", "A=1")],
        [("cert-authority", None)],
        [("from", None)],
        [("restrict", "x")],
    ],
)
def test_others_are_refused(options):
    """By name, so that the log can say which."""
    with pytest.raises(ValueError, match=f"not honoured: {options[0][0]}$"):
        terms(options)
