"""`make lock` of a service, beside an index of packages behind a private authority."""

from __future__ import annotations

import functools
import http.server
import os
import re
import ssl
import subprocess
import threading
import zipfile
from typing import TYPE_CHECKING

import pytest

from certificates import make_certificate, write

from .conftest import Bake, pythons

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTPS."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


def wheel(folder: Path, name: str, version: str) -> None:
    """Make a wheel of nothing, where a simple index (PEP 503) has it."""
    path = folder / "simple" / name / f"{name}-{version}-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        info = f"{name}-{version}.dist-info"
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An index with `tiny` and `small` 1 and 2; what a person would set for it in the environment."""
    for name in ("tiny", "small"):
        for version in ("1", "2"):
            wheel(tmp_path / "index", name, version)
    authority = make_certificate("a private authority", authority=True)
    pair = make_certificate("localhost", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(write(tmp_path / "server.pem", *pair))
    handler = functools.partial(Quiet, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "UV_DEFAULT_INDEX": f"https://localhost:{server.server_port}/simple",
                "UV_CACHE_DIR": str(tmp_path / "uv"),
                "UV_NO_CONFIG": "1",
                "NO_PROXY": "localhost",
                "SSL_CERT_FILE": str(write(tmp_path / "authority.pem", authority[0])),
            }
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def project(bake: Bake, baked: Path) -> Path:
    """A project that needs `tiny` and `small`, and has locked version 1 of both."""
    project = bake()
    (project / ".tools").symlink_to((baked / ".tools").resolve())
    path = project / "pyproject.toml"
    needs = '["tiny", "small"]'
    text = re.sub(r"(?ms)^dependencies = \[.*?^\]$", f"dependencies = {needs}", path.read_text())
    path.write_text(re.sub(r"(?ms)^dev = \[.*?^\]$", f"dev = {needs}", text))
    for name in ("requirements.lock", "tools.lock"):
        # The tools are as they were: what makes `.tools` is the lock that the links point to.
        (project / name).write_text("small==1\ntiny==1\n")
    return project


def lock(project: Path, environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `make lock` with the tools that are there."""
    return subprocess.run(
        ["make", "-o", "tools", f"PYTHON={next(iter(pythons().values()))}", "lock", *arguments],
        cwd=project,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "pinned"),
    [
        ((), {"tiny": "1", "small": "1"}),
        (("UPGRADE=tiny",), {"tiny": "2", "small": "1"}),
        (("UPGRADE=tiny small",), {"tiny": "2", "small": "2"}),
        (("UPGRADE=all",), {"tiny": "2", "small": "2"}),
    ],
    ids=str,
)
def test_what_is_pinned_stays_unless_it_is_named(
    project: Path, index: dict[str, str], arguments: tuple[str, ...], pinned: dict[str, str]
) -> None:
    """In both locks, with hashes, from an index whose authority only `SSL_CERT_FILE` names."""
    run = lock(project, index, *arguments)
    assert run.returncode == 0, run.stderr
    for name in ("requirements.lock", "tools.lock"):
        text = (project / name).read_text()
        assert dict(re.findall(r"(?m)^(\w+)==(\d)", text)) == pinned
        assert text.count("--hash=sha256:") >= 2


def test_an_authority_that_nobody_named_is_not_believed(project: Path, index: dict[str, str]) -> None:
    """The locks are as they were, and what is said names the certificate."""
    del index["SSL_CERT_FILE"]
    run = lock(project, index)
    assert run.returncode != 0
    assert "certificate" in run.stderr.lower()
    assert (project / "requirements.lock").read_text() == "small==1\ntiny==1\n"
