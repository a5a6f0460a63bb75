"""Our RPC beside libraries in C and C++: Apache's for C++ calls it, GNU SASL logs in.

Their code is Debian's, and is compiled or loaded when the tests run; each test says when it cannot be.
"""

from __future__ import annotations

import base64
import ctypes
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from certificates import make_certificate, write
from halfsync.thrift import sasl
from halfsync.thrift.users import Keys, Users
from rpc_tools import connect, framed, message, payloads, read_result, read_sasl, serving

SOURCE = Path(__file__).with_name("cpp_rpc") / "client.cpp"

HEADERS = """
#include <boost/version.hpp>
#include <thrift/protocol/THeaderProtocol.h>
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """A client of Apache's C++ library, with the code that the compiler makes of our sample."""
    for command, package in (("g++", "g++"), ("thrift", "thrift-compiler")):
        if shutil.which(command) is None:
            pytest.skip(f"there is no {command} here (Debian: {package})")
    probe = ["g++", "-E", "-x", "c++", "-"]
    if subprocess.run(probe, input=HEADERS, text=True, capture_output=True, check=False).returncode:
        pytest.skip("there are no headers of Thrift for C++ here (Debian: libthrift-dev, libboost-dev)")
    folder = tmp_path_factory.mktemp("cpp")
    sample = Path(__file__).with_name("sample.thrift")
    subprocess.run(["thrift", "--gen", "cpp:no_skeleton", "-out", folder, sample], check=True)
    command = ["g++", "-std=c++17", "-w", f"-I{folder}", "-o", folder / "client", SOURCE]
    command += [*folder.glob("*.cpp"), "-lthrift", "-lthriftz", "-lz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "client"


@pytest.mark.parametrize(
    "how", ["binary", "compact", "multiplexed", "header-binary", "header-compact", "header-zlib"]
)
def test_cpp(compiled, how):
    """Apache's C++ library calls every kind of method, hears exceptions, pipelines; its THeader is read."""
    with serving() as service:
        done = subprocess.run(
            [compiled, str(service.address[1]), how], capture_output=True, text=True, check=False, timeout=60
        )
    assert (done.returncode, done.stdout) == (0, "all well\n"), done.stderr


OK, NEEDS_MORE, AUTHENTICATION_ERROR = 0, 1, 31
AUTHID, PASSWORD, CB_TLS_UNIQUE = 1, 3, 18
"""From gsasl.h."""


class GnuSasl:
    """A client's session of GNU SASL (libgsasl)."""

    def __init__(self, mechanism: str, properties: dict[int, str]) -> None:
        try:
            self._library = ctypes.CDLL("libgsasl.so.18")
        except OSError:
            pytest.skip("there is no GNU SASL here (Debian: libgsasl18)")
        self._context, self._session = ctypes.c_void_p(), ctypes.c_void_p()
        assert self._library.gsasl_init(ctypes.byref(self._context)) == OK
        began = self._library.gsasl_client_start(
            self._context, mechanism.encode(), ctypes.byref(self._session)
        )
        assert began == OK
        for name, value in properties.items():
            self._library.gsasl_property_set(self._session, name, value.encode())

    def step(self, received: bytes) -> tuple[int, bytes]:
        """Take what the server said; return a code, and what to say."""
        out, size = ctypes.c_void_p(), ctypes.c_size_t()
        code = self._library.gsasl_step(
            self._session,
            received,
            ctypes.c_size_t(len(received)),
            ctypes.byref(out),
            ctypes.byref(size),
        )
        said = ctypes.string_at(out, size.value) if out else b""
        self._library.gsasl_free(out)
        return code, said

    def close(self) -> None:
        self._library.gsasl_finish(self._session)
        self._library.gsasl_done(self._context)


def log_in(sock, mechanism: str, **properties: str) -> str:
    """Log in by GNU SASL; say how it ended."""
    numbers = {"user": AUTHID, "password": PASSWORD, "tls_unique": CB_TLS_UNIQUE}
    session = GnuSasl(mechanism, {numbers[name]: value for name, value in properties.items()})
    try:
        code, said = session.step(b"")
        assert code in (OK, NEEDS_MORE)
        sock.sendall(sasl.pack(sasl.START, mechanism.encode()) + sasl.pack(sasl.OK, said))
        while True:
            status, payload = read_sasl(sock)
            if status == sasl.BAD:
                return "refused"
            if status == sasl.COMPLETE:
                # Of SCRAM, the server's proof; GNU SASL verifies it.
                return "in" if code == OK or session.step(payload)[0] == OK else "not proved"
            code, said = session.step(payload)
            if code not in (OK, NEEDS_MORE):
                return f"error {code}"
            sock.sendall(sasl.pack(sasl.OK, said))
    finally:
        session.close()


def whoami(sock) -> str:
    sock.sendall(framed(message(lambda each: each.send_whoami())))
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        data += sock.recv(4096)
    return read_result(payloads(data)[0], "whoami")


@pytest.fixture
def users(tmp_path) -> str:
    path = str(tmp_path / "users")
    Users(path).add("zoë", Keys.of("pâté, please"))
    return path


def test_gnu_sasl(users):
    """GNU SASL gets in by SCRAM-SHA-256, believes the server's proof, and not with a wrong password."""
    flags = ("--rpc.sasl=SCRAM-SHA-256", f"--rpc.users={users}")
    with serving(*flags) as service:
        with connect(service.address) as sock:
            assert log_in(sock, "SCRAM-SHA-256", user="zoë", password="pâté, please") == "in"
            assert whoami(sock) == "zoë"
        for wrong in ({"user": "zoë", "password": "pate"}, {"user": "nobody", "password": "pâté, please"}):
            with connect(service.address) as sock:
                assert log_in(sock, "SCRAM-SHA-256", **wrong) == "refused"


def test_gnu_sasl_sees_a_server_that_does_not_know_the_password(users):
    """A server that lets in without the user's keys is not believed: the session says so, as ours does."""
    session = GnuSasl("SCRAM-SHA-256", {AUTHID: "zoë", PASSWORD: "pâté, please"})
    try:
        _, first = session.step(b"")
        keys = Users(users).keys("zoë")
        nonce = first.decode().rpartition("r=")[2] + "more"
        salt = base64.b64encode(keys.salt).decode()
        code, _ = session.step(f"r={nonce},s={salt},i={keys.iterations}".encode())
        assert code == NEEDS_MORE
        code, _ = session.step(b"v=" + base64.b64encode(bytes(32)))
        assert code == AUTHENTICATION_ERROR
    finally:
        session.close()


def test_gnu_sasl_over_tls(users, tmp_path):
    """PLAIN and SCRAM get in over TLS. Its PLUS knows tls-unique only, which is refused as a login is."""
    pem = write(tmp_path / "x.pem", *make_certificate("localhost"))
    context = ssl.create_default_context(cafile=str(pem))
    # tls-unique is of TLS 1.2 and before.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    flags = ("--rpc.sasl=SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", f"--rpc.users={users}")
    known = {"user": "zoë", "password": "pâté, please"}
    with serving(*flags, listen=f"ssl:0:privateKey={pem}:interface=127.0.0.1") as service:

        def dial():
            return context.wrap_socket(connect(service.address), server_hostname="localhost")

        for mechanism in ("PLAIN", "SCRAM-SHA-256"):
            with dial() as sock:
                assert log_in(sock, mechanism, **known) == "in"
                assert whoami(sock) == "zoë"
        with dial() as sock:
            unique = base64.b64encode(sock.get_channel_binding("tls-unique")).decode()
            assert log_in(sock, "SCRAM-SHA-256-PLUS", tls_unique=unique, **known) == "refused"
        # Nobody needs to guess why: the log says it.
        said = service.wait_for("rpc.login_refused")["reason"]
        assert said.endswith("tls-server-end-point: unsupported-channel-binding-type")
