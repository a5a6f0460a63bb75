"""Trusted proxies: believed when they are named, in the headers that they set, and nobody else ever."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from halfsync import flag
from halfsync.http.listener import WebListener
from halfsync.http.proxies import Origin, Proxies, TrustedProxies
from halfsync.testing import flags_set
from http_tools import Connection, parse

PROXY = IPv4Address("TCP", "10.0.0.1", 1234)
ALL = {
    "X-Forwarded-For": ["203.0.113.9"],
    "X-Forwarded-Proto": ["https"],
    "X-Forwarded-Host": ["example.com"],
}


def variables(headers):
    """Return headers, each a list of values, as WSGI has them."""
    return {f"HTTP_{name.upper().replace('-', '_')}": ", ".join(values) for name, values in headers.items()}


def origin(headers, *trusted, peer=PROXY, family="x-forwarded"):
    """Ask about a request from a peer; the client as text."""
    found = Proxies(trusted or ["10.0.0.0/8"], headers=family).origin(peer, variables(headers))
    return (found.client and f"{found.client.host} {found.client.port}", found.secure, found.host)


def test_a_named_proxy_is_believed():
    """Address, scheme and host are what it says."""
    assert origin(ALL) == ("203.0.113.9 0", True, "example.com")


@pytest.mark.parametrize("family", ["x-forwarded", "forwarded"])
@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        ("10.0.0.0/8", ("203.0.113.9 0", True, "example.com")),
        ("10.0.0.0/8=for,proto,host", ("203.0.113.9 0", True, "example.com")),
        ("10.0.0.0/8=for", ("203.0.113.9 0", None, None)),
        ("10.0.0.0/8=for,proto", ("203.0.113.9 0", True, None)),
        ("10.0.0.0/8=host", (None, None, "example.com")),
        ("192.0.2.0/24", (None, None, None)),
    ],
)
def test_a_proxy_is_believed_in_what_it_is_named_for(family, trusted, expected):
    """The usual lines set the address only: what they let pass is the client's own."""
    headers = (
        ALL if family == "x-forwarded" else {"Forwarded": ["for=203.0.113.9;proto=https;host=example.com"]}
    )
    assert origin(headers, trusted, family=family) == expected


def test_several_that_name_the_same_proxy_add_up():
    """A network may be believed in one thing, and an address of it in more."""
    assert origin(ALL, "10.0.0.0/8=for", f"{PROXY.host}=proto") == ("203.0.113.9 0", True, None)
    assert origin(ALL, "unix=for", peer=UNIXAddress(None)) == ("203.0.113.9 0", None, None)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (IPv4Address("TCP", "192.0.2.1", 1), ["10.0.0.0/8", "unix"]),
        (IPv6Address("TCP", "2001:db8::1", 1), ["10.0.0.0/8", "unix"]),
        (UNIXAddress(None), ["10.0.0.0/8"]),
        (None, ["10.0.0.0/8"]),
    ],
)
def test_others_are_not(peer, trusted):
    """From anyone else the headers mean nothing."""
    assert origin(ALL, *trusted, peer=peer) == (None, None, None)


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (UNIXAddress(None), "unix"),
        (IPv6Address("TCP", "fd00::7", 1), "fd00::/8"),
        (IPv6Address("TCP", "::ffff:10.0.0.1", 1), "10.0.0.1"),
    ],
)
def test_peers(peer, trusted):
    """A UNIX socket's peer, one of IPv6, and one of IPv4 on a socket for both."""
    assert origin(ALL, trusted, peer=peer)[0] == "203.0.113.9 0"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # The client itself can write anything to the left.
        (["6.6.6.6, 203.0.113.9"], "203.0.113.9 0"),
        (["6.6.6.6", "203.0.113.9, 10.1.2.3"], "203.0.113.9 0"),
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9 0"),
        (["6.6.6.6, unknown, 10.1.2.3"], "10.1.2.3 0"),
        (["203.0.113.9:4711"], "203.0.113.9 4711"),
        (["2001:db8::9"], "2001:db8::9 0"),
        (["[2001:db8::9]:4711"], "2001:db8::9 4711"),
        (["::ffff:203.0.113.9"], "203.0.113.9 0"),
        (["203.0.113.9:99999"], "203.0.113.9 0"),
        (["unknown"], None),
        (["", ","], None),
        (["203.0.113.9\u0660"], None),
        ([", ".join(["10.0.0.1"] * 5000)], "10.0.0.1 0"),
    ],
)
def test_the_rightmost_that_is_no_proxy(values, expected):
    """Proxies add at the right, so the client is the first from there that is not trusted."""
    assert origin({"X-Forwarded-For": values})[0] == expected


