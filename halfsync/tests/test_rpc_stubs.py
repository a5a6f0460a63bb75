"""Types for generated code: what a type checker then says of handlers and clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from checkers import mypy, pyright
from children import SOURCES

GENERATED = Path(__file__).parent / "sample_rpc"

SERVICE = """\
from __future__ import annotations


from sample_rpc import Sample
from sample_rpc.ttypes import InvalidName, Part


class Handler(Sample.Iface):
    def hello(self, name: str) -> str:
        if not name:
            raise InvalidName(reason="empty")
        return name

    async def later(self, name: str) -> str:
        return name

    def part(self, given: Part) -> Part:
        return Part(name=given.name.upper(), data=b"".join([given.data or b""]), parts=[given])


def lengths(client: Sample.Client) -> dict[str, int]:
    assert client.ping() == "pong"
    return client.lengths({"a"})


def reason(error: InvalidName) -> str | None:
    return error.reason
"""

WRONG = """\
from __future__ import annotations

from sample_rpc import Sample


class Handler(Sample.Iface):
    def hello(self, name: str) -> bytes:
        return name.encode()


def call(client: Sample.Client) -> str:
    Handler()
    return client.echo("text")
"""

CALLER = """\
from __future__ import annotations

from halfsync.thrift import FakeRpc, RpcClient
from sample_rpc import Sample
from sample_rpc.ttypes import Part


async def awaited(client: RpcClient[Sample.Client]) -> dict[str, int]:
    text: str = await client.call(Sample.Client.hello, "Anna")
    named: str = await client.call(Sample.Client.hello, name=text)
    part: Part = await client.call(Sample.Client.part, Part(name=named))
    await client.call(Sample.Client.note, part.name or "")
    return await client.call(Sample.Client.lengths, {"a"})


def blocking(client: RpcClient[Sample.Client]) -> str:
    return client.blocking.hello("Anna") + client.blocking.part(Part(name="x")).name


async def in_a_test() -> None:
    fake = FakeRpc(Sample.Client)
    fake.answers("hello", "Hello")
    text: str = await fake.call(Sample.Client.hello, "Anna") + fake.blocking.ping()
    print(text)


async def made(reactor: object) -> str:
    client = RpcClient(Sample.Client, "tcp:127.0.0.1:9", reactor=reactor, idempotent=["hello"])
    return await client.call(Sample.Client.hello, "Anna")
"""

WRONG_CALLER = """\
from __future__ import annotations

from halfsync.thrift import RpcClient
from sample_rpc import Sample


async def awaited(client: RpcClient[Sample.Client]) -> None:
    await client.call(Sample.Client.hello, 1)
    await client.call(Sample.Client.hello, nome="Anna")
    await client.call(Sample.Client.hello)
    number: int = await client.call(Sample.Client.hello, "Anna")
    (await client.call(Sample.Client.lengths, {"a"})).append(number)
    await client.call(Sample.Client.greet, "Anna")


def blocking(client: RpcClient[Sample.Client]) -> None:
    client.blocking.hello(1)
    number: int = client.blocking.hello("Anna")
    client.blocking.greet(number)
"""

WRONG_CALLS = (
    'Argument 2 to "call" of "Faces" has incompatible type "int"; expected "str"',
    'Unexpected keyword argument "nome" for "call"',
    'Missing positional argument "name" in call to "call"',
    'expected "Callable[[Client, str], int]"',
    '"dict[str, int]" has no attribute "append"',
    'has no attribute "greet"',
    'Argument 1 to "hello" of "Client" has incompatible type "int"; expected "str"',
    'Incompatible types in assignment (expression has type "str", variable has type "int")',
    '"Client" has no attribute "greet"',
)
"""What mypy says of each of these, in turn."""

IDL = """\
namespace py kinds
enum Color { RED = 1, BLUE = 5 }
typedef i64 Id
struct Leaf {
  1: required Id id, 2: Color color = Color.BLUE, 3: list<Leaf> leaves, 4: map<string, set<binary>> m
}
union Either { 1: string text, 2: Leaf leaf }
exception Wrong { 1: required string why } (python.immutable = "false")
const i32 LIMIT = 5
const map<string, string> NAMES = {"a": "b"}
const Leaf LEAF = {"id": 3}
service Kinds {
  void nothing() throws (1: Wrong wrong), oneway void fire(1: Either either), Leaf leaf(1: double d)
}
service Empty {}
"""

USER = """\
from __future__ import annotations

