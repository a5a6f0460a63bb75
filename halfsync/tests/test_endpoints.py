"""One grammar for every address, and sockets that end without loss."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import ssl
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from certificates import make_certificate, write
from halfsync.endpoints import EndpointError, ListenError, parse, parsing, sockets
from halfsync.endpoints.certificates import Files, Folder
from halfsync.life.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from halfsync.endpoints.ports import ListeningPort

WRONG = {
    "": "is no endpoint; write for example tcp:8080",
    "8080": "is no endpoint",
    "tpc:8080": f"is no endpoint; write for example {parsing.EXAMPLES}",
    "TCP:8080": "is no endpoint",
    "stdio:": "is no endpoint",
    ":": "is no endpoint",
    "tcp": "missing a required argument: 'port'; write tcp:PORT",
    "tcp:": "the port must be a whole number from 0 to 65535, not ''",
    "tcp:http": "not 'http'",
    "tcp:65536": "not '65536'",
    "tcp:-1": "not '-1'",
    "tcp:8_0": "not '8_0'",
    "tcp:٨٠": "not '٨٠'",
    "tcp:" + "9" * 5000: "the port must be",
    "tcp:80:backlog=0": "backlog must be a whole number from 1",
    "tcp:80:backlog=many": "backlog must be",
    "tcp:80:port=81": "multiple values for argument 'port'",
    "tcp:80:interfaces=::1": "unexpected keyword argument 'interfaces'",
    "tcp:80:interface=eth0": "interface must be an address such as 127.0.0.1 or ::1, not 'eth0'",
    "tcp:80:interface=300.0.0.1": "interface must be an address",
    "tcp:80:interface=::1::": "multiple values for argument 'interface'",
    "tcp:80:mode=660": "unexpected keyword argument 'mode'",
    "tcp:80:interface=::1:interface=::1": "has interface= twice",
    "tcp:80:1:2:3:4": "too many positional arguments",
    "tcp:80\\": "ends in a backslash",
    "tcp6:80:interface=127.0.0.1": "interface must be an IPv6 address",
    "unix": "missing a required argument",
    "unix:": "the path must have 1 to 107 bytes",
    "unix:/" + "x" * 107: "the path must have 1 to 107 bytes",
    "unix:/run/x\0y": "the path must",
    "unix:/run/x:mode=999": "mode must be three octal digits such as 660, not '999'",
    "unix:/run/x:mode=rw": "mode must be",
    "unix:/run/x:lockfile=yes": "lockfile must be",
    "ssl:443:sslmethod=TLSv1_METHOD": "unexpected keyword argument 'sslmethod'; write ssl:PORT",
    "ssl:https": "the port must be",
    "tls:/etc/certificates:port=https": "the port must be",
    "tls": "missing a required argument: 'path'",
    "systemd:index=0": "missing a required argument: 'domain'",
    "systemd:domain=INET": "either index or name must be given",
    "systemd:domain=INET:index=0:name=web": "either index or name must be given",
    "systemd:domain=INET:index=first": "index must be a whole number",
    "systemd:domain=IPV4:index=0": "domain must be INET, INET6 or UNIX",
    "fd": "missing a required argument: 'number'; write fd:NUMBER",
    "fd:": "the number must be",
    "fd:abc": "the number must be a whole number from 0 to 1048576, not 'abc'",
    "fd:-1": "the number must be",
    "fd:3:4": "too many positional arguments",
    "haproxy": "ends too early",
    "haproxy:": "is no endpoint",
    "haproxy:tpc:80": "is no endpoint",
    "haproxy:haproxy:tcp:80": "has haproxy: twice",
    "tls-over:tcp:443": "names no certificate; write tls-over:cert=FILE",
    "tls-over:cert=:tcp:443": "names no certificate",
    "tls-over:key=/k:tcp:443": "names no certificate",
    "tls-over:crt=/c:tcp:443": "is wrong at 'crt=/c'; write tls-over:cert=FILE",
    "tls-over:cert=/a:cert=/b:tcp:443": "is wrong at 'cert=/b'",
    "tls-over:cert=/c": "ends too early",
    "tls-over:cert=/c:": "is no endpoint",
    "tls-over:cert=/c:tls-over:cert=/c:tcp:443": "has TLS twice",
    "tls-over:cert=/c:ssl:443": "has TLS twice",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_string_is_refused_in_one_line_that_says_what_would_be_right(text: str) -> None:
    """Nothing but EndpointError comes out, whatever Twisted would have raised."""
    with pytest.raises(EndpointError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith(repr(text)), message
    assert WRONG[text] in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8080",
        "tcp:port=8080",
        "tcp:0:interface=127.0.0.1",
        "tcp:8080:127.0.0.1",
        "tcp:8080:interface=127.0.0.1:backlog=7",
        r"tcp:8080:interface=\:\:1",
        "tcp6:8080",
        r"tcp6:8080:interface=\:\:1",
        "tcp6:8080:9",
        "unix:/run/x.sock",
        "unix:address=/run/x.sock:mode=660:lockfile=0",
        r"unix:/run/a\:b\\c\=d",
    ],
)
def test_a_string_means_what_it_means_to_twisted(text: str) -> None:
    """The grammar is Twisted's, whose own parser is the measure."""
    ours = parse(text).source
    twisteds = serverFromString(reactor, text)
    if isinstance(ours, sockets.Tcp):
        assert (ours.host, ours.port) == (twisteds._interface, twisteds._port)
    else:
        assert isinstance(ours, sockets.Unix)
        mode = sockets.DEFAULT_MODE if ours.mode is None else ours.mode
        assert (ours.path, mode) == (twisteds._address, twisteds._mode)
    if "backlog" in text or text.endswith(":9"):
        assert ours.backlog == twisteds._backlog


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("tcp:8080:interface=::1", "::1"),
        ("tcp:8080:interface=[::1]", "::1"),
        ("tcp:8080:interface=::1:backlog=5", "::1"),
        ("tcp:8080:interface=[2001:db8::7]:backlog=5", "2001:db8::7"),
        ("tcp6:8080:interface=::", "::"),
        ("ssl:8080:interface=::1:privateKey=/k", "::1"),
        ("tls-over:cert=/c:tcp:8080:interface=::1", "::1"),
        ("haproxy:tcp:8080:interface=fe80::1%lo", "fe80::1%lo"),
    ],
)
def test_an_ipv6_address_is_taken_as_a_person_types_it(text: str, host: str) -> None:
    """No backslashes are needed, with brackets or without."""
    source = parse(text).source
    assert isinstance(source, sockets.Tcp)
    assert source.host == host