@pytest.mark.parametrize(
    ("headers", "secure", "host"),
    [
        ({"X-Forwarded-Proto": ["http"]}, False, None),
        ({"X-Forwarded-Proto": ["http, HTTPS"]}, True, None),
        ({"X-Forwarded-Proto": ["gopher"]}, None, None),
        ({"X-Forwarded-Host": ["a.example, b.example:8443"]}, None, "b.example:8443"),
        ({"X-Forwarded-Host": ["[2001:db8::1]:80"]}, None, "[2001:db8::1]:80"),
        ({"X-Forwarded-Host": ["evil.example/path"]}, None, None),
        ({"X-Forwarded-Host": ["a@b"]}, None, None),
    ],
)
def test_scheme_and_host(headers, secure, host):
    """The nearest proxy's; what cannot be right changes nothing."""
    assert origin(headers)[1:] == (secure, host)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.9;proto=https;host=example.com", ("203.0.113.9 0", True, "example.com")),
        ('FOR="[2001:db8::9]:4711" ; Proto=http', ("2001:db8::9 4711", False, None)),
        ("for=6.6.6.6;host=evil, for=203.0.113.9;host=example.com", ("203.0.113.9 0", None, "example.com")),
        ("for=203.0.113.9;proto=https, for=10.1.2.3;proto=http", ("203.0.113.9 0", True, None)),
        ("for=6.6.6.6, for=_hidden;proto=https", (None, True, None)),
        ("for=6.6.6.6, bro ken", (None, None, None)),
        ('for="203.0.113.\\9"', ("203.0.113.9 0", None, None)),
        ('for="6.6.6.6', (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_forwarded(value, expected):
    """RFC 7239: pairs, quotes, lists; an element that says nothing ends the way."""
    assert origin({"Forwarded": [value]}, family="forwarded") == expected


def test_one_family_of_headers():
    """A proxy that sets one family lets the client's other one pass."""
    assert origin({"Forwarded": ["for=6.6.6.6"]}) == (None, None, None)
    assert origin(ALL, family="forwarded") == (None, None, None)


@pytest.mark.parametrize("value", ["10.0.0.7", "10.0.0.0/8 fd00::/8 unix", ""])
def test_the_flag(value):
    """Addresses, networks, unix, or nothing."""
    var = TrustedProxies("")
    var.set(value)
    assert var.get() == value.split()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("10.0.0.1/8", "has '10.0.0.1/8', which 10.0.0.1/8 has host bits set; right are 10.0.0.7, "),
        ("10.0.0.7=for,port", "has '10.0.0.7=for,port'; after the = are some of for,proto,host,prefix"),
        ("10.0.0.7=", "has '10.0.0.7='; after the = are some of for,proto,host,prefix"),
        ("10.0.0.7 proxy.example", "has 'proxy.example', which is no IP address or network; right are "),
        ("*", "has '\\*', which is no IP address"),
        ("10.0.0.7,10.0.0.8", "which is no IP address"),
    ],
)
def test_the_flag_refuses(value, told):
    """One line that says which word is wrong, and the flag stays as it was."""
    var = TrustedProxies("")
    with pytest.raises(ValueError, match=told) as caught:
        var.set(value)
    assert "\n" not in str(caught.value)
    assert var.get() == []


HEADERS = b"".join(f"{name}: {values[0]}\r\n".encode() for name, values in ALL.items())
REQUEST = b"GET / HTTP/1.1\r\nHost: inner\r\n" + HEADERS + b"\r\n"


def environ_of(*trusted):
    """Send a request with all the headers from 192.168.1.1, and return what the application sees."""
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        start_response("200 OK", [])
        return []

    connection = Connection(app)
    if trusted:
        connection.site.proxies = Proxies(trusted)
    assert parse(connection.send(REQUEST)).status == 200
    return seen


def test_the_environ():
    """The application sees the client; the proxy's own port is not said to be the client's."""
    environ = environ_of("192.168.0.0/16")
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert "REMOTE_PORT" not in environ
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTP_HOST"] == "example.com"


@pytest.mark.parametrize("trusted", [[], ["10.0.0.0/8"]])
def test_the_environ_without(trusted):
    """Without the flag, or from another peer, they are plain headers."""
    environ = environ_of(*trusted)
    assert environ["REMOTE_ADDR"] == "192.168.1.1"
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["HTTP_HOST"] == "inner"
    assert environ["HTTP_X_FORWARDED_FOR"] == "203.0.113.9"


def test_a_resource():
    """Resources of twisted.web see the client in the same way."""
    seen = []

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request):
            seen.append((request.getClientAddress().host, request.isSecure(), request.getHeader("Host")))
            return b""

    connection = Connection(resource=Page(), access_log=True)
    connection.site.proxies = Proxies(["192.168.1.1"])
    with capture_logs() as logs:
        connection.send(REQUEST)
    assert seen == [("203.0.113.9", True, "example.com")]
    assert [each["peer"] for each in logs] == ["203.0.113.9"]


def test_from_flags():
    """Nobody is believed unless the flag names them."""
    assert WebListener.from_flags(Resource(), Clock()).factory.proxies is None
    with flags_set({"web.trusted_proxies": "unix", "web.proxy_headers": "forwarded"}):
        proxies = WebListener.from_flags(Resource(), Clock()).factory.proxies
    found = proxies.origin(UNIXAddress(None), {"HTTP_FORWARDED": "for=203.0.113.9"})
    assert found == Origin(IPv4Address("TCP", "203.0.113.9", 0))
    assert isinstance(flag.GLOBAL_FLAGS.get("web", "trusted_proxies"), TrustedProxies)
