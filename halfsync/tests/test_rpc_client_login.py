"""How the RPC client logs in and whom it believes: our server in a process of its own, servers that lie."""

from __future__ import annotations

import base64
import pathlib
import shutil
import signal
import tempfile
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from certificates import make_certificate, write
from halfsync.client.errors import CallError, Unreachable
from halfsync.client.trust import Trust
from halfsync.thrift import Credentials, LoginFailed, RpcClient, sasl
from halfsync.thrift.sasl import COMPLETE, ERROR, OK, START
from halfsync.thrift.users import Keys, Users
from rpc_tools import serving
from sample_rpc import Sample


def salted(rounds: int) -> str:
    return f"s={base64.b64encode(b'salt' * 4).decode()},i={rounds}"


class Liar(Protocol):
    """Says what the test wants after each message of a login."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory
        self.reader = sasl.SaslReader(1 << 20)

    def connectionMade(self):
        self.factory.connections += 1

    def dataReceived(self, data):
        self.factory.got += data
        self.reader.feed(data)
        while (said := self.reader.next()) is not None:
            if said[0] != START:
                answers = self.factory.answers
                self.transport.write((answers.pop(0) if len(answers) > 1 else answers[0])(said[1]))


def challenge(rounds: int) -> Any:
    return lambda first: sasl.pack(OK, b"r=" + first.rpartition(b"r=")[2] + f"more,{salted(rounds)}".encode())


class LoginTest(TestCase):
    """In the reactor."""

    timeout = 100

    def client(self, address: str, **options: Any) -> RpcClient[Sample.Client]:
        client = RpcClient(Sample.Client, address, reactor=reactor, connect_timeout=30, timeout=40, **options)
        self.addCleanup(client.stop)
        return client

    def folder(self) -> pathlib.Path:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return pathlib.Path(folder)

    def users(self) -> str:
        path = str(self.folder() / "users")
        Users(path).add("anna", Keys.of("pencil"))
        return path

    def serving(self, *flags: str, **how: Any) -> Any:
        manager = serving(*flags, **how)
        service = manager.__enter__()
        self.addCleanup(manager.__exit__, None, None, None)
        return service

    def lie(self, *answers: Any, password: str = "pencil", **options: Any) -> tuple[Any, Any]:
        factory: Any = Factory.forProtocol(lambda: Liar(factory))
        factory.answers, factory.connections, factory.got = list(answers), 0, b""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        address = f"tcp:127.0.0.1:{port.getHost().port}"
        return factory, self.client(address, credentials=Credentials("anna", password, **options))

    async def test_scram(self):
        """With the right password the server knows who calls; with a wrong one, the next try waits."""
        service = self.serving("--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={self.users()}", listen="tcp:0")
        address = f"tcp:127.0.0.1:{service.address[1]}"
        client = self.client(address, credentials=Credentials("anna", "pencil"), max_connections=1)
        asked = [Deferred.fromCoroutine(client.whoami()) for _ in range(20)]
        assert [value for _, value in await DeferredList(asked)] == ["anna"] * 20
        assert await deferToThread(client.blocking.whoami) == "anna"
        wrong = self.client(address, credentials=Credentials("anna", "pen"))
        for _ in range(3):
            with pytest.raises(LoginFailed, match="refused"):
                await wrong.whoami()
        service.signal(signal.SIGTERM)
        service.end()
        refused = [each for each in service.events if each["event"] == "rpc.login_refused"]
        assert len(refused) == 1

    async def test_tls(self):
        """PLUS and PLAIN over TLS; a certificate of another name, or that nobody signed, is refused."""
        pem = write(self.folder() / "server.pem", *make_certificate("localhost", authority=True))
        service = self.serving(
            "--rpc.sasl=SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN",
            f"--rpc.users={self.users()}",
            listen=f"ssl:0:privateKey={pem}:interface=127.0.0.1",
        )
        address = f"tls:127.0.0.1:{service.address[1]}"
        trust = Trust(ca_file=str(pem))
        for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"):
            client = self.client(
                address,
                trust=trust,
                server_name="localhost",
                credentials=Credentials("anna", "pencil", mechanism),
            )
            assert await client.whoami() == "anna"
        plain = Credentials("anna", "pencil", "PLAIN")
        for options in (
            {"trust": trust, "server_name": "other.example"},
            {"trust": Trust(), "server_name": "localhost"},
        ):
            with pytest.raises(Unreachable):
                await self.client(address, credentials=plain, retries=0, **options).whoami()
        service.signal(signal.SIGTERM)
        service.end()
        logins = [each["event"] for each in service.events if each["event"].startswith("rpc.login")]
        assert logins == ["rpc.login"] * 3

    @pytest.mark.filterwarnings("ignore:Passing pyOpenSSL")  # Twisted does
    async def test_client_certificate(self):
        """The certificate that the client shows is who it is."""
        folder = self.folder()
        pem = write(folder / "server.pem", *make_certificate("localhost", authority=True))
        known = write(folder / "known.pem", *make_certificate("anna"))
        service = self.serving(listen=f"ssl:0:privateKey={pem}:clientCA={known}")
        address = f"tls:127.0.0.1:{service.address[1]}"
        trust = Trust(ca_file=str(pem), certificate=str(known))
        assert await self.client(address, trust=trust, server_name="localhost").whoami() == "anna"
        with pytest.raises(CallError):
            await self.client(
                address, trust=Trust(ca_file=str(pem)), server_name="localhost", retries=0
            ).whoami()

    async def test_a_server_must_prove_itself(self):
        """A server that does not know the password's keys is not believed, whatever it says."""
        for answers, reason in (
            ([lambda _: sasl.pack(COMPLETE, b"v=" + base64.b64encode(bytes(32)))], "without a question"),
            (
                [challenge(4096), lambda _: sasl.pack(COMPLETE, b"v=" + base64.b64encode(bytes(32)))],
                "proved itself",
            ),
            ([challenge(4096), lambda _: sasl.pack(COMPLETE, b"")], "proved itself"),
            ([lambda _: sasl.pack(ERROR, b"go away\nreally")], "refused the login: go away"),
        ):
            _, client = self.lie(*answers)
            with pytest.raises(LoginFailed) as caught:
                await client.whoami()
            assert reason in str(caught.value)

    async def test_the_work_that_a_server_may_ask_for_is_bounded(self):
        """Neither so few rounds that the password can be guessed, nor so many that they never end."""
        for rounds in (1, 4095, 1_000_001, 2_000_000_000):
            _, client = self.lie(challenge(rounds))
            with pytest.raises(LoginFailed, match=f"asks for {rounds} rounds|must not be"):
                await client.whoami()

    async def test_no_login_at_all(self):
        """Bytes of no login, and one that is too long, end the connection."""
        for said in (b"HTTP/1.1 400\r\n\r\n", b"\2\x7f\xff\xff\xff", sasl.pack(START, b"PLAIN")):
            _, client = self.lie(lambda _, said=said: said)
            with pytest.raises(Unreachable):
                await client.whoami()

    async def test_what_may_be_set_up_wrongly_is_said(self):
        """A server that wants a login, and one that wants none, end the connection: the error asks for it."""
        service = self.serving("--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={self.users()}", listen="tcp:0")
        address = f"tcp:127.0.0.1:{service.address[1]}"
        with pytest.raises(CallError, match=r"before any answer \(does it want a login"):
            await self.client(address, retries=0).whoami()
        service = self.serving()
        address = f"tcp:127.0.0.1:{service.address[1]}"
        with pytest.raises(Unreachable, match=r"in the login \(does it want one"):
            await self.client(address, credentials=Credentials("anna", "pencil"), retries=0).whoami()

    async def test_a_scram_password_is_not_sent(self):
        """Not even to a server that asks for another mechanism's proof."""
        factory, client = self.lie(lambda _: sasl.pack(OK, b"password please"), password="very-secret")
        with pytest.raises(LoginFailed):
            await client.whoami()
        assert b"very-secret" not in factory.got
        assert "very-secret" not in repr(Credentials("anna", "very-secret"))

    def test_wrong_credentials_are_told_at_once(self):
        """PLAIN in the clear, PLUS without TLS, a mechanism that nobody knows, a file that is not there."""
        for address, mechanism, reason in (
            ("tcp:a:1", "PLAIN", "needs TLS"),
            ("tcp:a:1", "SCRAM-SHA-256-PLUS", "needs TLS"),
            ("tls:a:1", "GSSAPI", "is none of"),
        ):
            with pytest.raises(ValueError, match=reason):
                self.client(address, credentials=Credentials("a", "b", mechanism))
        with pytest.raises(ValueError, match="/nowhere"):
            self.client("tls:a:1", trust=Trust(ca_file="/nowhere"))
