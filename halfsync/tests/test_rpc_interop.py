"""Our RPC beside that of others: Apache's own test client and server, thriftpy2, Node.js.

What they need is fetched when the tests run, by version and hash; each test says when it cannot be.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from children import SOURCES, reserved_port, until
from debian_sources import unpack
from rpc_tools import serving
from sdists import CACHE, keep

THRIFT = ("thrift", "0.17.0-2", "thrift_0.17.0.orig.tar.gz")
THRIFT_SHA256 = "f5888bcd3b8de40c2c2ab86896867ad9b18510deb412cba3e5da76fb4c604c29"

WITHOUT_ITS_BUILD = """
import runpy, sys, types
util = types.ModuleType("util")
util.local_libpath = lambda: sys.path[0]
sys.modules["util"] = util
script = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(script, run_name="__main__")
"""
"""Runs a script of Apache's test/py, which looks for a runtime that was built beside it, with ours."""

SERVE = """
import os, sys, types
from halfsync.thrift import RpcListener, Service, workers_from_flags
util = types.ModuleType("util")
util.local_libpath = lambda: sys.path[0]
sys.modules["util"] = util
import TestServer
from ThriftTest import SecondService, ThriftTest, ttypes
from thrift.Thrift import TException
vars(TestServer).update(vars(ttypes), options=types.SimpleNamespace(verbose=0), TException=TException)

def parts(process):
    workers = process.add(workers_from_flags(process.reactor))
    services = [
        Service(ThriftTest, TestServer.TestHandler()), Service(SecondService, TestServer.SecondHandler()),
    ]
    process.add(RpcListener.from_flags(services, workers, process.reactor))
main(parts)
"""
"""Apache's handlers on our server."""


@pytest.fixture(scope="module")
def apache(tmp_path_factory) -> tuple[Path, Path]:
    """Apache's test/py, and the code generated from its ThriftTest.thrift."""
    if shutil.which("thrift") is None:
        pytest.skip("there is no Thrift compiler here (Debian: thrift-compiler)")
    source = unpack(*THRIFT, THRIFT_SHA256)
    generated = tmp_path_factory.mktemp("generated")
    subprocess.run(
        ["thrift", "--gen", "py:slots", "-out", generated, source / "test" / "ThriftTest.thrift"],
        check=True,
        capture_output=True,
    )
    return source / "test" / "py", generated


@pytest.fixture(scope="module")
def ours(apache):
    """Our server with Apache's handlers."""
    folder, generated = apache
    with serving(code=f"import sys\nsys.path[:0] = {[str(folder), str(generated)]}\n{SERVE}") as service:
        yield service


@pytest.mark.parametrize(
    "protocol",
    ["binary", "accel", "compact", "accelc", "header", "multi", "multia", "multic", "multiac", "multih"],
)
def test_apache_test_client(apache, ours, protocol):
    """Apache's whole test client passes against our server, in each of its protocols but JSON."""
    folder, generated = apache
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_ITS_BUILD,
            str(folder / "TestClient.py"),
            f"--port={ours.address[1]}",
            f"--protocol={protocol}",
            "--transport=buffered" if protocol in ("header", "multih") else "--transport=framed",
            f"--genpydir={generated}",
        ],
        env={"PYTHONPATH": f"{generated}{os.pathsep}{folder}", "PATH": os.environ["PATH"]},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
    assert "FAILED" not in done.stderr


