"""A real process with the RPC listener: Apache's client over sockets, logins, TLS, signals."""

from __future__ import annotations

import signal
import ssl
import struct
import threading
from contextlib import closing
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from children import child
from halfsync.thrift.users import Keys, Users
from rpc_tools import (
    SERVE,
    client,
    connect,
    environ,
    framed,
    hello,
    message,
    payloads,
    read_result,
    read_sasl,
    serving,
)

if TYPE_CHECKING:
    import socket


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users"
    Users(str(path)).add("anna", Keys.of("pencil"))
    return str(path)


def test_apache_client():
    """The generated client of Apache's runtime calls, gets exceptions, sends oneway calls."""
    with serving() as service, client(service.address) as caller:
        assert caller.hello("Zoë") == "Hello, Zoë!"
        assert caller.echo(b"\xff") == b"\xff"
        caller.note("x")
        assert caller.later("Anna") == "Later, Anna!"
        assert caller.ping() == "pong"


def read_frames(sock: socket.socket, count: int) -> list[bytes]:
    data = b""
    while True:
        try:
            found = payloads(data)
        except (struct.error, AssertionError):
            found = []
        if len(found) >= count:
            return found
        piece = sock.recv(65536)
        assert piece, "the connection ended"
        data += piece


def test_pipelined():
    """Hundreds of calls in one write come back in order."""
    with serving() as service, connect(service.address) as sock:
        sock.sendall(b"".join(framed(hello(str(n), compact=n % 2 == 0)) for n in range(500)))
        answers = read_frames(sock, 500)
    assert [read_result(each, "hello") for each in answers] == [f"Hello, {n}!" for n in range(500)]


def test_many_clients():
    """Clients at the same time each get their own answers."""
    failed: list[str] = []

    def use(number: int) -> None:
        with client(service.address) as caller:
            wanted = [f"{number} {n}" for n in range(50)]
            failed.extend(each for each in wanted if caller.hello(each) != f"Hello, {each}!")

    with serving("--rpc.threads=4") as service:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert failed == []


def test_term_drains():
    """At TERM, the call that runs is answered, and the process ends by itself with 0."""
    code = SERVE.replace("parts(process):", "parts(process):\n    import time").replace(
        "Handler()", "type('Slow', (Handler,), {'hello': lambda self, name: time.sleep(1) or 'slow'})()"
    )
    with serving(code=code) as service, connect(service.address) as sock:
        sock.sendall(framed(hello()))
        with connect(service.address) as other:
            other.sendall(framed(hello("x")).replace(b"hello", b"nothi"))
            read_frames(other, 1)
        service.signal(signal.SIGTERM)
        (got,) = read_frames(sock, 1)
        assert read_result(got, "hello") == "slow"
        assert sock.recv(1) == b""
        code, _, _ = service.end()
    assert code == 0


def test_private_socket(tmp_path):
    """A UNIX socket that is closed to others needs no login."""
    path = str(tmp_path / "rpc.sock")
    with serving(listen=f"unix:{path}:mode=600"), client(path) as caller:
        assert caller.hello("x") == "Hello, x!"


@pytest.mark.parametrize(
    ("listen", "flags", "code", "reason"),
    [
        ("tcp:0", (), 2, "is open to clients that nobody has asked"),
        ("tcp:0:interface=0.0.0.0", (), 2, "is open to clients that nobody has asked"),
        ("haproxy:tcp:0:interface=127.0.0.1", (), 2, "is open to clients that nobody has asked"),
        ("unix:{tmp}/x.sock:mode=666", (), 2, "is open to clients that nobody has asked"),
        ("tcp:0", ("--rpc.sasl=SCRAM-SHA-256",), 2, "needs a file of users"),
        ("tcp:0", ("--rpc.sasl=PLAIN", "--rpc.users={users}"), 2, "has no TLS, which PLAIN needs"),
        ("tcp:0", ("--rpc.sasl=SCRAM-SHA-256-PLUS", "--rpc.users={users}"), 2, "has no TLS"),
        ("tcp:0", ("--rpc.sasl=SCRAM-SHA-256", "--rpc.users={tmp}/none"), 1, "cannot read"),
        ("tcp:0", ("--rpc.sasl=SCRAM-SHA-256", "--rpc.users={open}"), 1, "must be 600"),
    ],
)
def test_start_refused(tmp_path, users, *, listen, flags, code, reason):
    """A listener that would serve clients whom nobody has asked who they are does not start.

    Flags that are wrong together are no fault of the machine: exit code 2, and nobody tries again.
    `--check_config` finds each without a start.
    """
    open_file = tmp_path / "open"
    open_file.write_text("")
    open_file.chmod(0o644)
    names = {"tmp": tmp_path, "users": users, "open": open_file}
    argv = [each.format(**names) for each in (f"--rpc.listen={listen}", *flags)]
    for more, wanted in ((), code), (("--check_config",), 2):
        with child(SERVE, *argv, *more, more_environ=environ()) as process:
            ended, _, stderr = process.end()
        assert ended == wanted
        assert reason in stderr
        assert "Traceback" not in stderr


