"""deploy/supervisord.conf, run by supervisord: processes that share a socket through a kill and restarts."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clients import Clients
from children import reserved_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 60
HERE = """
[supervisord]
nodaemon=true
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[unix_http_server]
file={folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{folder}/supervisor.sock
"""


class Supervisord:
    """supervisord with the project's file, but for paths, ports and the user."""

    def __init__(self, folder: Path, pex: Path, port: int) -> None:
        self.folder = folder
        self.pex = pex
        self.port = port
        text = (pex.parents[1] / "deploy" / "supervisord.conf").read_text()
        prefixes = iter([_free_hundred(300), _free_hundred(400)])
        for pattern, here in (
            (r"/opt/hello-service/hello-service\.pex", str(pex)),
            (r"0\.0\.0\.0:8080", f"127.0.0.1:{self.port}"),
            (r"tcp:8[12]%", lambda _: f"tcp:{next(prefixes)}%"),
            (r"(?m)^user=.*\n", ""),
            (r"/var/(cache|log)/hello-service", str(folder)),
            (r"startsecs=5", "startsecs=1"),
        ):
            text, changed = re.subn(pattern, here, text)
            assert changed, pattern
        (folder / "supervisord.conf").write_text(HERE.format(folder=folder) + text)

    async def run(self) -> asyncio.subprocess.Process:
        # As at a deployment: it unpacks itself before it is started.
        warm = {**os.environ, "HOME": str(self.folder), "PEX_ROOT": f"{self.folder}/pex"}
        await (await asyncio.create_subprocess_exec(self.pex, "--version", env=warm)).wait()
        return await asyncio.create_subprocess_exec(
            _tool("supervisord"), "-c", f"{self.folder}/supervisord.conf", stdout=asyncio.subprocess.DEVNULL
        )

    async def control(self, *words: str) -> str:
        """Say something to supervisorctl, and return what it answers."""
        process = await asyncio.create_subprocess_exec(
            _tool("supervisorctl"),
            "-c",
            f"{self.folder}/supervisord.conf",
            *words,
            stdout=asyncio.subprocess.PIPE,
        )
        return (await process.communicate())[0].decode()

    async def pids(self) -> dict[str, int]:
        """Wait until both processes run, and return their pids."""
        async for status in self._statuses():
            found = re.findall(r"^hello-service:(\S+)\s+RUNNING\s+pid (\d+)", status, re.MULTILINE)
            if len(found) == 2:
                return {name: int(pid) for name, pid in found}
        raise AssertionError(f"{status}\n{(self.folder / 'supervisord.log').read_text()}")

    async def _statuses(self) -> AsyncIterator[str]:
        for _ in range(PATIENCE * 4):
            yield await self.control("status")
            await asyncio.sleep(0.25)


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_hundred(first: int) -> int:
    """Return NNN for which the ports NNN00 and NNN01 are free."""
    for number in range(first, first + 90):
        try:
            for last in (0, 1):
                socket.create_server(("127.0.0.1", number * 100 + last)).close()
        except OSError:
            continue
        return number
    raise AssertionError("no free ports")


def test_two_processes_share_a_socket(pex: Path, tmp_path: Path) -> None:
    """One that is killed comes back while the other serves; restarts lose nothing; the end is clean."""
    with reserved_port() as port:
        asyncio.run(_life(Supervisord(tmp_path, pex, port)))


async def _life(supervisord: Supervisord) -> None:
    process = await supervisord.run()
    load = None
    try:
        before = await supervisord.pids()
        assert list(before) == ["hello-service_00", "hello-service_01"]
        load = Clients(lambda: asyncio.open_connection("127.0.0.1", supervisord.port))
        os.kill(before["hello-service_00"], signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            # supervisord may not have noticed yet.
            while (after := await supervisord.pids())["hello-service_00"] == before["hello-service_00"]:
                pass
        # What the killed one was answering is lost; nothing is that was asked since another took its place.
        killed = len(load.kept.lost + load.fresh.lost)
        asked = load.kept.requests + load.fresh.requests
        assert after["hello-service_01"] == before["hello-service_01"]
        for name in after:
            assert f"{name}: started" in await supervisord.control("restart", f"hello-service:{name}")
        await load.stop()
        assert (load.kept.lost + load.fresh.lost)[killed:] == []
        assert load.kept.requests + load.fresh.requests > asked + 50
        assert set((await supervisord.pids()).values()).isdisjoint(after.values())
        await supervisord.control("shutdown")
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
        ends = re.findall(r"stopped: .*", (supervisord.folder / "supervisord.log").read_text())
        assert len(ends) == 4
        assert all("exit status 0" in end for end in ends), ends
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