def test_tls_goes_over_any_endpoint() -> None:
    """The key file defaults to the certificate file; any endpoint stands inside; escapes are honoured."""
    endpoint = parse(r"tls-over:cert=/a\:b.pem:unix:/run/x\:y")
    assert endpoint.certificates == Files("/a:b.pem", "/a:b.pem")
    assert endpoint.source == sockets.Unix("/run/x:y", None, int(parsing.BACKLOG))
    endpoint = parse("tls-over:chain=/h:key=/k:cert=/c:haproxy:fd:3")
    assert endpoint.certificates == Files("/c", "/k", "/h")
    assert endpoint.proxied
    assert endpoint.source.inherited == "fd:3"
    assert parse("ssl:443:privateKey=/k:certKey=/c").certificates == Files("/c", "/k")
    assert parse("ssl:443").certificates == Files("server.pem", "server.pem")
    assert parse("tls:/etc/tls").certificates == Folder("/etc/tls")


# The world


def world_faults(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Give strings that are right, and what is wrong with the world."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    yield "tcp:0:interface=fe80::1%nosuch0", "'fe80::1%nosuch0' is no address of this machine"
    yield f"unix:{tmp_path}/no/x.sock", f"there is no folder {tmp_path}/no"
    yield f"unix:{tmp_path}/file", "is there and is no socket"
    yield f"unix:{tmp_path}/empty", "is there and is no socket"
    yield f"ssl:0:privateKey={tmp_path}/no.pem", f"cannot read {tmp_path}/no.pem: No such file or directory"
    yield f"tls-over:cert={tmp_path}/empty:tcp:0", f"cannot read {tmp_path}/empty: Is a directory"
    yield f"tls-over:cert={tmp_path}/file:tcp:0", f"{tmp_path}/file holds no certificate in PEM format"
    yield f"tls:{tmp_path}/no", f"there is no folder {tmp_path}/no"
    yield f"tls:{tmp_path}/empty", "holds no .pem file with a certificate and its key"
    yield "systemd:domain=INET:index=0", "systemd handed over no socket with index=0 (see LISTEN_FDNAMES)"
    yield "systemd:domain=INET:name=web", "systemd handed over no socket with name=web"
    yield "fd:99999", "file descriptor 99999 is not open"


def test_what_is_wrong_with_the_machine_is_said_in_one_line_by_verify_and_by_bind(tmp_path: Path) -> None:
    """It is ListenError, begins with the string, and nothing has been made."""
    for text, reason in world_faults(tmp_path):
        with pytest.raises(ListenError) as caught:
            parse(text).verify()
        said = str(caught.value)
        assert said.startswith(f"{text!r}: ")
        assert reason in said
        assert "\n" not in said
        with pytest.raises(ListenError) as caught:
            listen(text)
        assert str(caught.value) == said
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "empty", tmp_path / "file"]