def scram_client(sock, user, password, mechanism="SCRAM-SHA-256", binding=None):
    """Log in with scramp's client, which verifies the server's signature; return False when refused."""
    from scramp import ScramClient

    from halfsync.thrift import sasl

    made = ScramClient([mechanism], user, password, channel_binding=binding)
    sock.sendall(sasl.pack(sasl.START, mechanism.encode()))
    sock.sendall(sasl.pack(sasl.OK, made.get_client_first().encode()))
    status, payload = read_sasl(sock)
    if status != sasl.OK:
        return False
    made.set_server_first(payload.decode())
    sock.sendall(sasl.pack(sasl.OK, made.get_client_final().encode()))
    status, payload = read_sasl(sock)
    if status != sasl.COMPLETE:
        assert (status, payload) == (sasl.BAD, b"login refused")
        return False
    made.set_server_final(payload.decode())
    return True


@pytest.fixture
def guarded(users):
    with serving("--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={users}", listen="tcp:0") as service:
        yield service


def test_scram(guarded):
    """With the right password the client gets in, hears the server's proof, and the handler knows it."""
    with connect(guarded.address) as sock:
        assert scram_client(sock, "anna", "pencil")
        sock.sendall(framed(message(lambda each: each.send_whoami())))
        assert read_result(read_frames(sock, 1)[0], "whoami") == "anna"


def test_scram_refused(guarded):
    """A wrong password and an unknown user are refused alike, logged, and each time later."""
    for user, password in (("anna", "wrong"), ("nobody", "pencil")):
        with connect(guarded.address) as sock:
            assert not scram_client(sock, user, password)
            assert sock.recv(1) == b""
    reasons = [guarded.wait_for("rpc.login_refused") for _ in range(2)]
    assert len({each["reason"] for each in reasons}) == 1
    assert [each["user"] for each in reasons] == ["anna", "nobody"]


def test_unknown_user_is_stable(guarded, users):
    """The salt that an unknown user is told is the same each time: nothing tells it from a real one."""

    def salt(user: str) -> bytes:
        from halfsync.thrift import sasl

        with connect(guarded.address) as sock:
            sock.sendall(sasl.pack(sasl.START, b"SCRAM-SHA-256"))
            sock.sendall(sasl.pack(sasl.OK, f"n,,n={user},r=abcdefghijkl".encode()))
            _, payload = read_sasl(sock)
        return payload.partition(b",s=")[2]

    assert salt("nobody") == salt("nobody") != salt("somebody")
    assert salt("nobody").partition(b",")[2] == salt("anna").partition(b",")[2] == b"i=16384"


def test_users_are_read_at_each_login(guarded, users):
    """A user who is added can log in at once; while the file is open to others, nobody can."""
    Users(users).add("bob", Keys.of("paper"))
    with connect(guarded.address) as sock:
        assert scram_client(sock, "bob", "paper")
    from pathlib import Path

    Path(users).chmod(0o644)
    with connect(guarded.address) as sock:
        assert not scram_client(sock, "bob", "paper")
    assert "must be 600" in guarded.wait_for("rpc.users_unusable")["reason"]


@pytest.mark.parametrize(
    "sent",
    [
        framed(b"\x80\x01\x00\x01\0\0\0\x05hello\0\0\0\1\0"),
        b"\x01\xff\xff\xff\xff",
        b"\x07\0\0\0\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x02\0\0\0\0",
        b"\x01\0\0\0\x0dSCRAM-SHA-256" + b"\x02\x00\x00\xff\xf0" + b"n" * 0xFFF0 + b"\2\0\0\1\0",
    ],
)
def test_no_login(guarded, sent):
    """Whoever does not log in is cut, and no call of his is run."""
    with connect(guarded.address) as sock:
        sock.sendall(sent)
        while sock.recv(65536):
            pass
    assert client_works(guarded)


def client_works(service) -> bool:
    with connect(service.address) as sock:
        if not scram_client(sock, "anna", "pencil"):
            return False
        sock.sendall(framed(hello()))
        return read_result(read_frames(sock, 1)[0], "hello") == "Hello, Anna!"


def test_other_mechanisms_are_not_offered(guarded):
    """PLAIN is not taken where it is not offered."""
    from halfsync.thrift import sasl

    with connect(guarded.address) as sock:
        sock.sendall(sasl.pack(sasl.START, b"PLAIN") + sasl.pack(sasl.OK, b"\0anna\0pencil"))
        assert read_sasl(sock) == (sasl.BAD, b"login refused")


