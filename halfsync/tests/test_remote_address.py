"""REMOTE_ADDR tells the truth on every kind of endpoint, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
from pathlib import Path
from struct import pack
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from certificates import make_certificate, write
from halfsync.endpoints import parse
from halfsync.http.bounds import Bounds
from halfsync.http.proxies import Proxies
from halfsync.http.site import Site
from halfsync.http.wsgi.gateway import Gateway
from halfsync.life.sockets import Sockets
from http_tools import Inline
from http_tools import parse as parse_response

KEYS = ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme")
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"
V1_6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V2 = SIGNATURE + pack("!BBH4s4sHH", 0x21, 0x11, 12, bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1]), 4711, 443)


def tell(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with what the environ says of the addresses."""
    start_response("200 OK", [])
    return [json.dumps({key: environ.get(key) for key in KEYS}).encode()]


class TestRemoteAddress(TestCase):
    """One client each, from this machine."""

    timeout = 100

    async def served(self, endpoint: str, address: Any = None, *, before: bytes = b"", **options: Any) -> Any:
        """Listen on an endpoint, ask for the addresses, and return them with the client's own socket name."""
        site = Site(Gateway(tell, Inline()), bounds=Bounds(), access_log=False, reactor=reactor)
        if "trusted" in options:
            site.proxies = Proxies(options["trusted"])
        bound = parse(endpoint).listen(site, reactor, Sockets())
        head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + options.get("headers", b"") + b"\r\n"

        def ask() -> tuple[Any, bytes]:
            family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
            family = socket.AF_INET6 if options.get("six") else family
            with socket.socket(family) as client:
                client.settimeout(10)
                client.connect(address or (("::1" if options.get("six") else "127.0.0.1"), bound.port))
                own = client.getsockname()
                client.sendall(before)
                talking: Any = client
                if options.get("tls"):
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                    talking = context.wrap_socket(client)
                talking.sendall(head)
                reply = b""
                while piece := talking.recv(4096):
                    reply += piece
                if options.get("tls"):
                    talking.close()
                return own, reply

        try:
            own, reply = await deferToThread(ask)
        finally:
            await bound.close()
            if site.connections:
                await site.drain()
        return own, json.loads(parse_response(reply).data)

    async def test_tcp(self) -> None:
        """The client's own address and port."""
        own, told = await self.served("tcp:0:interface=127.0.0.1")
        assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == (own[0], str(own[1]))
        assert told["SERVER_NAME"] == "127.0.0.1"

    async def test_tcp6(self) -> None:
        """The same in IPv6, without brackets."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            raise SkipTest("there is no IPv6 here") from error
        own, told = await self.served("tcp6:0:interface=\\:\\:1", six=True)
        assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == ("::1", str(own[1]))

    async def test_unix(self) -> None:
        """A client without an address has none, and no port."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/s"
            _, told = await self.served(f"unix:{path}", path)
        assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == ("", None)

    async def test_unix_behind_a_trusted_proxy(self) -> None:
        """With `unix` trusted, its word counts."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/s"
            headers = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"
            _, told = await self.served(f"unix:{path}", path, headers=headers, trusted=["unix"])
        assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == ("203.0.113.9", "https")

    async def test_fd(self) -> None:
        """An inherited socket is as one of our own."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            own, told = await self.served(f"fd:{listening.fileno()}", listening.getsockname())
        assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == (own[0], str(own[1]))

    async def test_tls(self) -> None:
        """TLS changes the scheme only."""
        certificate = self.certificate()
        endpoint = f"ssl:0:privateKey={certificate}:interface=127.0.0.1"
        own, told = await self.served(endpoint, tls=True)
        assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == (own[0], str(own[1]))
        assert told["wsgi.url_scheme"] == "https"

    async def test_haproxy(self) -> None:
        """The PROXY protocol's client, in both of its versions."""
        for header in (V1, V2):
            _, told = await self.served("haproxy:tcp:0:interface=127.0.0.1", before=header)
            assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == ("192.0.2.7", "4711")
            assert (told["SERVER_NAME"], told["SERVER_PORT"]) == ("192.0.2.1", "443")

    async def test_haproxy_in_ipv6(self) -> None:
        """The same for an IPv6 client."""
        _, told = await self.served("haproxy:tcp:0:interface=127.0.0.1", before=V1_6)
        assert told["REMOTE_ADDR"] == "2001:db8::7"

    async def test_haproxy_over_unix(self) -> None:
        """A balancer on a UNIX socket still names its client."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/s"
            _, told = await self.served(f"haproxy:unix:{path}", path, before=V2)
        assert told["REMOTE_ADDR"] == "192.0.2.7"

    async def test_haproxy_before_tls(self) -> None:
        """The header comes before the handshake."""
        endpoint = f"haproxy:ssl:0:privateKey={self.certificate()}:interface=127.0.0.1"
        _, told = await self.served(endpoint, before=V2, tls=True)
        assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == ("192.0.2.7", "https")

    def certificate(self) -> str:
        """Make a self-signed certificate in a file with its key."""
        folder = Path(tempfile.mkdtemp())
        path = write(folder / "one.pem", *make_certificate("localhost"))
        self.addCleanup(folder.rmdir)
        self.addCleanup(os.unlink, path)
        return str(path)
