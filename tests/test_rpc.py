"""A service with `rpc=thrift`, as its team uses it: the IDL, users, and a pex that others call."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from thrift.Thrift import TApplicationException

from certificates import make_certificate, write
from halfsync.testing import ServiceProcess
from rpc_tools import connect
from test_rpc_service import scram_client

from .conftest import Bake, furnish, make
from .rpc_calls import call_hello
from .test_pex import path_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Serving = Callable[..., ServiceProcess]

needs_compiler = pytest.mark.skipif(
    not shutil.which("thrift"), reason="there is no compiler of Thrift: apt install thrift-compiler"
)


MIGRATE = """

def migrate(arguments: Sequence[str]) -> int:
    print(tasks.FLAGS.interval, *arguments)
    return 3
"""


@pytest.fixture(scope="module")
def project(bake: Bake) -> Path:
    """A furnished service without a web listener; not to be changed."""
    return furnish(bake(web="none", rpc="thrift"))


@pytest.fixture(scope="module")
def rpc_pex(project: Path) -> Path:
    make(project, "pex")
    return project / "dist" / "hello-service.pex"


@pytest.fixture(scope="module")
def environ(rpc_pex: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All of the environment of the pex, which unpacks itself once."""
    return {"HOME": str(tmp_path_factory.mktemp("home")), "PATH": path_for(rpc_pex)}


@pytest.fixture
def users(rpc_pex: Path, environ: dict[str, str], tmp_path: Path) -> Path:
    """A file of users that the pex has made, with anna in it."""
    path = tmp_path / "users"
    run = subprocess.run(
        [rpc_pex, f"--rpc.users={path}", "run", "rpc-user", "add", "anna"],
        input="pencil\n",
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "anna may log in from now on\n", "")
    return path


@pytest.fixture
def serving(rpc_pex: Path, environ: dict[str, str]) -> Serving:
    """Return a function that starts the pex with more flags."""

    def serve(*flags: str) -> ServiceProcess:
        return ServiceProcess([str(rpc_pex), "--admin.listen=", *flags], environ=environ, patience=120)

    return serve


@pytest.mark.parametrize("web", ["wsgi", "async", "none"])
def test_the_lock_is_what_uv_makes(bake: Bake, web: str) -> None:
    """The pins of RPC, taken into a lock, are what `make lock` finds: it changes nothing."""
    project = furnish(bake(web=web, rpc="thrift"))
    before = (project / "requirements.lock").read_text()
    assert "\nthrift==" in before
    make(project, "lock")
    assert (project / "requirements.lock").read_text() == before


@needs_compiler
def test_make_thrift_changes_nothing(bake: Bake) -> None:
    """What is committed is what the compiler makes of hello.thrift, types included."""
    told = subprocess.run(["thrift", "-version"], capture_output=True, text=True, check=False).stdout
    if "0.17" not in told:
        pytest.skip(f"the code was made by Thrift 0.17; here is {told.strip()}")
    project = furnish(bake(rpc="thrift"))
    gen = project / "src" / "hello_service" / "gen"

    def code() -> dict[str, bytes]:
        paths = [path for path in gen.rglob("*.py*") if "__pycache__" not in path.parts]
        return {path.relative_to(gen).as_posix(): path.read_bytes() for path in paths}

    before = code()
    assert "hello/Hello.pyi" in before
    make(project, "thrift")
    assert code() == before


