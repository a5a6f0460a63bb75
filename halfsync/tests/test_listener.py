"""Several endpoints and one factory: all or nothing, drained and stopped together."""

from __future__ import annotations

import re
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from certificates import make_certificate, write
from children import child
from halfsync.admin import Admin
from halfsync.endpoints import EndpointError
from halfsync.endpoints.listener import Listener
from halfsync.life.about import About
from halfsync.life.errors import StartError
from halfsync.life.process import Process


class Draining(Factory):
    """A factory that notes what it is told."""

    protocol = Protocol
    noisy = False

    def __init__(self) -> None:
        self.told: list[str] = []
        self.done: Deferred[None] = Deferred()

    async def drain(self) -> None:
        self.told.append("drain")
        await self.done
        self.told.append("drained")

    def abort(self) -> None:
        self.told.append("abort")


class Listening(TestCase):
    """A listener in the test's own reactor."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.factory = Draining()

    def listener(self, *endpoints: str, factory: Any = None) -> Listener:
        listener = Listener(
            "web", flag="web.listen", endpoints=endpoints, factory=factory or self.factory, reactor=reactor
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        return listener

    async def test_addresses(self) -> None:
        """Each endpoint is told, in the log too, and the URL is that of the first plain TCP one."""
        pem = write(self.folder / "x.pem", *make_certificate("localhost"))
        listener = self.listener(
            f"unix:{self.folder}/x.sock", f"ssl:0:privateKey={pem}", "haproxy:tcp:0", "tcp:0", "tcp6:0"
        )
        assert listener.url() is None
        with capture_logs() as events:
            await listener.start()
        unix, tls, proxied, tcp, tcp6 = listener.addresses()
        assert unix == f"unix:{self.folder}/x.sock"
        assert re.search(r"^tcp:0\.0\.0\.0:\d+ \(tls\)$", tls)
        assert re.search(r"^tcp:0\.0\.0\.0:\d+ \(haproxy\)$", proxied)
        assert re.search(r"^tcp:\[::\]:\d+$", tcp6)
        assert listener.url() == f"http://127.0.0.1:{tcp.rpartition(':')[2]}"
        assert listener.addresses() == [event["address"] for event in events]
        assert {"web.listening"} == {event["event"] for event in events}
        assert listener.problems() == []

    async def test_no_endpoint_at_all_is_told(self) -> None:
        """An empty flag is likely a variable that was not set: a service that nobody can reach says so."""
        process = Process(About("svc"), reactor)
        with capture_logs() as logs:
            await self.listener().start()
            await self.listener("tcp:0:interface=127.0.0.1").start()
            await Admin(process, listen=[]).start()
        assert [(each["event"], each.get("problem")) for each in logs] == [
            ("web.not_listening", "--web.listen is empty; name an endpoint, such as tcp:8080"),
            ("web.listening", None),
        ]

    async def test_all_or_nothing(self) -> None:
        """When one endpoint cannot be had, those before it are let go; flag and string are named."""
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            text = f"tcp:{port}:interface=127.0.0.1"
            listener = self.listener(f"unix:{self.folder}/x.sock", text)
            with capture_logs() as events, pytest.raises(StartError) as caught:
                await listener.start()
        assert str(caught.value) == f"--web.listen: {text!r}: port {port} is already in use"
        assert listener.addresses() == []
        assert list(self.folder.iterdir()) == []
        assert events == []

    async def test_wrong_string(self) -> None:
        """A string that the flags did not judge is refused when the listener is made."""
        with pytest.raises(EndpointError, match=r"^'tpc:80' is no endpoint; write for example tcp:8080"):
            self.listener("tpc:80")

    async def test_drain_then_stop(self) -> None:
        """Accepting ends everywhere before the factory drains; it is aborted when the part stops."""
        listener = self.listener("tcp:0:interface=127.0.0.1", f"unix:{self.folder}/x.sock")
        await listener.start()
        address = ("127.0.0.1", int(listener.addresses()[0].rpartition(":")[2]))
        drained = Deferred.fromCoroutine(listener.drain())
        assert self.factory.told == ["drain"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        assert list(self.folder.iterdir()) == []
        assert listener.problems() == []
        self.assertNoResult(drained)
        self.factory.done.callback(None)
        await drained
        await listener.stop()
        await listener.stop()
        assert self.factory.told == ["drain", "drained", "abort", "abort"]

    async def test_a_drain_that_is_cut_is_no_bug(self) -> None:
        """At the deadline the process cancels it, and hears that; what fails by itself is heard as it is."""
        listener = self.listener("tcp:0:interface=127.0.0.1")
        await listener.start()
        drained = Deferred.fromCoroutine(listener.drain())
        drained.cancel()
        self.failureResultOf(drained, CancelledError)
        self.factory.done = Deferred()
        failed = Deferred.fromCoroutine(listener.drain())
        self.factory.done.errback(ValueError("a bug"))
        self.failureResultOf(failed, ValueError)

    async def test_plain_factory(self) -> None:
        """A factory that knows nothing of drains is left alone."""
        listener = self.listener("tcp:0:interface=127.0.0.1", factory=Factory.forProtocol(Protocol))
        await listener.start()
        await listener.drain()
        await listener.stop()

    async def test_problems(self) -> None:
        """A broken endpoint is named, so that readiness can turn."""
        listener = self.listener("tcp:0:interface=127.0.0.1", f"unix:{self.folder}/x.sock")
        await listener.start()
        (self.folder / "x.sock").unlink()
        path = f"{self.folder}/x.sock"
        assert [f"unix:{path}: the socket {path} was removed or replaced"] == listener.problems()


SERVE = """
import json, os, socket, sys, threading
{before}
from twisted.internet import {reactor}
{reactor}.install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
assert "halfsync" not in sys.modules
from halfsync.endpoints import EndpointError
from halfsync.endpoints.listener import Listener