def test_thrift_sasl(users, tmp_path):
    """thrift_sasl gets in: with pure-sasl's PLAIN over a private socket, with scramp's SCRAM on TCP."""
    from puresasl.client import SASLClient
    from thrift.protocol.TBinaryProtocol import TBinaryProtocol
    from thrift_sasl import TSaslClientTransport

    from rpc_tools import Over
    from sample_rpc import Sample

    class Pure:
        """pure-sasl under the interface of the C library, as its users wrap it."""

        def __init__(self):
            self.sasl = SASLClient("localhost", username="anna", password="pencil", mechanism="PLAIN")

        def start(self, mechanism):
            return True, mechanism, self.sasl.process()

        def encode(self, data):
            return True, data

    path = str(tmp_path / "rpc.sock")
    with (
        serving("--rpc.sasl=PLAIN", f"--rpc.users={users}", listen=f"unix:{path}:mode=600"),
        closing(TSaslClientTransport(Pure, "PLAIN", Over(connect(path)))) as transport,
    ):
        transport.open()
        assert Sample.Client(TBinaryProtocol(transport)).whoami() == "anna"

    class Scram:
        """scramp under the same interface."""

        def __init__(self):
            from scramp import ScramClient

            self.made = ScramClient(["SCRAM-SHA-256"], "anna", "pencil")

        def start(self, mechanism):
            return True, mechanism, self.made.get_client_first()

        def step(self, payload):
            self.made.set_server_first(payload.decode())
            return True, self.made.get_client_final()

        def encode(self, data):
            return True, data

    with (
        serving("--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={users}", listen="tcp:0") as service,
        closing(TSaslClientTransport(Scram, "SCRAM-SHA-256", Over(connect(service.address)))) as transport,
    ):
        transport.open()
        assert Sample.Client(TBinaryProtocol(transport)).whoami() == "anna"


def test_tls(users, tmp_path):
    """SCRAM-SHA-256-PLUS is bound to the TLS connection; PLAIN is taken over TLS."""
    from certificates import make_certificate, write

    pem = write(tmp_path / "x.pem", *make_certificate("localhost"))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    flags = ("--rpc.sasl=SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", f"--rpc.users={users}")
    with serving(*flags, listen=f"ssl:0:privateKey={pem}:interface=127.0.0.1") as service:
        from halfsync.thrift import sasl

        with context.wrap_socket(connect(service.address)) as sock:
            binding = ("tls-server-end-point", sock)
            assert scram_client(sock, "anna", "pencil", "SCRAM-SHA-256-PLUS", binding)
            sock.sendall(framed(hello()))
            assert read_result(read_frames(sock, 1)[0], "hello") == "Hello, Anna!"
        with context.wrap_socket(connect(service.address)) as sock:
            wrong = ("tls-server-end-point", b"x" * 32)
            assert not scram_client(sock, "anna", "pencil", "SCRAM-SHA-256-PLUS", wrong)
        with context.wrap_socket(connect(service.address)) as sock:
            # A client that knows channel binding, from whom somebody has hidden that the server does, too.
            assert not scram_client(sock, "anna", "pencil", "SCRAM-SHA-256", ("tls-server-end-point", sock))
        with context.wrap_socket(connect(service.address)) as sock:
            sock.sendall(sasl.pack(sasl.START, b"PLAIN") + sasl.pack(sasl.OK, b"\0anna\0pencil"))
            assert read_sasl(sock) == (sasl.COMPLETE, b"")


def test_client_certificate(tmp_path):
    """With an authority for clients, only those with its certificates get in, and are known by it."""
    from certificates import make_certificate, write

    server = write(tmp_path / "server.pem", *make_certificate("localhost"))
    known = write(tmp_path / "known.pem", *make_certificate("anna"))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with serving(listen=f"ssl:0:privateKey={server}:clientCA={known}") as service:
        with pytest.raises((OSError, AssertionError)):  # noqa: PT012, SIM117  TLS 1.3 tells it at any of these
            with context.wrap_socket(connect(service.address)) as sock:
                sock.sendall(framed(hello()))
                read_frames(sock, 1)
        context.load_cert_chain(known)
        with context.wrap_socket(connect(service.address)) as sock:
            sock.sendall(framed(message(lambda each: each.send_whoami())))
            assert read_result(read_frames(sock, 1)[0], "whoami") == "anna"


def test_login_timeout_is_there(guarded):
    """A client that says nothing is cut after ten seconds."""
    begun = monotonic()
    with connect(guarded.address) as sock:
        assert sock.recv(1) == b""
    assert 8 < monotonic() - begun < 60