def test_check_binds_and_writes_nothing(tmp_path: Path) -> None:
    """A port that the running service holds is no fault of the configuration."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        parse(f"tcp:{busy.getsockname()[1]}:interface=127.0.0.1").verify()
    parse(f"unix:{tmp_path}/x.sock").verify()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["pipe", "file", "terminal", "udp", "unconnected", "connected", "closed"])
def test_only_a_listening_stream_socket_can_be_inherited(what: str, tmp_path: Path) -> None:
    """What is none, such as a terminal (`fd:0`) or a UDP socket, is refused and stays open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        things: dict[str, Any] = {
            "pipe": os.fdopen(os.pipe()[0]),
            "file": (tmp_path / "f").open("w"),
            "terminal": os.fdopen(os.openpty()[1]),
            "udp": socket.socket(type=socket.SOCK_DGRAM),
            "unconnected": socket.socket(),
            "connected": socket.create_connection(server.getsockname()),
        }
        number = things[what].fileno() if what != "closed" else 99999
        expected = {
            "pipe": "is no socket",
            "file": "is no socket",
            "terminal": "is no socket",
            "udp": "is no TCP or UNIX stream socket",
            "closed": "is not open",
        }.get(what, "is a socket that does not listen")
        with pytest.raises(ListenError, match=expected):
            parse(f"fd:{number}").verify()
        for thing in things.values():
            os.fstat(thing.fileno())
            thing.close()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("tcp:80", "tcp:80", True),
        ("tcp:80", "ssl:80:interface=127.0.0.1", True),
        ("tcp:80:interface=127.0.0.1", "tcp:80:interface=127.0.0.2", False),
        ("tcp6:80", "tcp:80:interface=127.0.0.1", True),
        ("tcp:80", "tcp:80:interface=::1", False),
        ("tcp:0", "tcp:0", False),
        ("tcp:80", "tcp:81", False),
        ("fd:3", "tls-over:cert=/c:fd:3", True),
        ("fd:3", "fd:4", False),
        ("unix:/run/x", "unix:/run/x:mode=600", True),
        ("unix:/run/x", "tcp:80", False),
        ("unix:/proc/self/cwd/x", "unix:x", True),
        ("unix:/run/../run/x", "unix:/run/x", True),
        ("unix:/run/y", "unix:/run/x", False),
    ],
)
def test_it_is_known_which_strings_mean_one_socket(one: str, other: str, *, same: bool) -> None:
    """Wherever no two could listen; port 0 is another one each time."""
    assert parse(one).conflicts_with(parse(other)) is same
    assert parse(other).conflicts_with(parse(one)) is same


