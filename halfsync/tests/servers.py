"""Real servers that the examples lean on: PostgreSQL and Redis, each on a UNIX socket of its own."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

# Its import sets a level of its own, which tests of our levels would find.
logging.getLogger("psycopg").setLevel(logging.NOTSET)

PATIENCE = 60


def _postgres_programs() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL; yield its URL. It does not run as root, so root runs it as the user `postgres`."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL. Debian, Ubuntu: apt install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user, as_user = pwd.getpwuid(os.geteuid()).pw_name, []
    if os.geteuid() == 0:
        user = "postgres"
        shutil.chown(folder, user, user)
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    try:
        subprocess.run(
            [*as_user, programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", user, "-N"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_user, programs / "postgres", "-D", folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        url = f"postgresql://{user}@/postgres?host={folder}"
        try:
            _until(lambda: psycopg.connect(url).close(), psycopg.OperationalError)
            yield url
        finally:
            server.terminate()  # a smart shutdown would wait for clients
            server.send_signal(2)
            server.wait(PATIENCE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run Redis; yield its URL."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("there is no Redis. Debian, Ubuntu: apt install redis-server")
    path = folder / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        url = f"unix://{path}"
        try:
            client = redis.Redis.from_url(url)
            _until(client.ping, redis.ConnectionError)
            client.close()
            yield url
        finally:
            server.terminate()


def _until(probe, error: type[Exception]) -> None:
    """Ask until the server answers: neither tells otherwise when it is ready."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            probe()
        except error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
