"""docs/proxies.md: nginx and haproxy, configured as it says, before an application."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from children import ROOT, reserved_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60

PAGE = (ROOT / "docs" / "proxies.md").read_text(encoding="utf-8")

APP = """
import json, sys
from halfsync import About, serve_wsgi
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    names = ("REMOTE_ADDR", "wsgi.url_scheme", "HTTP_HOST")
    return [json.dumps({name: environ[name] for name in names}).encode()]
sys.exit(serve_wsgi(app, About("behind")))
"""


def block(language: str) -> str:
    """Return the page's configuration for a program."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return found


@contextmanager
def service(*flags: str) -> Iterator[int]:
    """Run the application; yield its port."""
    command = [sys.executable, "-c", APP, "--log.format=json", "--admin.listen=", *flags]
    with running(command) as process:
        yield int(re.findall(r":(\d+)", process.wait_for("web.listening")["address"])[-1])


@contextmanager
def proxy(command: list[str | Path], port: int) -> Iterator[str]:
    """Run a proxy in the foreground; yield its URL once it accepts."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
                    break
                except ConnectionRefusedError:
                    continue
            else:
                raise AssertionError(process.stdout.read())
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


@contextmanager
def nginx(upstream: int, folder: Path) -> Iterator[str]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("there is no nginx. Debian, Ubuntu: apt install nginx-light")
    server = block("nginx").replace("127.0.0.1:8080", f"127.0.0.1:{upstream}")
    temporary = "".join(
        f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = folder / "nginx.conf"
    with reserved_port() as port:
        server = server.replace("listen 80", f"listen 127.0.0.1:{port}")
        configuration.write_text(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {temporary}\n{server}}}\n"
        )
        with proxy([program, "-c", configuration, "-p", folder, "-e", "stderr"], port) as url:
            yield url


@contextmanager
def haproxy(upstream: int, folder: Path) -> Iterator[str]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("there is no haproxy. Debian, Ubuntu: apt install haproxy")
    configuration = folder / "haproxy.cfg"
    with reserved_port() as port:
        text = block("haproxy").replace("bind *:80", f"bind 127.0.0.1:{port}")
        configuration.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{upstream}"))
        with proxy([program, "-db", "-f", configuration], port) as url:
            yield url


@pytest.mark.parametrize("server", [nginx, haproxy])
def test_the_application_sees_the_client(server, tmp_path):
    """Address, scheme and host are the client's as the proxy saw them, whatever the client claims."""
    flags = ["--web.listen=tcp:0:interface=127.0.0.1", "--web.trusted_proxies=127.0.0.1"]
    claims = {"X-Forwarded-For": "192.0.2.66", "X-Forwarded-Proto": "https", "Host": "shop.example"}
    with service(*flags) as port, server(port, tmp_path) as url:
        asked = urllib.request.Request(url, headers=claims)
        with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
            seen = json.load(response)
    assert seen == {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http", "HTTP_HOST": "shop.example"}


def test_the_address_before_http(tmp_path):
    """The line about `send-proxy-v2`: the service learns the client's address without any header."""
    assert "`server one 127.0.0.1:8080 send-proxy-v2`" in PAGE
    assert "`--web.listen=haproxy:tcp:8080:interface=127.0.0.1`" in PAGE
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        pytest.skip("there is no haproxy. Debian, Ubuntu: apt install haproxy")
    with service("--web.listen=haproxy:tcp:0:interface=127.0.0.1") as upstream, reserved_port() as port:
        text = block("haproxy").replace("bind *:80", f"bind 127.0.0.1:{port}")
        text = re.sub(r"option httpchk.*\n", "", text)
        line = f"server one 127.0.0.1:{upstream} send-proxy-v2"
        text = text.replace("server one 127.0.0.1:8080 check", line)
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(text)
        with (
            proxy([program, "-db", "-f", configuration], port) as url,
            urllib.request.urlopen(url, timeout=PATIENCE) as response,
        ):
            assert json.load(response)["REMOTE_ADDR"] == "127.0.0.1"