CALL = """
import sys, traceback
sys.path[:0] = {paths!r}
from ThriftTest import SecondService, ThriftTest
from ThriftTest.ttypes import Insanity, Numberz, Xception, Xtruct, Xtruct2
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import react
from twisted.internet.threads import deferToThread
from halfsync.thrift import RemoteError, RpcClient

async def calls(reactor, **options):
    client = RpcClient(ThriftTest.Client, "tcp:127.0.0.1:{port}", reactor=reactor, **options)
    try:
        assert await client.testVoid() is None
        text = "Zoë パイソン" * 100
        assert await client.testString(text) == text
        assert await client.testBool(True) is True
        for name, value in (
            ("testByte", -128), ("testI32", 2**31 - 1), ("testI64", -(2**63)),
            ("testDouble", -1.5e-7), ("testBinary", bytes(range(256))), ("testMap", {{1: 2, -3: 4}}),
            ("testStringMap", {{"a": "ä"}}), ("testSet", {{1, -2}}), ("testList", [3, 2, 1]),
            ("testEnum", Numberz.EIGHT), ("testTypedef", 2**40),
            ("testStruct", Xtruct("x", 1, 2, 3)), ("testNest", Xtruct2(1, Xtruct("x", 1, 2, 3), 4)),
        ):
            found = await getattr(client, name)(value)
            assert found == value, (name, found)
        assert (await client.testMapMap(1))[-4][-3] == -3
        insane = Insanity({{Numberz.FIVE: 5}}, [Xtruct("y", 1, 2, 3)])
        assert (await client.testInsanity(insane))[1][2] == insane
        assert (await client.testMulti(1, 2, 3, {{1: "a"}}, 5, 6)).string_thing == "Hello2"
        for arg, wanted in (("Xception", Xception), ("TException", RemoteError)):
            try:
                await client.testException(arg)
            except wanted as error:
                assert arg != "Xception" or (error.errorCode, error.message) == (1001, arg)
            else:
                raise AssertionError(arg)
        await client.testException("fine")
        await client.testOneway(0)
        many = [Deferred.fromCoroutine(client.testI32(n)) for n in range(100)]
        assert [value for _, value in await DeferredList(many)] == list(range(100))
        assert await deferToThread(client.blocking.testString, "in a thread") == "in a thread"
    finally:
        await client.stop()

async def main(reactor):
    await calls(reactor, {options})
    print("all well")

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


def call_all(apache, port: int, options: str) -> None:
    """Have our client make every call of ThriftTest, in a process of its own."""
    code = CALL.format(paths=[str(SOURCES), *map(str, apache)], port=port, options=options)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all well" in done.stdout


@pytest.mark.parametrize("options", ["", "theader=False", "service='ThriftTest'"])
def test_our_client_with_our_server(apache, ours, options):
    """The same calls as below: with THeader, without, multiplexed."""
    call_all(apache, ours.address[1], options)


@pytest.mark.parametrize(
    ("server", "protocol", "options"),
    [
        ("TThreadedServer", "accel", "theader=False"),
        ("TThreadPoolServer", "binary", "theader=False"),
        ("TNonblockingServer", "accel", "theader=False"),
        ("TThreadedServer", "header", ""),
        ("TThreadedServer", "multi", "theader=False, service='ThriftTest'"),
    ],
)
def test_our_client_with_apache_test_server(apache, server, protocol, options):
    """Our client makes every call to Apache's own test server, in its servers and protocols."""
    folder, generated = apache
    transport = "buffered" if protocol == "header" else "framed"
    command = [sys.executable, "-c", WITHOUT_ITS_BUILD, str(folder / "TestServer.py")]
    command += [f"--protocol={protocol}", f"--transport={transport}", f"--genpydir={generated}", server]
    environ = {"PYTHONPATH": f"{generated}{os.pathsep}{folder}", "PATH": os.environ["PATH"]}
    with (
        reserved_port() as port,
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            [*command, f"--port={port}"], env=environ, cwd=folder, stdout=said, stderr=said
        ) as process,
    ):
        try:
            wait_for_port(port, process)
            call_all(apache, port, options)
        finally:
            process.kill()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert process.poll() is None, "the server has ended"
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) == 0

    until(answers)


THRIFTPY2 = """
thriftpy2==0.7.1 \
 --hash=sha256:82a3e162b0b591bd4b0fd0b6a8502d03f02c89702ac09e650b946b8a185c7e7a \
 --hash=sha256:e4cbd5a231ef5474a103878fb3e187eabf96aadd6087b714132cb095c24f0a8c \
 --hash=sha256:3b1ffa78317f8ba7949b42f7eb108c2d7fff86bf5f6c1868d2b9e1e20724d000
ply==3.11 --hash=sha256:096f9b8350b65ebd2fd1346b12452efe5b9607f7482813ffca50c22722a807ce
"""
"""The wheels for Python 3.11, 3.12 and 3.13."""


