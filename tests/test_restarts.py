"""Restarts and handovers of a real pex under load; `make restarts` is the same for longer."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived

from bench import clients, restarts
from children import reserved_port

if TYPE_CHECKING:
    from pathlib import Path


def test_no_request_is_lost(pex: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether the socket is a supervisor's or passes from hand to hand; over HTTP/1.1, HTTP/2 and TLS."""
    load = asyncio.run(restarts.run([str(pex)], restart=4, handover=2, seconds=8))
    assert restarts.report(load) == [], capsys.readouterr().out
    assert all(count.requests > 20 for each in load.values() for count in (each.kept, each.fresh))


def test_what_counts_as_lost_over_http2(tmp_path: Path) -> None:
    """All but what was answered by 200, and what the server says it has not begun (RFC 9113 section 8.7)."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = H2Connection(H2Configuration(client_side=False))
        streams: list[int] = []
        while len(streams) < 6:
            events = session.receive_data(await reader.read(65536))
            streams += [each.stream_id for each in events if isinstance(each, RequestReceived)]
        session.send_headers(streams[0], [(":status", "200")], end_stream=True)
        session.send_headers(streams[1], [(":status", "503")], end_stream=True)
        session.reset_stream(streams[2], ErrorCodes.REFUSED_STREAM)
        session.reset_stream(streams[3], ErrorCodes.INTERNAL_ERROR)
        session.close_connection(last_stream_id=streams[4])
        writer.write(session.data_to_send())
        writer.close()

    async def ask() -> list[object]:
        async with await asyncio.start_unix_server(answer, tmp_path / "x.sock"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "x.sock")
            connection = clients.H2(reader, writer)
            asked = [asyncio.create_task(connection.ask()) for _ in range(6)]
            await connection.read()
            assert connection.leaving
            writer.close()
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = [each if isinstance(each, bool) else type(each) for each in asyncio.run(ask())]
    assert answers == [True, ValueError, False, ConnectionError, ConnectionError, False]


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="there is no systemd here")
def test_systemd_activates_it_by_its_socket(pex: Path) -> None:
    """The first connection starts it; the socket is found as `fd:3` and by `systemd:`."""
    for listen in ("fd:3", "systemd:domain=INET:name=web"):
        with reserved_port() as port:
            _is_activated(pex, listen, port)


def _is_activated(pex: Path, listen: str, port: int) -> None:
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", pex, f"--web.listen={listen}"]
    environ = [f"--setenv={name}={os.environ[name]}" for name in ("PATH", "HOME")]
    # Twisted finds no descriptors without names, which systemd itself always gives.
    command[2:2] = [*environ, "--fdname=web"]
    with subprocess.Popen([*command, "--admin.listen="], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            assert "Listening on" in process.stderr.readline()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as got:
                assert got.status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
