"""`--probe` asks the process that runs, and nobody else, and says in one line what it heard."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager

import pytest

import certificates
from halfsync.admin import probe as module
from halfsync.admin.probe import probe
from halfsync.endpoints.parsing import as_endpoint

READY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def answering(answer, *, address="127.0.0.1", context=None):
    """Answer one connection at a port; give the port and what was asked."""
    asked: list[bytes] = []
    listening = socket.create_server(
        (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET
    )

    def answer_one():
        connection, _ = listening.accept()
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            asked.append(connection.recv(65536))
            if answer is not None:
                connection.sendall(answer)
            # Until the other side has gone, or what it has not read yet would be lost.
            connection.recv(1)

    thread = threading.Thread(target=answer_one, daemon=True)
    thread.start()
    yield listening.getsockname()[1], asked
    # Where it was not asked, it waits still.
    socket.create_connection(listening.getsockname()[:2]).close()
    thread.join(10)
    listening.close()


def ask(*texts):
    """Probe endpoints as the flag has them."""
    return probe([as_endpoint(each) for each in texts])


@pytest.mark.parametrize(
    ("listens", "where"),
    [
        ("127.0.0.1", "tcp:{}:interface=127.0.0.1"),
        ("127.0.0.1", "tcp:{}"),
        ("127.0.0.1", "tcp:{}:interface=0.0.0.0"),
        ("::1", r"tcp:{}:interface=\:\:1"),
        ("::1", r"tcp:{}:interface=\:\:"),
    ],
)
def test_who_listens_on_every_address_is_asked_at_loopback(listens, where, capsys):
    """There the process answers by its own name; only its readiness is asked for, once."""
    with answering(READY, address=listens) as (port, asked):
        assert ask(where.format(port)) == 0
    assert capsys.readouterr() == ("ready\n", "")
    assert asked[0].startswith(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n")
    assert b"Connection: close\r\n" in asked[0]


def test_over_tls_any_certificate_will_do(tmp_path, capsys):
    """The address is the process's own; its certificate is for another name, and signed by nobody."""
    pair = certificates.make_certificate("elsewhere.example")
    file = certificates.write(tmp_path / "pem", *pair)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with answering(READY, context=context) as (port, _):
        assert ask(f"ssl:{port}:privateKey={file}:certKey={file}:interface=127.0.0.1") == 0
    assert capsys.readouterr().out == "ready\n"


def test_what_cannot_be_asked_is_passed_over(capsys):
    """An inherited descriptor, any port, and a port that waits for a proxy's header have no address."""
    with answering(READY) as (port, _):
        assert ask("fd:3", "tcp:0", f"haproxy:tcp:{port}", f"tcp:{port}:interface=127.0.0.1") == 0
    assert capsys.readouterr().out == "ready\n"
    for nothing in (["fd:3"], ["tcp:0"], [f"haproxy:tcp:{port}"], []):
        assert ask(*nothing) == 1
        out, err = capsys.readouterr()
        assert (out, err) == (
            "",
            "--admin.listen names no address that another process can ask (tcp:PORT or unix:PATH)\n",
        )


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        ("503 Service Unavailable", b'{"problems": ["cache: cold", "web: full"]}', "cache: cold; web: full"),
        ("503 Service Unavailable", b"{}", "503"),
        ("503 Service Unavailable", b'{"problems": 1}', "503"),
        ("502 Bad Gateway", b"<html>", "502"),
        ("204 No Content", b"", "204"),
    ],
)
def test_any_other_answer_is_not_ready(status, body, told, capsys):
    """With the reasons, or the status where there are none that can be read."""
    answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)
    with answering(answer) as (port, _):
        assert ask(f"tcp:{port}:interface=127.0.0.1") == 1
    assert capsys.readouterr() == ("", f"not ready: {told}\n")


@pytest.mark.parametrize(
    ("answer", "told"), [(None, "timed out"), (b"SSH-2.0-x\x1b[2J\r\n", r"SSH-2.0-x\x1b[2J\r\n")]
)
def test_who_does_not_answer_is_given_up_in_one_line(answer, told, capsys, monkeypatch):
    """Nobody waits for ever, as a process that is stopped has its port open still; no traceback is shown."""
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with answering(answer) as (port, _):
        where = f"tcp:{port}:interface=127.0.0.1"
        assert ask(where) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"{where}: ")
    assert told in err


def test_a_socket_in_the_file_system_is_given_up_too(tmp_path, monkeypatch, capsys):
    """It has the same time."""
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    path = tmp_path / "admin"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        assert ask(f"unix:{path}") == 1
    assert capsys.readouterr().err == f"unix:{path}: timed out\n"