def pinned(name: str, requirements: str) -> Path:
    """Install packages by hash into a folder of their own; return it, or skip the test."""
    target = CACHE / f"{name}-{sys.version_info.major}{sys.version_info.minor}"
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        listed = Path(folder, "pinned.txt")
        listed.write_text(requirements)
        command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "-t", f"{folder}/made", "-r", str(listed)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            said = (run.stderr.strip() or "pip said nothing").splitlines()[-1]
            pytest.skip(f"{name} cannot be installed here: {said}")
        keep(Path(folder, "made"), target)
    return target


@pytest.mark.parametrize("protocol", ["Binary", "CyBinary", "Compact"])
def test_thriftpy2(protocol):
    """thriftpy2 calls, hears declared exceptions and our errors, sends oneway calls."""
    folder = pinned("thriftpy2", THRIFTPY2)
    code = f"""
import sys
sys.path.insert(0, {str(folder)!r})
import thriftpy2
from thriftpy2 import protocol, transport
from thriftpy2.rpc import make_client
from thriftpy2.thrift import TApplicationException
sample = thriftpy2.load({str(Path(__file__).with_name("sample.thrift"))!r}, module_name="sample_thrift")
client = make_client(sample.Sample, "127.0.0.1", int(sys.argv[1]),
    proto_factory=protocol.T{protocol}ProtocolFactory(),
    trans_factory=transport.T{"Cy" if protocol == "CyBinary" else ""}FramedTransportFactory())
assert client.hello("Zoë") == "Hello, Zoë!"
assert client.ping() == "pong"
assert client.lengths({{"a", "bcd"}}) == {{"a": 1, "bcd": 3}}
try:
    client.hello("")
except sample.InvalidName as error:
    assert error.reason == "a name is wanted"
else:
    raise AssertionError
client.note("x")
try:
    client.hello("boom")
except TApplicationException as error:
    assert error.type == 6, error
else:
    raise AssertionError
assert client.hello("still there") == "Hello, still there!"
print("all well")
"""
    with serving() as service:
        port = str(service.address[1])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, port],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "all well" in done.stdout, done.stderr


NODE = """
const thrift = require("thrift");
const Sample = require(process.argv[3] + "/Sample");
const types = require(process.argv[3] + "/sample_types");
const connection = thrift.createConnection("127.0.0.1", parseInt(process.argv[2]), {
  transport: thrift.TFramedTransport,
  protocol: process.argv[4] === "compact" ? thrift.TCompactProtocol : thrift.TBinaryProtocol,
});
const client = thrift.createClient(Sample, connection);
const fail = (error) => { console.error(error); process.exit(1); };
connection.on("error", fail);
(async () => {
  const many = await Promise.all([...Array(50).keys()].map((n) => client.hello("Zoë " + n)));
  many.forEach((text, n) => { if (text !== `Hello, Zoë ${n}!`) fail(text); });
  if ((await client.echo(Buffer.from([255, 0, 1]))).toString("hex") !== "ff0001") fail("echo");
  try { await client.hello(""); fail("no error"); } catch (error) {
    if (!(error instanceof types.InvalidName)) fail(error);
  }
  try { await client.hello("boom"); fail("no error"); } catch (error) {
    if (error.type !== 6) fail(error);
  }
  console.log("all well");
  connection.end();
})().catch(fail);
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory) -> Path:
    """A folder with Apache's library for Node.js, and the code of our sample."""
    for command, package in (("node", "nodejs"), ("npm", "npm"), ("thrift", "thrift-compiler")):
        if shutil.which(command) is None:
            pytest.skip(f"there is no {command} here (Debian: {package})")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).parent / "node_rpc" / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert "EINTEGRITY" not in done.stderr, done.stderr
    if done.returncode:
        pytest.skip(f"npm cannot fetch thrift: {(done.stderr.strip() or 'no reason').splitlines()[0]}")
    subprocess.run(
        ["thrift", "--gen", "js:node", "-out", folder, Path(__file__).with_name("sample.thrift")],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.parametrize("protocol", ["binary", "compact"])
def test_node(node, protocol):
    """Apache's library for Node.js, which pipelines: each answer reaches its call."""
    with serving() as service:
        done = subprocess.run(
            ["node", "-e", NODE, "node", str(service.address[1]), str(node), protocol],
            cwd=node,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "all well" in done.stdout, done.stdout + done.stderr