# Serving


def listen(text: str, factory: Any = None) -> ListeningPort:
    return parse(text).listen(factory or Factory(), reactor, Sockets())


class Counted(Protocol):
    """A protocol whose end its factory waits for."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)

    def connectionLost(self, _reason: Any) -> None:
        self.factory.connections.remove(self)
        if not self.factory.connections:
            self.factory.idle.callback(None)
            self.factory.idle = Deferred()


class Hello(Counted):
    """Greets, and hangs up."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"hello\n")
        self.transport.loseConnection()


class Greeter(Factory):
    """Counts its starts, stops and connections."""

    protocol = Hello
    noisy = False

    def __init__(self) -> None:
        self.connections: list[Protocol] = []
        self.idle: Deferred[None] = Deferred()
        self.starts = self.stops = 0

    def startFactory(self) -> None:
        self.starts += 1

    def stopFactory(self) -> None:
        self.stops += 1


def read_all(family: int, address: Any, first: bytes = b"", context: ssl.SSLContext | None = None) -> bytes:
    """Connect, say something, and read to the end; in a thread."""
    with socket.socket(family) as plain:
        plain.settimeout(20)
        plain.connect(address)
        if first:
            plain.sendall(first)
        connection = context.wrap_socket(plain, server_hostname="localhost") if context else plain
        said = b""
        while more := connection.recv(100):
            said += more
        connection.close()
        return said


