"""Certificates that are reloaded while the service runs, and what clients may negotiate."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.pages import errorPage
from twisted.web.server import Site

from certificates import Pair, make_certificate, pem, write
from halfsync.endpoints import ListenError, parse, tls
from halfsync.endpoints.certificates import CertificateError, Files, Folder
from halfsync.endpoints.tls_transport import A_BUFFER, A_SESSION, RECORDS, TlsTransport, tls_below
from halfsync.life.sockets import Sockets

if TYPE_CHECKING:
    from halfsync.endpoints.ports import ListeningPort

TESTSSL = shutil.which("testssl") or shutil.which("testssl.sh")

SITE = make_certificate("site.test")
OTHER = make_certificate("other.test")


# Reading


def chain_to(root: Pair, context: ssl.SSLContext, name: str = "site.test") -> x509.Certificate:
    """Shake hands in memory as a client that knows only a root; return the certificate that it was shown."""
    trusting = ssl.create_default_context(cadata=pem(root[0]).decode())
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    shown = client.getpeercert(binary_form=True)
    assert shown
    return x509.load_der_x509_certificate(shown)


def test_one_file_may_hold_chain_and_key(tmp_path: Path) -> None:
    """The first certificate is the site's, the others its chain, wherever the key stands."""
    root = make_certificate("root.test", authority=True)
    between = make_certificate("between.test", root, authority=True)
    site = make_certificate("site.test", between)
    write(tmp_path / "all.pem", site[1], site[0], between[0])
    write(tmp_path / "site.pem", site[0])
    write(tmp_path / "key.pem", site[1])
    write(tmp_path / "between.pem", between[0])
    for files in (
        Files(f"{tmp_path}/all.pem", f"{tmp_path}/all.pem"),
        Files(f"{tmp_path}/site.pem", f"{tmp_path}/key.pem", f"{tmp_path}/between.pem"),
    ):
        loaded = files.load()
        assert loaded.shown == [site[0]]
        assert chain_to(root, loaded.context) == site[0]
    with pytest.raises(ssl.SSLCertVerificationError):
        chain_to(root, Files(f"{tmp_path}/site.pem", f"{tmp_path}/key.pem").load().context)


@pytest.mark.parametrize("kind", ["rsa", "ed25519", "ec"])
def test_every_usual_kind_of_key_is_taken(kind: str, tmp_path: Path) -> None:
    """RSA, ECDSA and Ed25519."""
    key: Any = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ec": lambda: ec.generate_private_key(ec.SECP384R1()),
    }[kind]()
    path = str(write(tmp_path / "x.pem", *make_certificate("site.test", key=key)))
    Files(path, path).load()


def test_what_is_wrong_with_a_file_is_said_in_one_line_that_names_it(tmp_path: Path) -> None:
    """Missing, empty, damaged, locked, of another certificate, or too weak."""
    good = write(tmp_path / "good.pem", *SITE)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        SITE[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    )
    damaged = tmp_path / "damaged.pem"
    damaged.write_bytes(pem(SITE[0]).replace(b"MII", b"XII", 1) + pem(SITE[1]).replace(b"MIG", b"XIG", 1))
    weak = write(
        tmp_path / "weak.pem", *make_certificate("w.test", key=rsa.generate_private_key(65537, 1024))
    )
    other = write(tmp_path / "other.pem", *OTHER)
    # Its names cannot be read, which only shows when somebody looks at them.
    strange = tmp_path / "strange" / "strange.pem"
    write(strange, SITE[1])
    named = SITE[0].public_bytes(Encoding.DER)
    nameless = named.replace(b"\x82\x09site.test", b"\xa9\x09site.test")
    assert named != nameless
    strange.write_text(ssl.DER_cert_to_PEM_cert(nameless) + strange.read_text())
    with pytest.raises(CertificateError, match=f"^{strange} holds a damaged certificate$"):
        Folder(str(strange.parent)).load()
    for certificate, key, reason in (
        (tmp_path / "no.pem", good, f"cannot read {tmp_path}/no.pem: No such file or directory"),
        (good, tmp_path / "no.pem", f"cannot read {tmp_path}/no.pem: No such file or directory"),
        (good, tmp_path, f"cannot read {tmp_path}: Is a directory"),
        (encrypted, good, f"{encrypted} holds no certificate in PEM format"),
        (good, encrypted, f"the key in {encrypted} has a passphrase; a service needs one without"),
        (damaged, good, f"{damaged} holds a damaged certificate"),
        (strange, strange, f"{strange} holds a damaged certificate"),
        (good, damaged, f"{damaged} holds no private key in PEM format that can be used"),
        (good, other, f"the key in {other} is not that of the certificate in {good}"),
        (weak, weak, f"OpenSSL refuses the certificate for {weak}: ee key too small"),
    ):
        with pytest.raises(CertificateError) as caught:
            Files(str(certificate), str(key)).load()
        assert str(caught.value) == reason