from kinds import Empty, Kinds
from kinds.constants import LEAF, LIMIT, NAMES
from kinds.ttypes import Color, Either, Leaf, Wrong


class Handler(Kinds.Iface, Empty.Iface):
    def nothing(self) -> None:
        raise Wrong(why="because")

    async def fire(self, either: Either) -> None:
        assert either.leaf is not None
        self.seen: set[bytes] = (either.leaf.m or {})["a"]

    def leaf(self, d: float) -> Leaf:
        return Leaf(id=LEAF.id + LIMIT, color=Color.RED, leaves=[Leaf(id=len(NAMES))])
"""


def write_stubs(folder: Path, *packages: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "halfsync.thrift.stubs", *packages],
        env={**os.environ, "PYTHONPATH": f"{SOURCES}:{folder}"},
        check=True,
    )


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A folder with the sample's generated code and its stubs."""
    folder = tmp_path_factory.mktemp("stubs")
    shutil.copytree(GENERATED, folder / "sample_rpc", ignore=shutil.ignore_patterns("__pycache__"))
    write_stubs(folder, "sample_rpc")
    return folder


def test_a_handler_is_clean_for_mypy(sample):
    """Functions, `async` ones, exceptions, structs and clients have types, inherited methods, too."""
    assert mypy(SERVICE, sample) == []


def test_a_handler_is_clean_for_pyright(sample):
    """And pyright in its strict mode finds nothing either."""
    assert pyright(SERVICE, sample) == []


def test_what_is_wrong_is_found(sample):
    """A wrong type of a result, a method that lacks, and a call with a wrong argument are errors."""
    found = mypy(WRONG, sample)
    assert len(found) == 4, found
    assert "incompatible with return type" in found[0]
    assert "Cannot instantiate abstract class" in found[1]
    assert "Incompatible return value type" in found[2]
    assert 'Argument 1 to "echo"' in found[3]


def test_calls_are_clean_for_mypy(sample):
    """Both faces of the client, and its stand-in for tests, have the types of the IDL."""
    assert mypy(CALLER, sample) == []


def test_calls_are_clean_for_pyright(sample):
    """And pyright in its strict mode finds nothing either."""
    assert pyright(CALLER, sample) == []


def test_wrong_calls_are_found(sample):
    """In either face: a wrong argument, one that lacks, a result used as what it is not, no such method."""
    found = mypy(WRONG_CALLER, sample)
    for number, said in enumerate(WRONG_CALLS):
        assert said in found[number], found
    assert len(found) == len(WRONG_CALLS), found


@pytest.mark.skipif(
    not shutil.which("thrift"), reason="there is no compiler of Thrift: apt install thrift-compiler"
)
def test_every_kind_of_definition(tmp_path):
    """Enums, unions, typedefs, constants, oneway calls, defaults and empty services have types."""
    (tmp_path / "kinds.thrift").write_text(IDL)
    subprocess.run(["thrift", "--gen", "py:slots", "-out", ".", "kinds.thrift"], cwd=tmp_path, check=True)
    write_stubs(tmp_path, "kinds")
    assert mypy(USER, tmp_path) == []
    assert pyright(USER, tmp_path) == []


def test_without_a_package(tmp_path):
    """It says how it is used."""
    run = subprocess.run(
        [sys.executable, "-m", "halfsync.thrift.stubs"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (2, "usage: python -m halfsync.thrift.stubs PACKAGE...\n")
