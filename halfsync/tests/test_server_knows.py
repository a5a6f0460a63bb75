"""What only the server knows, in the environ: clients that left, drains, early hints, certificates."""

from __future__ import annotations

import datetime as dt
import re
import signal
import socket
import ssl
import sys

import httpx
import pytest
from h2.frame_buffer import FrameBuffer
from hpack import Encoder
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

import h2_tools
from certificates import make_certificate, write
from children import running
from halfsync.endpoints.certificates import Files
from halfsync.endpoints.parsing import parse
from halfsync.http.client_certificate import client_variables
from halfsync.thrift.exposure import exposed
from http_tools import GET, Connection
from http_tools import parse as parse_response

PATIENCE = 60
LINK = ("Link", "</style.css>; rel=preload; as=style")


def hinting(environ, start_response):
    """Hint twice, answer, and hint too late."""
    hint = environ["halfsync.early_hints"]
    hint([LINK])
    hint([("Link", "</more.js>; rel=preload")])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def test_early_hints_go_ahead_of_the_response():
    """Each a 103 of its own (RFC 8297), and the response is whole after them."""
    reply = Connection(hinting).send(GET)
    first, second, rest = reply.split(b"\r\n\r\n", 2)
    assert first == b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style"
    assert second == b"HTTP/1.1 103 Early Hints\r\nLink: </more.js>; rel=preload"
    assert parse_response(rest).data == b"ok"


def test_early_hints_over_http2():
    """The same, as interim responses of the stream; its body ends the stream."""
    client = h2_tools.Client(hinting)
    for _ in range(2):
        response = client.request()
        assert (response.interim, response.status, response.body) == ([103, 103], 200, b"ok")
        assert response.ended


