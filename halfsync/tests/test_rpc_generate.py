"""`python -m halfsync.thrift.generate`: a package's IDL becomes its `gen/`, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from children import SOURCES

needs_compiler = pytest.mark.skipif(
    not shutil.which("thrift"), reason="there is no compiler of Thrift: apt install thrift-compiler"
)

HELLO = """\
namespace py shop.gen.hello
struct Name { 1: required string text }
service Hello { string hello(1: Name name) }
"""
ORDERS = """\
include "hello.thrift"
namespace py shop.gen.orders
service Orders extends hello.Hello { i64 count(1: hello.Name name) }
"""


@pytest.fixture
def shop(tmp_path):
    """A package with an IDL, and with code whose IDL is gone."""
    package = tmp_path / "shop"
    (package / "gen" / "gone").mkdir(parents=True)
    (package / "__init__.py").write_text("'''The service's own.'''\n")
    (package / "hello.thrift").write_text(HELLO)
    return package


def generate(shop, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "halfsync.thrift.generate", *(arguments or ("shop",))],
        env={**os.environ, "PYTHONPATH": f"{SOURCES}:{shop.parent}", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_compiler
def test_idl_becomes_code(shop):
    """Each IDL is a package with types; one may extend another; nothing else of the service is touched."""
    (shop / "orders.thrift").write_text(ORDERS)
    run = generate(shop)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{shop}/gen/hello is made anew\n{shop}/gen/orders is made anew\n"
    assert sorted(path.name for path in (shop / "gen").iterdir() if path.name != "__pycache__") == [
        "__init__.py",
        "hello",
        "orders",
    ]
    names = {path.name for path in (shop / "gen" / "hello").iterdir()}
    modules = {"__init__", "Hello", "constants", "ttypes"}
    assert names == {f"{each}.{suffix}" for each in modules for suffix in ("py", "pyi")}
    stub = (shop / "gen" / "orders" / "Orders.pyi").read_text()
    assert "class Iface(shop.gen.hello.Hello.Iface):" in stub
    assert "def count(self, name: shop.gen.hello.ttypes.Name) -> int" in stub
    assert (shop / "__init__.py").read_text() == "'''The service's own.'''\n"


@needs_compiler
def test_it_is_the_same_again(shop):
    """Made twice, it is the same bytes: a diff shows what the IDL has changed."""
    before = []
    for _ in range(2):
        assert generate(shop).returncode == 0
        before.append({path: path.read_bytes() for path in (shop / "gen").rglob("*.py*") if path.is_file()})
    assert before[0] == before[1]


@needs_compiler
@pytest.mark.parametrize(
    ("idl", "said"),
    [
        ("service Hello {}", "hello.thrift: say `namespace py shop.gen.hello` at its top"),
        ("namespace py shop.hello", "hello.thrift: say `namespace py shop.gen.hello` at its top"),
        ("namespace py shop.gen.hello\nservice {", "hello.thrift:2"),
    ],
)
def test_wrong_idl(shop, idl, said):
    """The file and what would be right are named, and what was made before stays."""
    (shop / "hello.thrift").write_text(idl)
    run = generate(shop)
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert (shop / "gen" / "gone").exists()


def test_no_compiler(shop):
    """One line says where the compiler is to be had."""
    run = generate(shop, PATH="/nowhere")
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "apt install thrift-compiler" in line


def test_other_mistakes(shop):
    """A package that there is not, one without IDL, and no package are one line each."""
    assert generate(shop, "none").stderr == "'none' is no package that can be imported here\n"
    assert generate(shop, "a", "b").returncode == 2
    if shutil.which("thrift"):
        (shop / "hello.thrift").unlink()
        assert generate(shop).stderr == f"there is no .thrift file in {shop}\n"
