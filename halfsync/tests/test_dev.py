"""`python -m halfsync.dev`: a service that starts again when its source changes, behind sockets that stay."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from children import PATIENCE, SOURCES
from terminal import Screen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIN = """
from halfsync import flags
from halfsync.admin import Admin
from halfsync.http.listener import WebListener
from halfsync.http.wsgi.gateway import Gateway, workers_from_flags
from halfsync.life.about import About
from halfsync import run

ABOUT = About(name="shop", package="shop", version="1", summary="A shop.")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"WORD"]

def parts(process):
    process.add(Admin.from_flags(process))
    workers = process.add(workers_from_flags(process.reactor))
    process.add(WebListener.from_flags(Gateway(app, workers), process.reactor))

flags.parse(ABOUT)
raise SystemExit(run(ABOUT, parts))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The source of a service."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "__main__.py").write_text(textwrap.dedent(MAIN))
    return folder / "__main__.py"


@pytest.fixture
def dev(shop: Path) -> Iterator[subprocess.Popen[str]]:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{SOURCES}:{shop.parents[1]}",
        "HOME": str(shop.parent),
    }
    command = [sys.executable, "-m", "halfsync.dev", "shop", "--web.listen=tcp:{}:interface=127.0.0.1"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command[-1] = command[-1].format(taken.getsockname()[1])
        with subprocess.Popen(
            command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        ) as process:
            try:
                yield process
            finally:
                # It ends the service, which would go on if it were killed itself.
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE)


def read(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"no {pattern} in {lines}")


def test_a_change_starts_it_again_and_no_request_fails(shop: Path, dev: subprocess.Popen[str]):
    """The port asked for is taken: another one is found and told, and keeps answering through restarts."""
    url = read(dev, r"web\.listen: (http://127.0.0.1:\d+/)")[1]

    def get() -> bytes:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.read()

    assert get() == b"WORD"
    shop.write_text(shop.read_text().replace("WORD", "other"))
    read(dev, "a source has changed")
    assert get() == b"other"
    shop.write_text(shop.read_text() + "\nthis is no python\n")
    read(dev, "ended with exit code 1; waiting for a change")
    shop.write_text(shop.read_text().replace("this is no python", "").replace("other", "third"))
    read(dev, "a source has changed")
    assert get() == b"third"
    dev.send_signal(signal.SIGINT)
    assert dev.wait(PATIENCE) == 0


def test_a_request_that_fails_shows_why(shop: Path, dev: subprocess.Popen[str]):
    """The traceback is the answer, as only this machine can ask."""
    url = read(dev, r"web\.listen: (http://127.0.0.1:\d+/)")[1]
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        assert response.read() == b"WORD"
    shop.write_text(shop.read_text().replace('[b"WORD"]', '[b"WORD" + no_such_name]'))
    read(dev, "a source has changed")
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(url, timeout=PATIENCE)
    with failed.value:
        page = failed.value.read().decode()
    assert "NameError: name 'no_such_name' is not defined" in page
    assert str(shop) in page


@pytest.mark.parametrize(
    "flag", ["--web.tracebacks=false", "--web.listen=tcp:0:interface=0.0.0.0"], ids=["not wanted", "open"]
)
def test_where_no_traceback_is_shown(shop: Path, monkeypatch: pytest.MonkeyPatch, flag: str):
    """Who does not want it has said so; and where other machines can ask, it is left out."""
    monkeypatch.setenv("PYTHONPATH", f"{SOURCES}:{shop.parents[1]}")
    shop.write_text(shop.read_text().replace('[b"WORD"]', "[no_such_name]"))
    command = [sys.executable, "-m", "halfsync.dev", "shop", "--admin.listen=", "--log.file=log"]
    with subprocess.Popen(
        [*command, "--web.listen=tcp:0:interface=127.0.0.1", flag],
        cwd=shop.parent,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = read(process, r"web\.listen: (http://127.0.0.1:\d+/)")[1]
            with pytest.raises(urllib.error.HTTPError) as failed:
                urllib.request.urlopen(url, timeout=PATIENCE)
            with failed.value:
                assert failed.value.read() == b"Internal Server Error\n"
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


def test_a_package_that_is_none():
    """One line, and exit code 2."""
    command = [sys.executable, "-m", "halfsync.dev", "no-such"]
    run = subprocess.run(
        command, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr == "halfsync.dev: package: 'no-such' is none: give the name of the service's package\n"


def test_breakpoint_stops_in_a_handler(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """The debugger has the terminal, sees what the handler sees, and the request goes on after it."""
    stops = 'words = [b"WORD"]\n    breakpoint()\n    return words'
    shop.write_text(shop.read_text().replace('return [b"WORD"]', stops))
    monkeypatch.setenv("PYTHONPATH", f"{SOURCES}:{shop.parents[1]}")
    flags = ["--web.listen=tcp:0:interface=127.0.0.1", "--admin.listen=", "--log.level=warning"]
    screen = Screen([sys.executable, "-m", "halfsync.dev", "shop", *flags])
    screen.until("web.listen: ")
    url = screen.until("\n")
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(lambda: urllib.request.urlopen(url, timeout=PATIENCE).read())
        screen.until("(Pdb) ")
        screen.types("environ['PATH_INFO']\n")
        screen.until("'/'")
        screen.until("(Pdb) ")
        screen.types("words[0] = b'changed'\n")
        screen.until("(Pdb) ")
        screen.types("continue\n")
        assert answer.result() == b"changed"
    screen.types("\x03")
    assert screen.exit_code() == 0