def test_an_unreadable_key_is_said(tmp_path: Path) -> None:
    """As a service's user meets it."""
    path = write(tmp_path / "x.pem", *SITE)
    path.chmod(0)
    own = os.geteuid()
    # Root may read every file.
    os.seteuid(own or 65534)
    try:
        with pytest.raises(CertificateError, match="Permission denied"):
            Files(str(path), str(path)).load()
    finally:
        os.seteuid(own)


def test_a_folder_is_sorted_out_by_names_and_keys(tmp_path: Path) -> None:
    """Keys find their certificates in other files, chains are built, and the renewed certificate wins."""
    root = make_certificate("root.test", authority=True)
    between = make_certificate("between.test", root, authority=True)
    old = make_certificate("site.test", between)
    new = make_certificate("site.test", between, key=old[1], days=180)
    (tmp_path / "live").mkdir()
    write(tmp_path / "live" / "new.pem", new[0], between[0])
    write(tmp_path / "live" / "old.pem", old[0])
    write(tmp_path / "live" / "privkey.pem", old[1])
    write(tmp_path / "orphan.pem", OTHER[1])
    (tmp_path / "README").write_text("no certificate")
    loaded = Folder(str(tmp_path)).load()
    assert loaded.shown == [new[0]]
    assert chain_to(root, loaded.context) == new[0]


# Shaking hands


def test_a_record_that_is_not_taken_is_held(tmp_path: Path) -> None:
    """As long as OpenSSL waits for the client to take it; then the session alone is."""
    path = str(write(tmp_path / "x.pem", *SITE))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (ours, theirs):
            each.settimeout(0)
        server = (
            Files(path, path)
            .load()
            .context.wrap_socket(ours, server_side=True, do_handshake_on_connect=False)
        )
        trusting = ssl.create_default_context(cadata=pem(SITE[0]).decode())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(incoming, outgoing, server_hostname="site.test")
        for _ in range(3):
            for side in (client, server):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
                if data := outgoing.read():
                    theirs.sendall(data)
                with contextlib.suppress(BlockingIOError):
                    incoming.write(theirs.recv(65536))
        transport = TlsTransport(server, Protocol(), None, None, 0, MemoryReactorClock())
        assert tls_below(transport) is transport
        assert transport.overhead == A_SESSION
        size = 5_000_000
        transport.send(bytes(size))
        assert transport.unsent
        assert transport.overhead == A_SESSION + A_BUFFER
        while size:
            with contextlib.suppress(BlockingIOError):
                incoming.write(theirs.recv(1 << 20))
            with contextlib.suppress(ssl.SSLWantReadError):
                while size:
                    size -= len(client.read(1 << 20))
            transport.doWrite()
        assert not transport.unsent
        assert transport.overhead == A_SESSION
        server.close()