def test_clients_of_http10_get_none():
    """One of HTTP/1.0 would take it for the response."""
    assert Connection(hinting).send(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


def test_hints_after_the_response_has_begun_are_dropped():
    """They would be in the midst of its body."""

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        yield b"ab"
        environ["halfsync.early_hints"]([LINK])
        yield b"cd"

    assert b"103" not in Connection(app).send(GET)
    response = h2_tools.Client(app).request()
    assert (response.interim, response.body) == ([], b"abcd")


@pytest.mark.parametrize(
    "fields",
    [[("Link", "a\r\nX: y")], [("a b", "c")], [("Content-Length", "3")], [("Transfer-Encoding", "chunked")]],
)
def test_what_is_no_hint_is_refused(fields):
    """With an error for the application, before a byte of it is sent."""
    raised = []

    def app(environ, start_response):
        try:
            environ["halfsync.early_hints"](fields)
        except ValueError as error:
            raised.append(error)
        start_response("204 No Content", [])
        return []

    assert Connection(app).send(GET).startswith(b"HTTP/1.1 204 ")
    assert len(raised) == 1


PROGRAM = """
import sys, time
from halfsync import About, get_logger, serve_wsgi
log = get_logger("app")

def events(deadline):
    try:
        while time.monotonic() < deadline:
            yield b"data: tick\\n\\n"
            time.sleep(0.01)
    finally:
        log.info("app.closed")

def app(environ, start_response):
    path, deadline = environ["PATH_INFO"], time.monotonic() + 60
    gone, draining = environ["halfsync.client_gone"], environ["halfsync.draining"]
    log.info("app.began", path=path, gone=gone(), draining=draining())
    if path == "/until-gone":
        while not gone() and time.monotonic() < deadline:
            time.sleep(0.01)
        log.info("app.gone", gone=gone())
    elif path == "/until-draining":
        while not draining() and time.monotonic() < deadline:
            time.sleep(0.01)
        log.info("app.draining", draining=draining())
    elif path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream; charset=utf-8")])
        return events(deadline)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr({k: v for k, v in environ.items() if k.startswith("SSL_")}).encode()]

sys.exit(serve_wsgi(app, About("told"), argv=sys.argv[1:]))
"""


@pytest.fixture
def command(tmp_path) -> list[str]:
    path = tmp_path / "told.py"
    path.write_text(PROGRAM)
    return [sys.executable, str(path), "--log.format=json", "--admin.listen="]


def port(service) -> int:
    address = service.wait_for("web.listening")["address"]
    service.wait_for("service.started")
    return int(re.findall(r":([0-9]+)\b(?!\.)", address)[-1])


def test_a_handler_hears_of_a_client_that_left_and_of_a_drain(command):
    """So that a long computation can end early, and a long poll at once when the process stops."""
    with running([*command, "--web.listen=tcp:0:interface=127.0.0.1"]) as service:
        at = ("127.0.0.1", port(service))
        with socket.create_connection(at, PATIENCE) as leaves:
            leaves.sendall(b"GET /until-gone HTTP/1.1\r\nHost: a\r\n\r\n")
            began = service.wait_for("app.began")
            assert (began["gone"], began["draining"]) == (False, False)
        assert service.wait_for("app.gone")["gone"]
        with socket.create_connection(at, PATIENCE) as stays:
            stays.sendall(b"GET /until-draining HTTP/1.1\r\nHost: a\r\n\r\n")
            while service.wait_for("app.began")["path"] != "/until-draining":
                pass
            service.signal(signal.SIGTERM)
            assert service.wait_for("app.draining")["draining"]
            assert stays.makefile("rb").readline().startswith(b"HTTP/1.1 200 ")
        code, _, errors = service.end()
        assert (code, errors) == (0, "")


def test_a_stream_of_events_that_asks_nobody_ends_with_the_drain(command):
    """At its next piece, as a whole response, whose client asks again; its `finally` runs. So exit code 0."""
    with running([*command, "--web.listen=tcp:0:interface=127.0.0.1"]) as service:
        with socket.create_connection(("127.0.0.1", port(service)), PATIENCE) as client:
            client.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            received = b""
            while b"tick" not in received:
                received += client.recv(4096)
            service.signal(signal.SIGTERM)
            while data := client.recv(4096):
                received += data
        assert received.endswith(b"\r\n0\r\n\r\n")
        service.wait_for("app.closed")
        code, _, errors = service.end()
        assert (code, errors) == (0, "")


def h2_get(at, path: str) -> socket.socket:
    """Ask over HTTP/2 by prior knowledge; return the socket."""
    client = socket.create_connection(at, PATIENCE)
    head = HeadersFrame(1, Encoder().encode([*h2_tools.GET[:2], (":path", path), h2_tools.GET[3]]))
    head.flags.add("END_HEADERS")
    head.flags.add("END_STREAM")
    client.sendall(h2_tools.PREFACE + SettingsFrame(0).serialize() + head.serialize())
    return client


@pytest.mark.parametrize("leaves", ["resets", "closes", None])
def test_a_handler_hears_the_same_over_http2(command, leaves):
    """Whether the client resets the one stream, or closes; and in a drain the response still comes."""
    with running([*command, "--web.listen=tcp:0:interface=127.0.0.1"]) as service:
        at = ("127.0.0.1", port(service))
        if leaves:
            with h2_get(at, "/until-gone") as client:
                began = service.wait_for("app.began")
                assert (began["gone"], began["draining"]) == (False, False)
                if leaves == "closes":
                    client.close()
                else:
                    client.sendall(RstStreamFrame(1, error_code=8).serialize())
                assert service.wait_for("app.gone")["gone"]
        with h2_get(at, "/until-draining") as stays:
            while service.wait_for("app.began")["path"] != "/until-draining":
                pass
            service.signal(signal.SIGTERM)
            assert service.wait_for("app.draining")["draining"]
            buffer, frames = FrameBuffer(server=False), []
            buffer.max_frame_size = 2**14
            while data := stays.recv(65536):
                buffer.add_data(data)
                frames += buffer
        ended = [type(each) for each in frames if each.stream_id == 1 and "END_STREAM" in each.flags]
        assert ended == [DataFrame]
        assert any(isinstance(each, GoAwayFrame) for each in frames)
        code, _, errors = service.end()
        assert (code, errors) == (0, "")


def test_a_client_certificate_is_in_the_environ(command, tmp_path):
    """By mod_ssl's names, over both versions of HTTP; who shows none is served where that is optional."""
    authority = make_certificate("ca.test", authority=True)
    server = write(tmp_path / "server.pem", *make_certificate("localhost"))
    client = make_certificate("client.test", authority)
    shown = write(tmp_path / "client.pem", *client)
    stranger = write(tmp_path / "stranger.pem", *make_certificate("stranger.test"))
    ca = write(tmp_path / "ca.pem", authority[0])
    listen = f"ssl:0:privateKey={server}:clientCA={ca}:clientVerify=optional:interface=127.0.0.1"
    with running([*command, f"--web.listen={listen}"]) as service:
        at = f"https://127.0.0.1:{port(service)}/"

        def ask(certificate, *, http2=False) -> str:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if certificate:
                context.load_cert_chain(certificate)
            with httpx.Client(verify=context, http2=http2, timeout=PATIENCE, trust_env=False) as caller:
                response = caller.get(at)
                assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                return response.text

        for http2 in (False, True):
            told = ask(shown, http2=http2)
            assert told == repr(dict(client_variables(client[0])))
            assert "'SSL_CLIENT_S_DN': 'CN=client.test'" in told
            assert ask(None, http2=http2) == "{}"
        with pytest.raises(httpx.TransportError):
            ask(stranger)


def test_the_names_and_forms_are_those_of_mod_ssl():
    """Serial numbers in whole bytes of hexadecimal; times as OpenSSL prints them, in no language."""
    certificate, _ = make_certificate("client.test")
    told = client_variables(certificate)
    assert told["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert int(told["SSL_CLIENT_M_SERIAL"], 16) == certificate.serial_number
    assert len(told["SSL_CLIENT_M_SERIAL"]) % 2 == 0
    assert told["SSL_CLIENT_I_DN"] == told["SSL_CLIENT_S_DN"] == "CN=client.test"
    assert told["SSL_CLIENT_S_DN_CN"] == "client.test"
    assert told["SSL_CLIENT_M_VERSION"] == "3"
    for name, moment in (
        ("START", certificate.not_valid_before_utc),
        ("END", certificate.not_valid_after_utc),
    ):
        parsed = ssl.cert_time_to_seconds(told[f"SSL_CLIENT_V_{name}"])
        assert dt.datetime.fromtimestamp(parsed, dt.UTC) == moment
    assert ssl.PEM_cert_to_DER_cert(told["SSL_CLIENT_CERT"])


def test_optional_certificates_need_authorities_and_protect_nothing():
    """The endpoint says what is wrong; a Thrift listener is as open as without."""
    with pytest.raises(Exception, match="clientVerify must be required or optional, not 'maybe'"):
        parse("ssl:0:privateKey=a.pem:clientCA=b.pem:clientVerify=maybe")
    for text in ("ssl:0:privateKey=a.pem:clientVerify=optional", "tls:a:clientVerify=optional"):
        with pytest.raises(Exception, match="without clientCA=FILE"):
            parse(text)
    over = parse("tls-over:cert=a.pem:clientCA=b.pem:clientVerify=optional:tcp:0")
    assert isinstance(over.certificates, Files)
    assert over.certificates.client_optional
    assert "is open to clients" in str(exposed([over], []))
    required = parse("tls-over:cert=a.pem:clientCA=b.pem:tcp:0")
    assert exposed([required], []) is None