class Hello(Protocol):
    def connectionMade(self):
        self.transport.write(b"hello")
        self.transport.loseConnection()

def greeted(family, address):
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)
        return client.makefile().read()

def say(event, **more):
    print(json.dumps(dict(more, event=event)), flush=True)

async def main():
    listener = Listener(
        "web", flag="web.listen", endpoints=sys.argv[1:], factory=Factory.forProtocol(Hello), reactor=reactor
    )
    await listener.start()
{main}
    await listener.stop()

def end(result):
    if result is not None:
        print(result, file=sys.stderr)
    reactor.stop()

reactor.callWhenRunning(lambda: Deferred.fromCoroutine(main()).addBoth(end))
reactor.run()
say("ended")
"""


def served(reactor_name: str, main: str, before: str = "") -> str:
    indented = "\n".join("    " + line for line in main.strip().splitlines())
    return SERVE.replace("{reactor}", reactor_name).replace("{before}", before).replace("{main}", indented)


REACTORS = pytest.mark.parametrize("reactor_name", ["epollreactor", "asyncioreactor"])


@REACTORS
def test_every_family_on_every_reactor(reactor_name: str, tmp_path: Path) -> None:
    """TCP, UNIX and an inherited socket serve, take the last accepts, and end, whichever reactor runs."""
    main = """
import re
tcp = ("127.0.0.1", int(re.search("[0-9]+$", listener.addresses()[0])[0]))
unix = listener.addresses()[1].removeprefix("unix:")
inherited = socket.socket(fileno=os.dup(int(sys.argv[3][3:]))).getsockname()
for family, address in ((socket.AF_INET, tcp), (socket.AF_UNIX, unix), (socket.AF_INET, inherited)):
    say("greeted", text=await deferToThread(greeted, family, address))
last = socket.create_connection(tcp)
await listener.drain()
last.settimeout(20)
say("last", text=await deferToThread(last.makefile().read))
last.close()
"""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        endpoints = ["tcp:0:interface=127.0.0.1", f"unix:{tmp_path}/x.sock", f"fd:{shared.fileno()}"]
        code = served(reactor_name, main)
        with child(code, *endpoints, prelude="", pass_fds=(shared.fileno(),)) as process:
            process.wait_for("ended")
        said = [event.get("text") for event in process.events if event["event"] in ("greeted", "last")]
        assert said == ["hello"] * 4, process.events
        # The child is gone; the socket that it shared is not.
        with socket.create_connection(shared.getsockname()):
            shared.accept()[0].close()
    assert list(tmp_path.iterdir()) == []


@REACTORS
def test_a_shutdown_by_another_process_does_not_make_the_reactor_spin(reactor_name: str) -> None:
    """The endpoint is a problem, said once, and the process is idle."""
    main = """
import time
from structlog.testing import capture_logs
from twisted.internet.task import deferLater
with capture_logs() as events:
    say("serving")
    while not events:
        await deferLater(reactor, 0.01)
    used = time.process_time()
    await deferLater(reactor, 0.3)
    used = time.process_time() - used
say("problem", problems=listener.problems(), used=used, log=[one["event"] for one in events])
"""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        text = f"fd:{shared.fileno()}"
        with child(served(reactor_name, main), text, prelude="", pass_fds=(shared.fileno(),)) as process:
            process.wait_for("serving")
            shared.shutdown(socket.SHUT_RDWR)
            seen = process.wait_for("problem")
            process.wait_for("ended")
    assert seen["problems"][0].endswith("its socket was shut down, perhaps by a process that shares it")
    assert seen["used"] < 0.15, seen
    assert seen["log"] == ["listening.broken"]


def test_systemd_socket() -> None:
    """By index or by name, whatever family the string claims, as systemd hands it over (sd_listen_fds(3))."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as shared:
        before = f"""
os.dup2({shared.fileno()}, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web.socket")
"""
        main = f"""
text = await deferToThread(greeted, socket.AF_INET6, {shared.getsockname()[:2]!r})
say("addresses", addresses=listener.addresses(), text=text)
"""
        endpoints = ["systemd:domain=INET:index=0", "systemd:domain=INET6:name=web.socket"]
        code = served("epollreactor", main, before)
        with child(code, *endpoints, prelude="", pass_fds=(shared.fileno(),)) as process:
            seen = process.wait_for("addresses")
            process.wait_for("ended")
        port = shared.getsockname()[1]
    assert seen["text"] == "hello"
    assert seen["addresses"] == [
        f"systemd:index=0 (tcp:[::1]:{port})",
        f"systemd:name=web.socket (tcp:[::1]:{port})",
    ]


def test_a_descriptor_closed_behind_its_back_closes_nothing_else() -> None:
    """What took its number stays open when the listener stops."""
    main = """
number = listener._ports[0]._acceptor.fileno()
os.dup2(os.open(os.devnull, os.O_RDONLY), number)
say("problem", problems=listener.problems())
await listener.drain()
say("drained", open=os.path.samestat(os.fstat(number), os.stat(os.devnull)))
"""
    with child(served("epollreactor", main), "tcp:0:interface=127.0.0.1", prelude="") as process:
        seen = process.wait_for("problem")
        assert process.wait_for("drained")["open"]
    assert seen["problems"][0].endswith("its file descriptor was closed behind its back")


def test_importing_the_library_chooses_no_reactor() -> None:
    """`--service.reactor` must be able to choose after the imports."""
    code = """
import json, sys, halfsync.endpoints.listener
print(json.dumps({"event": "imported", "reactor": "twisted.internet.reactor" in sys.modules}))
"""
    with child(code, prelude="") as process:
        assert process.wait_for("imported")["reactor"] is False
