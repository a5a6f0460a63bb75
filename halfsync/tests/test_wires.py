"""The same promises over TLS and unix sockets."""

from __future__ import annotations

import shutil
import tempfile
import threading

from OpenSSL import SSL
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from certificates import make_certificate
from http_tools import GET, Raw, ServerCase, parse


def tell(environ, start_response):
    """Answer with what the connection is known to be."""
    start_response("200 OK", [])
    names = ("wsgi.url_scheme", "REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT")
    return [" ".join(str(environ[name]) for name in names).encode()]


class UnixTest(ServerCase):
    """On a unix socket."""

    async def test_the_environ(self):
        """There is no client address, and the server's name is still something."""
        self.serve(tell)
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/web"
        port = reactor.listenUNIX(path, self.site)
        self.addCleanup(port.stopListening)
        client = await connectProtocol(UNIXClientEndpoint(reactor, path), Raw())
        self.clients.append(client)
        client.transport.write(GET)
        assert parse(await client.bytes(b"localhost")).data == b"http  localhost 80"


class TLSTest(ServerCase):
    """Over TLS."""

    def serve_tls(self, app, **options):
        certificate, key = make_certificate("localhost")
        self.serve(app, **options)
        self.port.stopListening()
        context = ssl.CertificateOptions(privateKey=key, certificate=certificate)
        self.port = reactor.listenSSL(0, self.site, context, interface="127.0.0.1")

    async def connect_tls(self, data: bytes) -> Raw:
        """Open a connection, without a look at the certificate."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)
        options = ssl.CertificateOptions(verify=False)
        client = await connectProtocol(wrapClientTLS(_Options(options), endpoint), Raw())
        self.clients.append(client)
        client.transport.write(data)
        return client

    async def test_the_environ(self):
        """The scheme is https, the client is the connection's."""
        self.serve_tls(tell)
        client = await self.connect_tls(GET)
        reply = parse(await client.bytes(b"https"))
        assert reply.data == b"https 127.0.0.1 127.0.0.1 %d" % self.port.getHost().port

    async def test_413_and_close(self):
        """What is refused is answered, and the connection ends in order."""
        self.serve_tls(tell, max_body=10)
        client = await self.connect_tls(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n")
        assert parse(await client.closed()).status == 413
        assert client.lost == "ConnectionDone"

    async def test_a_client_that_takes_nothing_is_cut(self):
        """The write timeout sees through the encryption."""
        closed = threading.Event()

        def app(_environ, start_response):
            start_response("200 OK", [])
            try:
                while True:
                    yield b"x" * 1024 * 1024
            finally:
                closed.set()

        self.serve_tls(app, write_timeout=0.2)
        client = await self.connect_tls(b"")
        client.keep = 10
        client.transport.write(GET)
        await client.until(lambda: client.size or client.lost)
        client.transport.pauseProducing()
        await deferToThread(closed.wait, 10)
        assert closed.is_set()
        client.transport.resumeProducing()
        await client.closed()

    async def test_drain(self):
        """A drain ends with the connections."""
        self.serve_tls(tell)
        client = await self.connect_tls(GET)
        await client.bytes(b"https")
        await Deferred.fromCoroutine(self.site.drain())
        await client.closed()


@implementer(IOpenSSLClientConnectionCreator)
class _Options:
    """Twisted's interface for making a client's connections, around options that check nothing."""

    def __init__(self, options):
        self._context = options.getContext()

    def clientConnectionForTLS(self, _protocol):
        return SSL.Connection(self._context, None)