@needs_compiler
def test_a_method_that_lacks_is_found(bake: Bake) -> None:
    """What is written into the IDL, `make lint` names until the handler has it."""
    project = furnish(bake(web="none", rpc="thrift"))
    idl = project / "src" / "hello_service" / "hello.thrift"
    idl.write_text(idl.read_text().replace("service Hello {", "service Hello {\n  i64 count(1: binary data)"))
    make(project, "thrift")
    lint = ["make", "--no-print-directory", "lint"]
    run = subprocess.run(lint, cwd=project, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert 'abstract attribute "count"' in run.stdout
    handler = project / "src" / "hello_service" / "rpc.py"
    method = (
        '    def count(self, data: bytes) -> int:\n        """Count the bytes."""\n        return len(data)\n'
    )
    end = '        return f"Hello, {name}!"\n'
    handler.write_text(handler.read_text().replace(end, f"{end}\n{method}"))
    make(project, "lint")


def test_without_the_compiler(project: Path) -> None:
    """`make thrift` says in one line where the compiler is to be had."""
    run = subprocess.run(
        [project / ".venv" / "bin" / "python", "-m", "halfsync.thrift.generate", "hello_service"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert line.startswith("there is no compiler of Thrift. Debian, Ubuntu: apt install thrift-compiler")


def test_users_come_and_go(rpc_pex: Path, environ: dict[str, str], users: Path) -> None:
    """The pex lists who is in the file, and takes one out once."""

    def run(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [rpc_pex, f"--rpc.users={users}", "run", "rpc-user", *arguments],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    assert run("list") == (0, "anna\n", "")
    assert run("remove", "anna") == (
        0,
        "anna may not log in any more; connections that are open stay so\n",
        "",
    )
    code, out, said = run("remove", "anna")
    assert (code, out, said.count("\n")) == (2, "", 1), said
    assert "has no user 'anna'" in said
    assert run("list") == (0, "", "")
    assert users.stat().st_mode & 0o777 == 0o600


def test_password_over_tls(serving: Serving, users: Path, tmp_path: Path) -> None:
    """At a public address, over TLS, anna gets in by her password and calls; others do not get in."""
    assert users.stat().st_mode & 0o777 == 0o600
    assert "pencil" not in users.read_text()
    pem = write(tmp_path / "server.pem", *make_certificate("localhost"))
    context = ssl.create_default_context(cafile=str(pem))
    listen = f"--rpc.listen=ssl:0:privateKey={pem}:interface=0.0.0.0"
    with serving(listen, "--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={users}") as service:
        service.wait_for("service.started")

        def dial() -> ssl.SSLSocket:
            return context.wrap_socket(connect(service.address("rpc")), server_hostname="localhost")

        with closing(dial()) as sock:
            assert scram_client(sock, "anna", "pencil")
            assert call_hello(sock, "Zoë 北京") == "Hello, Zoë 北京!"
        with closing(dial()) as sock:
            assert not scram_client(sock, "anna", "pen")
        assert service.wait_for("rpc.login")["user"] == "anna"
        assert service.stop() == 0


def test_certificates(serving: Serving, tmp_path: Path) -> None:
    """As the manifest of Kubernetes has it: who shows a certificate of the authority gets in."""
    server, key = make_certificate("localhost")
    certificate, private = write(tmp_path / "tls.crt", server), write(tmp_path / "tls.key", key)
    client = write(tmp_path / "client.pem", *make_certificate("anna"))
    context = ssl.create_default_context(cafile=str(certificate))
    listen = f"--rpc.listen=ssl:0:privateKey={private}:certKey={certificate}:clientCA={client}"
    with serving(listen, "--service.certificate_watch=300") as service:
        service.wait_for("service.started")
        context.load_cert_chain(client)
        with closing(
            context.wrap_socket(connect(service.address("rpc")), server_hostname="localhost")
        ) as sock:
            assert call_hello(sock, "Ada") == "Hello, Ada!"
        assert service.stop() == 0


def test_an_open_door_is_refused(serving: Serving) -> None:
    """At a public address without any of these it does not start."""
    with serving("--rpc.listen=tcp:0:interface=0.0.0.0") as service:
        with pytest.raises(AssertionError, match="ended"):
            service.wait_for("service.started")
        assert service.process.wait() == 2


def test_the_rule_of_main(bake: Bake) -> None:
    """What `may_call` in main.py refuses is `forbidden` for the client, and not run."""
    project = furnish(bake(web="none", rpc="thrift"))
    main = project / "src" / "hello_service" / "main.py"
    # As if hello were a method for administrators.
    main.write_text(main.read_text().replace('"admin_"', '"hello"'))
    command = [str(project / ".venv" / "bin" / "python"), "-m", "hello_service", "--admin.listen="]
    with ServiceProcess([*command, "--rpc.listen=tcp:0:interface=127.0.0.1"]) as service:
        service.wait_for("service.started")
        with (
            closing(connect(service.address("rpc"))) as sock,
            pytest.raises(TApplicationException, match="forbidden"),
        ):
            call_hello(sock, "Ada")
        assert service.wait_for("rpc.call")["outcome"] == "forbidden"


def test_a_command_of_the_recipes(bake: Bake) -> None:
    """A command is declared in `main.py` as docs/recipes.md says, and runs with the flags."""
    project = furnish(bake(web="none"))
    main = project / "src" / "hello_service" / "main.py"
    text = main.read_text().replace("commands={}", 'commands={"migrate": migrate}')
    main.write_text(f"{text}{MIGRATE}")
    command = [project / ".venv" / "bin" / "python", "-m", "hello_service"]
    run = subprocess.run(
        [*command, "--tasks.interval=7", "run", "migrate", "now"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (3, "7.0 now\n"), run.stderr