def trusting(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class Serving(TestCase):
    """Endpoints that really serve."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.factory = Greeter()

    async def tearDown(self) -> None:
        if self.factory.connections:
            await self.factory.idle

    async def bind(self, text: str) -> ListeningPort:
        bound = listen(text, self.factory)
        self.addCleanup(lambda: Deferred.fromCoroutine(bound.close()))
        return bound

    async def greeted(self, family: int, address: Any, *args: Any) -> None:
        assert await deferToThread(read_all, family, address, *args) == b"hello\n"

    async def test_tcp(self) -> None:
        """The real port is told, and is free again after the close."""
        bound = await self.bind("tcp:0:interface=127.0.0.1")
        assert bound.address == f"tcp:127.0.0.1:{bound.port}"
        assert bound.url == f"http://127.0.0.1:{bound.port}"
        assert bound.problem() is None
        await self.greeted(socket.AF_INET, ("127.0.0.1", bound.port))
        await bound.close()
        await bound.close()
        assert bound.problem() is None
        assert (self.factory.starts, self.factory.stops) == (1, 1)
        socket.create_server(("127.0.0.1", bound.port)).close()

    async def test_tcp6(self) -> None:
        """IPv6 is bracketed in the address and the URL; every-address is reached by loopback."""
        bound = await self.bind("tcp:0:interface=::1")
        assert bound.address == f"tcp:[::1]:{bound.port}"
        assert bound.url == f"http://[::1]:{bound.port}"
        await self.greeted(socket.AF_INET6, ("::1", bound.port))
        everywhere = await self.bind("tcp6:0")
        # It takes IPv4 too, as what systemd makes of ListenStream=8080 does.
        assert everywhere.url == f"http://127.0.0.1:{everywhere.port}"
        everywhere4 = await self.bind("tcp:0")
        assert everywhere4.url == f"http://127.0.0.1:{everywhere4.port}"
        with socket.create_server(("::", 0), family=socket.AF_INET6) as listening:
            only6 = await self.bind(f"fd:{listening.fileno()}")
            assert only6.url == f"http://[::1]:{only6.port}"

    async def test_busy_port(self) -> None:
        """A taken port is named, and the factory was never started."""
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            text = f"tcp:{port}:interface=127.0.0.1"
            with pytest.raises(ListenError) as caught:
                listen(text, self.factory)
        assert str(caught.value) == f"{text!r}: port {port} is already in use"
        assert self.factory.starts == 0

    async def test_address_of_another_machine(self) -> None:
        """An address that is not ours (TEST-NET-1, RFC 5737) is named."""
        with pytest.raises(ListenError, match=r"'192\.0\.2\.1' is no address of this machine"):
            listen("tcp:0:interface=192.0.2.1", self.factory)

    async def test_a_factory_that_cannot_start_leaves_nothing_behind(self) -> None:
        """The socket is closed, its path is gone."""
        self.factory.startFactory = lambda: 1 / 0
        path = self.folder / "x.sock"
        with pytest.raises(ZeroDivisionError):
            listen(f"unix:{path}", self.factory)
        assert not path.exists()

    async def test_last_accepts(self) -> None:
        """A client that is connected when accepting stops is served; the next one is refused."""
        bound = await self.bind("tcp:0:interface=127.0.0.1")
        waiting = [socket.create_connection(("127.0.0.1", bound.port)) for _ in range(5)]
        bound.stop_accepting()
        assert len(self.factory.connections) == 5
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", bound.port))
        for client in waiting:
            client.settimeout(20)
            assert await deferToThread(client.recv, 100) == b"hello\n"
            client.close()
        bound.stop_accepting()

    async def test_unix(self) -> None:
        """The mode is the one asked for, and the path goes with the socket, without a lock file."""
        path = self.folder / "x.sock"
        bound = await self.bind(f"unix:{path}:mode=620")
        assert bound.address == f"unix:{path}"
        assert bound.url is None
        assert stat.S_IMODE(path.stat().st_mode) == 400
        assert [path] == list(self.folder.iterdir())
        await self.greeted(socket.AF_UNIX, str(path))
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        bound.stop_accepting()
        assert not path.exists()
        assert await deferToThread(client.recv, 100) == b"hello\n"
        client.close()

    async def test_owner_of_a_unix_socket(self) -> None:
        """User and group are those asked for; names that there are not are told before anything is bound."""
        path = self.folder / "x.sock"
        own = self.folder.stat()
        user, group = pwd.getpwuid(own.st_uid).pw_name, grp.getgrgid(own.st_gid).gr_name
        if os.geteuid() == 0:
            user = group = "daemon"
        await self.bind(f"unix:{path}:mode=660:user={user}:group={group}")
        assert (path.owner(), path.group()) == (user, group)
        for owner, reason in (
            ("user=nobody-x", "there is no user nobody-x"),
            ("group=g-x", "there is no group g-x"),
        ):
            with pytest.raises(ListenError, match=reason):
                parse(f"unix:{self.folder}/y.sock:{owner}").verify()

    async def test_an_owner_that_it_may_not_have(self) -> None:
        """The refusal leaves no path behind."""
        path = self.folder / "x.sock"
        endpoint = parse(f"unix:{path}:user={pwd.getpwuid(os.geteuid()).pw_name}")
        refusal = PermissionError(errno.EPERM, "Operation not permitted")
        with mock.patch("os.chown", side_effect=refusal), pytest.raises(ListenError) as caught:
            endpoint.bind(self.factory, reactor, Sockets())
        assert str(caught.value).endswith(f"cannot listen on {path}: Operation not permitted")
        assert list(self.folder.iterdir()) == []

    async def test_stale_unix_socket(self) -> None:
        """What kill -9 left is replaced, though its lock names a pid that lives, such as 1."""
        path = self.folder / "x.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        (self.folder / "x.sock.lock").symlink_to("1")
        await self.bind(f"unix:{path}")
        await self.greeted(socket.AF_UNIX, str(path))
        assert [path] == list(self.folder.iterdir())

    async def test_live_unix_socket(self) -> None:
        """A server that answers keeps its path, even with a full backlog."""
        path = self.folder / "x.sock"
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(str(path))
            live.listen(0)
            clients = []
            for _ in range(3):
                with pytest.raises(ListenError) as caught:
                    listen(f"unix:{path}", self.factory)
                assert str(caught.value) == f"'unix:{path}': {path} is already in use"
                clients.append(socket.socket(socket.AF_UNIX))
                clients[-1].settimeout(0)
                assert clients[-1].connect_ex(str(path)) in (0, errno.EAGAIN)
            for client in clients:
                client.close()
        assert path.exists()

    async def test_replaced_unix_socket(self) -> None:
        """A path that a successor took over is a problem, and is not unlinked by us."""
        path = self.folder / "x.sock"
        bound = await self.bind(f"unix:{path}")
        path.unlink()
        assert bound.problem() == f"the socket {path} was removed or replaced"
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
            assert bound.problem() == f"the socket {path} was removed or replaced"
            bound.stop_accepting()
            assert path.exists()

    # Inherited

    async def survives(self, listening: socket.socket, connect_to: Any, address: str) -> None:
        number = listening.fileno()
        os.set_inheritable(number, True)  # noqa: FBT003  os takes it by position only
        bound = await self.bind(f"fd:{number}")
        assert bound.address == f"fd:{number} ({address})"
        assert not os.get_inheritable(number)
        assert not os.get_blocking(number)
        await self.greeted(listening.family, connect_to)
        bound.stop_accepting()
        assert self.factory.stops == 1
        # The socket goes on: another of its holders accepts who comes now.
        with socket.socket(listening.family) as client:
            client.connect(connect_to)
            listening.accept()[0].close()
        again = await self.bind(f"fd:{number}")
        await self.greeted(listening.family, connect_to)
        await again.close()
        listening.close()

    async def test_inherited_tcp(self) -> None:
        """It serves, and survives our close."""
        listening = socket.create_server(("127.0.0.1", 0))
        host, port = listening.getsockname()
        await self.survives(listening, (host, port), f"tcp:{host}:{port}")

    async def test_inherited_tcp6(self) -> None:
        """It serves, and survives our close."""
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
        port = listening.getsockname()[1]
        await self.survives(listening, ("::1", port), f"tcp:[::1]:{port}")

    async def test_inherited_unix(self) -> None:
        """It serves, survives our close, and its file is neither re-chmodded nor unlinked."""
        path = self.folder / "x.sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(5)
        await self.survives(listening, str(path), f"unix:{path}")
        assert stat.S_IMODE(path.stat().st_mode) == 384

    async def test_inherited_abstract_unix(self) -> None:
        """A name without a file is shown as ss(8) does."""
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"\0halfsync-{os.getpid()}")
        listening.listen(5)
        await self.survives(listening, listening.getsockname(), f"unix:@halfsync-{os.getpid()}")

    # Layers

    async def test_tls_over_an_inherited_socket(self) -> None:
        """TLS goes over fd:, and says so in the address."""
        certificate = write(self.folder / "site.pem", *make_certificate("localhost"))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            host, port = listening.getsockname()
            bound = await self.bind(f"tls-over:cert={certificate}:fd:{listening.fileno()}")
            assert bound.address == f"fd:{listening.fileno()} (tcp:{host}:{port}, tls)"
            assert bound.url == f"https://{host}:{port}"
            await self.greeted(socket.AF_INET, (host, port), b"", trusting())
            await bound.close()

    async def test_tls_over_a_unix_socket(self) -> None:
        """Of our own, or inherited."""
        certificate = write(self.folder / "site.pem", *make_certificate("localhost"))
        paths = [str(self.folder / name) for name in ("own.sock", "inherited.sock")]
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(paths[1])
            listening.listen(5)
            for path, where in zip(paths, (f"unix:{paths[0]}", f"fd:{listening.fileno()}"), strict=True):
                bound = await self.bind(f"tls-over:cert={certificate}:{where}")
                await self.greeted(socket.AF_UNIX, path, b"", trusting())
                await bound.close()

    async def test_haproxy_over_an_inherited_socket(self) -> None:
        """The peer is the one that the PROXY header names."""
        seen: list[Any] = []

        class Peer(Counted):
            def dataReceived(self, data: bytes) -> None:
                seen.append((self.transport.getPeer().host, data))
                self.transport.loseConnection()

        self.factory.protocol = Peer
        with socket.create_server(("127.0.0.1", 0)) as listening:
            bound = await self.bind(f"haproxy:fd:{listening.fileno()}")
            assert bound.address.endswith(", haproxy)")
            assert bound.url is None
            header = b"PROXY TCP4 203.0.113.9 203.0.113.1 1000 80\r\n"
            await deferToThread(read_all, socket.AF_INET, listening.getsockname(), header + b"x")
            assert seen == [("203.0.113.9", b"x")]
            await bound.close()

    async def test_proxy_header_comes_before_tls(self) -> None:
        """In both orders of the string: proxies send it before the handshake."""
        certificate = write(self.folder / "site.pem", *make_certificate("localhost"))
        header = b"PROXY TCP4 203.0.113.9 203.0.113.1 1000 443\r\n"
        with socket.create_server(("127.0.0.1", 0)) as listening:
            for text in (
                f"haproxy:ssl:0:privateKey={certificate}:interface=127.0.0.1",
                f"tls-over:cert={certificate}:haproxy:tcp:0:interface=127.0.0.1",
                f"haproxy:tls-over:cert={certificate}:fd:{listening.fileno()}",
            ):
                bound = await self.bind(text)
                assert bound.address.endswith(f"tcp:127.0.0.1:{bound.port}, tls, haproxy)") or (
                    bound.address == f"tcp:127.0.0.1:{bound.port} (tls, haproxy)"
                )
                await self.greeted(socket.AF_INET, ("127.0.0.1", bound.port), header, trusting())
                await bound.close()

    async def test_alpn_is_the_factorys(self) -> None:
        """A Site behind any kind of TLS endpoint negotiates its own protocols."""
        from twisted.web.resource import Resource
        from twisted.web.server import Site

        pair = make_certificate("localhost")
        certificate, key = write(self.folder / "c.pem", pair[0]), write(self.folder / "k.pem", pair[1])
        site = Site(Resource())
        for text in (
            f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1",
            f"tls:{self.folder}:0:interface=127.0.0.1",
            f"tls-over:cert={certificate}:key={key}:tcp:0:interface=127.0.0.1",
        ):
            bound = listen(text, site)
            agreed = await deferToThread(agree, bound.port, ("http/1.1",))
            assert agreed == "http/1.1"
            await bound.close()

    # Health

    async def test_shared_socket_that_was_shut_down(self) -> None:
        """Another process's shutdown(2) is noticed, logged once, and does not make the reactor spin."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            bound = await self.bind(f"fd:{listening.fileno()}")
            assert bound.problem() is None
            with capture_logs() as events:
                listening.shutdown(socket.SHUT_RDWR)
                assert bound.problem() == "its socket was shut down, perhaps by a process that shares it"
                while bound._acceptor.connected:
                    await deferToThread(lambda: None)
            assert [event["event"] for event in events] == ["listening.broken"]
            assert bound.problem() == "its socket was shut down, perhaps by a process that shares it"
            await bound.close()
            assert self.factory.stops == 1
            assert bound.problem() is None

    async def test_descriptor_closed_behind_its_back(self) -> None:
        """A number that was closed, or given to something else, is noticed."""
        bound = await self.bind("tcp:0:interface=127.0.0.1")
        number = bound._acceptor.fileno()
        kept, other = os.dup(number), os.open(os.devnull, os.O_RDONLY)
        os.close(number)
        assert bound.problem() == "its file descriptor was closed behind its back"
        os.dup2(other, number)
        assert bound.problem() == "its file descriptor was closed behind its back"
        os.dup2(kept, number)
        os.close(kept)
        os.close(other)
        assert bound.problem() is None

    async def test_no_longer_reading(self) -> None:
        """A port that someone stopped is not ready."""
        bound = await self.bind("tcp:0:interface=127.0.0.1")
        bound._acceptor.stopReading()
        assert bound.problem() == "it no longer accepts"


def agree(port: int, protocols: tuple[str, ...]) -> str | None:
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        trusting(protocols).wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return connection.selected_alpn_protocol()