class OneByteRecords(socket.socket):
    """A socket from which a byte can be read whenever somebody asks."""

    reads = 0

    def read(self, size: int, sink: memoryview) -> int:
        """Read a record."""
        self.reads += 1
        sink[0] = 120
        return 1

    def pending(self) -> int:
        """Return what OpenSSL holds: nothing, as each record was read whole."""
        return 0


def test_records_of_a_byte_fill_no_turn() -> None:
    """A client that sends them as fast as they are read leaves the reactor to others after some of them."""
    ours, theirs = socket.socketpair()
    with theirs, OneByteRecords(fileno=ours.detach()) as records:
        protocol: Any = Protocol()
        sank: list[int] = []
        protocol.sank = sank.append
        transport = TlsTransport(cast("Any", records), protocol, None, None, 0, MemoryReactorClock())
        transport.sink = memoryview(bytearray(256 * 1024))
        assert transport.doRead() is None
        assert sank == [RECORDS]
        assert records.reads == RECORDS
        transport.sink = memoryview(bytearray(3))
        assert transport.doRead() is None
        assert sank == [RECORDS, 3]


class Serving(TestCase):
    """Endpoints with TLS, and clients that shake hands."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    async def bind(self, text: str, factory: Factory | None = None) -> ListeningPort:
        bound = parse(text).listen(factory or Factory.forProtocol(Closing), reactor, Sockets())
        self.addCleanup(bound._end)
        return bound

    async def shown(self, bound: ListeningPort, name: str = "site.test") -> x509.Certificate:
        return await deferToThread(lambda: shake_hands(bound.port, name)[0])

    async def test_only_modern_tls(self) -> None:
        """TLS 1.3, and 1.2 with forward secrecy and authenticated encryption; nothing weaker."""
        path = write(self.folder / "x.pem", *make_certificate("s", key=rsa.generate_private_key(65537, 2048)))
        bound = await self.bind(f"ssl:0:privateKey={path}:interface=127.0.0.1")
        for version, expected in ((ssl.TLSVersion.TLSv1_3, "TLS"), (ssl.TLSVersion.TLSv1_2, "ECDHE-")):
            _, cipher = await deferToThread(shake_hands, bound.port, version=version)
            assert cipher.startswith(expected), cipher
        for refused in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            client = deferToThread(
                shake_hands, bound.port, version=ssl.TLSVersion.TLSv1_2, ciphers=f"{refused}:@SECLEVEL=0"
            )
            await self.assertFailure(client, ssl.SSLError)

    async def test_reload(self) -> None:
        """New handshakes get the new certificate; a bad one is refused with a reason, the old one kept."""
        path = write(self.folder / "site.pem", *SITE)
        key = write(self.folder / "site.key", SITE[1])
        for text in (
            f"ssl:0:privateKey={key}:certKey={path}:interface=127.0.0.1",
            f"tls-over:cert={path}:key={key}:tcp:0:interface=127.0.0.1",
        ):
            write(path, SITE[0])
            write(key, SITE[1])
            bound = await self.bind(text)
            assert SITE[0] == await self.shown(bound)

            write(path, OTHER[0])
            with capture_logs() as events:
                told = bound.tls.reload()
            (refused,) = events
            assert told == refused["reason"]
            assert refused["event"] == "tls.reload_refused"
            assert refused["log_level"] == "error"
            assert str(path) == refused["path"]
            assert "is not that of the certificate" in refused["reason"]
            assert SITE[0] == await self.shown(bound)

            path.unlink()
            with capture_logs() as events:
                bound.tls.reload()
            assert [event["event"] for event in events] == ["tls.reload_refused"]
            assert SITE[0] == await self.shown(bound)

            write(path, OTHER[0])
            write(key, OTHER[1])
            with capture_logs() as events:
                assert bound.tls.reload() is None
            assert [event["event"] for event in events] == ["tls.reloaded"]
            assert OTHER[0] == await self.shown(bound)
            await bound.close()

    async def test_folder(self) -> None:
        """The name that the client asks for chooses; a wildcard covers one label; strangers get the first."""
        wild = make_certificate("*.wild.test")
        write(self.folder / "a.pem", *SITE)
        write(self.folder / "b.pem", *OTHER)
        write(self.folder / "c.pem", *wild)
        bound = await self.bind(f"tls:{self.folder}:0:interface=127.0.0.1")
        for name, expected in (
            ("site.test", SITE),
            ("OTHER.test", OTHER),
            ("x.wild.test", wild),
            ("x.y.wild.test", SITE),
            ("stranger.test", SITE),
        ):
            assert expected[0] == await self.shown(bound, name), name
        renewed = make_certificate("other.test")
        write(self.folder / "b.pem", *renewed)
        bound.tls.reload()
        assert renewed[0] == await self.shown(bound, "other.test")
        shutil.rmtree(self.folder)
        with capture_logs() as events:
            bound.tls.reload()
        assert events[0]["reason"] == f"there is no folder {self.folder}"
        assert renewed[0] == await self.shown(bound, "other.test")
        self.folder.mkdir()

    @pytest.mark.skipif(not shutil.which("sslscan"), reason="there is no sslscan: apt install sslscan")
    async def test_sslscan_finds_nothing_weak(self) -> None:
        """TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, and nothing else."""
        path = write(self.folder / "site.pem", *SITE)
        bound = await self.bind(f"ssl:0:privateKey={path}:interface=127.0.0.1")
        command = ["sslscan", "--no-colour", f"127.0.0.1:{bound.port}"]
        scan = await deferToThread(subprocess.run, command, capture_output=True, text=True, check=True)
        assert re.findall(r"^(\S+) +enabled$", scan.stdout, re.MULTILINE) == ["TLSv1.2", "TLSv1.3"]
        ciphers = re.findall(r"^(?:Preferred|Accepted) +(\S+) +\d+ bits +(\S+)", scan.stdout, re.MULTILINE)
        assert len(ciphers) >= 4
        for version, cipher in ciphers:
            assert version == "TLSv1.3" or cipher.startswith("ECDHE-"), cipher
            assert "GCM" in cipher or "POLY1305" in cipher, cipher

    @pytest.mark.skipif(not TESTSSL, reason="there is no testssl: apt install testssl.sh")
    async def test_testssl_finds_nothing_weak(self) -> None:
        """None of the vulnerabilities that it knows; ciphers are left to sslscan, which is quicker."""
        path = write(self.folder / "site.pem", *SITE)
        site = Site(errorPage(200, "hello", ""))
        bound = await self.bind(f"ssl:0:privateKey={path}:interface=127.0.0.1", site)
        found = self.folder / "found.json"
        options = ["--quiet", "--warnings=off", "--protocols", "--vulnerable"]
        command = [TESTSSL, *options, f"--jsonfile={found}", f"https://127.0.0.1:{bound.port}/"]
        await deferToThread(subprocess.run, command, stdout=subprocess.DEVNULL, check=True)
        severities = {each["id"]: each["severity"] for each in json.loads(found.read_text())}
        # The only one about the scanner itself.
        severities.pop("engine_problem", None)
        assert {"TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "RC4"} <= severities.keys()
        assert {each for each, severity in severities.items() if severity not in ("OK", "INFO")} == set()

    async def test_client_certificates(self) -> None:
        """Who shows none, or one of another authority, is not served, whatever name it asks for."""
        authority = make_certificate("clients.test", authority=True)
        client = make_certificate("client.test", authority)
        write(self.folder / "own" / "a.pem", *SITE)
        write(self.folder / "own" / "b.pem", *OTHER)
        ca = write(self.folder / "clients.ca", authority[0])
        good = write(self.folder / "client.pem", *client)
        bad = write(self.folder / "bad.pem", *make_certificate("client.test"))
        pem = self.folder / "own" / "a.pem"
        for text in (
            f"ssl:0:privateKey={pem}:clientCA={ca}:interface=127.0.0.1",
            f"tls-over:cert={pem}:clientCA={ca}:tcp:0:interface=127.0.0.1",
            f"tls:{self.folder}/own:0:interface=127.0.0.1:clientCA={ca}",
        ):
            bound = await self.bind(text)
            for name in ("site.test", "other.test"):
                expected = OTHER if text.startswith("tls:") and name == "other.test" else SITE
                served = await deferToThread(shake_hands, bound.port, name, certificate=good)
                assert served[0] == expected[0]
                for certificate in (None, bad):
                    refused = deferToThread(shake_hands, bound.port, name, certificate=certificate)
                    await self.assertFailure(refused, ssl.SSLError)
        with pytest.raises(ListenError, match="holds no certificate in PEM format"):
            parse(f"ssl:0:privateKey={pem}:clientCA={__file__}").verify()


# Watching


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_certificate_that_expires_soon_is_told_twice_a_day(tmp_path: Path, clock: Clock) -> None:
    """From 14 days before; the first of all that may be shown counts, and a reload is judged at once."""
    near = make_certificate("near.test", days=13.5)
    write(tmp_path / "a.pem", *SITE)
    write(tmp_path / "b.pem", *near)
    server = tls.ServerTls(Folder(str(tmp_path)), (), clock)
    assert server.expires == near[0].not_valid_after_utc.timestamp()
    with capture_logs() as events:
        server.start()
        clock.advance(tls.REMINDER)
    expected = {"event": "tls.expires_soon", "log_level": "warning", "path": str(tmp_path), "days": 13.5}
    assert events == [expected, expected]
    write(tmp_path / "b.pem", *make_certificate("near.test", days=-0.5))
    with capture_logs() as events:
        server.reload()
    assert [event["event"] for event in events] == ["tls.reloaded", "tls.expired"]
    write(tmp_path / "b.pem", *OTHER)
    with capture_logs() as events:
        server.reload()
        clock.advance(tls.REMINDER)
    assert [event["event"] for event in events] == ["tls.reloaded"]
    server.stop()
    assert clock.getDelayedCalls() == []


def test_changed_files_are_loaded_when_a_flag_says_so(tmp_path: Path, clock: Clock) -> None:
    """Once each time they change; when half of a change is there, the rest is waited for."""
    path, key = write(tmp_path / "site.pem", SITE[0]), write(tmp_path / "site.key", SITE[1])
    server = tls.ServerTls(Files(str(path), str(key)), (), clock, watch=5)
    with capture_logs() as events:
        server.start()
        clock.pump([5, 5])
        assert events == []
        write(path, OTHER[0])
        clock.pump([5, 5])
        key.unlink()
        clock.pump([5, 5])
        write(key, OTHER[1])
        clock.pump([5, 5])
        server.stop()
    assert [event["event"] for event in events] == [
        "tls.reload_refused",
        "tls.reload_refused",
        "tls.reloaded",
    ]
    assert server._loaded.shown == [OTHER[0]]
    assert clock.getDelayedCalls() == []


class Closing(Protocol):
    """Hangs up when it is spoken to."""

    def dataReceived(self, _data: bytes) -> None:
        self.transport.loseConnection()


def shake_hands(
    port: int | None,
    name: str = "site.test",
    *,
    version: ssl.TLSVersion | None = None,
    ciphers: str = "",
    certificate: Path | None = None,
) -> tuple[x509.Certificate, str]:
    """Shake hands, and give the server's certificate and the cipher."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    if certificate:
        context.load_cert_chain(certificate)
    if ciphers:
        context.set_ciphers(ciphers)
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        shown = connection.getpeercert(binary_form=True)
        cipher = connection.cipher()
        connection.sendall(b"bye")
        # With TLS 1.3, a client hears here that its certificate was refused.
        assert connection.recv(1) == b""
        assert shown
        assert cipher
        return x509.load_der_x509_certificate(shown), cipher[0]
