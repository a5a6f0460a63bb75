"""Generate a service, build it, run it somewhere else, look inside it while it runs, and stop it.

Everything shown is really run; `--readme` also puts the manhole's part of it into README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "demo-service"
PROJECT = DEMO / "hello-service"
ELSEWHERE = DEMO / "elsewhere"
LOG = ELSEWHERE / "service.log"

KEPT = (".tools", ".build", ".venv")
"""What a second run takes over from the first, so that it needs no network."""

PATIENCE = 60
"""Seconds after which what is awaited has failed; the first start of a pex unpacks it."""

SSH_CONFIG = """\
Host manhole
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {elsewhere}/key
  IdentitiesOnly yes
  UserKnownHostsFile {elsewhere}/known_hosts
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""


class DemoError(Exception):
    """What the demo cannot do; one line for a person."""


class Screen:
    """Prints, and keeps the parts that the README shows."""

    def __init__(self) -> None:
        self.transcript: list[str] = []
        self._step = 0

    def step(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        print(f"\n[{self._step}/7] {text}", flush=True)

    def say(self, text: str, *, keep: bool = False) -> None:
        """Print some lines."""
        print("".join(f"    {line}\n" for line in text.splitlines()), end="", flush=True)
        if keep:
            self.transcript += text.splitlines()


class Service:
    """The running pex, seen through its log."""

    def __init__(self, screen: Screen, ports: dict[str, int]) -> None:
        self.ports = ports
        command = [
            "./hello-service.pex",
            "--manhole.authorized_keys=authorized_keys",
            "--manhole.host_key=host_key",
        ]
        command += [f"--{name}.listen=tcp:{port}:interface=127.0.0.1" for name, port in ports.items()]
        screen.say(f"$ {' '.join(command)} >service.log &")
        with LOG.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ELSEWHERE, stdout=log, stderr=log)  # noqa: S603 - ours

    def get(self, listener: str, path: str) -> str:
        """Fetch a page."""
        url = f"http://127.0.0.1:{self.ports[listener]}{path}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of one name that the log has."""
        lines = (line for line in LOG.read_text().splitlines() if line.startswith("{"))
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until the log has an event so many times, and return the last one."""
        deadline = time.monotonic() + PATIENCE
        while len(found := self.events(name)) < count:
            if self.process.poll() is not None:
                raise DemoError(f"the service ended with exit code {self.process.returncode}")
            if time.monotonic() > deadline:
                raise DemoError(f"the service did not log {name} within {PATIENCE} s")
            time.sleep(0.05)
        return found[-1]


def main() -> int:
    """Run the demo, and return its exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--python", default=sys.executable, help="the Python to build the service with")
    arguments.add_argument("--readme", action="store_true", help="put the transcript into README.md")
    options = arguments.parse_args()
    screen = Screen()
    try:
        _check()
        _generate(screen)
        _build(screen, options.python)
        with _started(screen) as service:
            _look_from_outside(screen, service)
            _look_inside(screen, service)
            _stop(screen, service)
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        if LOG.exists():
            print(f"The end of {LOG}:\n" + "\n".join(LOG.read_text().splitlines()[-10:]), file=sys.stderr)
        return 1
    if options.readme:
        _put_into_readme(screen.transcript)
    return 0


def _check() -> None:
    for program in ("ssh", "ssh-keygen"):
        if not shutil.which(program):
            raise DemoError(f"there is no {program}. Debian, Ubuntu: apt install openssh-client")


def _generate(screen: Screen) -> None:
    screen.step(f"generate a service with the default answers, in {DEMO.name}/{PROJECT.name}")
    kept = DEMO / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (PROJECT / name).exists():
            shutil.rmtree(kept / name, ignore_errors=True)
            (PROJECT / name).rename(kept / name)
    for folder in (PROJECT, ELSEWHERE):
        shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "cookiecutter",
        "--no-input",
        "--default-config",
        "-o",
        str(DEMO),
        str(ROOT),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - the arguments are ours
    for name in KEPT:
        if (kept / name).exists():
            (kept / name).rename(PROJECT / name)
    screen.say("\n".join(sorted(path.name + "/" * path.is_dir() for path in PROJECT.iterdir())))


def _build(screen: Screen, python: str) -> None:
    screen.step("build its pex: `make pex` (the first time fetches its dependencies; less than a minute)")
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--no-print-directory", f"PYTHON={python}", "pex"]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=PROJECT, env=environ, stdout=subprocess.PIPE, text=True) as build:  # noqa: S603
        assert build.stdout is not None  # noqa: S101 - for the type checker
        for line in build.stdout:
            screen.say(line)
    if build.returncode:
        raise DemoError(f"make pex failed with exit code {build.returncode}")
    ELSEWHERE.mkdir()
    pex = shutil.copy2(PROJECT / "dist" / "hello-service.pex", ELSEWHERE)
    size = Path(pex).stat().st_size / 1e6
    screen.say(f"{time.monotonic() - started:.1f} s; {size:.0f} MB, copied to {DEMO.name}/{ELSEWHERE.name}")


@contextlib.contextmanager
def _started(screen: Screen) -> Iterator[Service]:
    screen.step(f"start it there, in {DEMO.name}/{ELSEWHERE.name}")
    ports = _free_ports()
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(ELSEWHERE / "key")]
    subprocess.run(keygen, check=True)  # noqa: S603 - the arguments are ours
    shutil.copyfile(ELSEWHERE / "key.pub", ELSEWHERE / "authorized_keys")
    (ELSEWHERE / "ssh_config").write_text(
        SSH_CONFIG.format(port=ports["manhole"], user=getpass.getuser(), elsewhere=ELSEWHERE)
    )
    service = Service(screen, ports)
    try:
        event = service.wait_for("service.started")
        screen.say(f"started: process {event['pid']}")
        yield service
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def _free_ports() -> dict[str, int]:
    """Choose the default ports where they are free, and any other where they are not."""
    ports = {}
    for name, default in (("web", 8080), ("admin", 8081), ("manhole", 8022)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", default))
            except OSError:
                probe.bind(("127.0.0.1", 0))
            ports[name] = probe.getsockname()[1]
    return ports


def _look_from_outside(screen: Screen, service: Service) -> None:
    screen.step("ask it over HTTP: web, admin, and the task that it runs by itself")
    screen.say(f"GET http://127.0.0.1:{service.ports['web']}/?name=Ada\n{service.get('web', '/?name=Ada')}")
    screen.say(
        f"GET http://127.0.0.1:{service.ports['admin']}/health/ready\n{service.get('admin', '/health/ready')}"
    )
    service.wait_for("page.checked")
    tasks = service.get("admin", "/tasks")
    screen.say(f"GET http://127.0.0.1:{service.ports['admin']}/tasks\n{tasks}")


def _look_inside(screen: Screen, service: Service) -> None:
    screen.step("open the manhole of the live process with a signal, and run lines in it by ssh")
    pid = service.process.pid
    screen.say(f"$ kill -USR2 {pid}", keep=True)
    service.process.send_signal(signal.SIGUSR2)
    service.wait_for("manhole.opened")
    for line in (
        "service.state, [part.label for part in service]",
        "flags.web.threads",
        "flags.web.greeting = 'Good evening'",
    ):
        _run(screen, ["ssh", "-F", "ssh_config", "manhole", line])
    screen.say(f"GET http://127.0.0.1:{service.ports['web']}/\n{service.get('web', '/')}", keep=True)
    screen.say(f"$ kill -USR2 {pid}", keep=True)
    service.process.send_signal(signal.SIGUSR2)
    service.wait_for("manhole.closed")
    _run(screen, ["ssh", "-F", "ssh_config", "manhole", "flags"], fails=True)


def _run(screen: Screen, command: list[str], *, fails: bool = False) -> None:
    """Run a command of a person's, and show it with what it printed."""
    shown = " ".join(command[:-1]) + f' "{command[-1]}"'
    screen.say(f"$ {shown}", keep=True)
    run = subprocess.run(  # noqa: S603 - the arguments are ours
        command, cwd=ELSEWHERE, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    screen.say(run.stdout + run.stderr, keep=True)
    if (run.returncode != 0) != fails:
        raise DemoError(f"{shown} ended with exit code {run.returncode}")


def _stop(screen: Screen, service: Service) -> None:
    screen.step("stop it")
    screen.say(f"$ kill -TERM {service.process.pid}")
    service.process.send_signal(signal.SIGTERM)
    code = service.process.wait(PATIENCE)
    if code:
        raise DemoError(f"the service stopped with exit code {code}")
    screen.say("stopped with exit code 0: nothing was cut off")
    screen.step("it is yours now")
    screen.say(
        f"""\
{DEMO.name}/{PROJECT.name}    the project: `make` there lists what it can do, README.md is its runbook
{DEMO.name}/{ELSEWHERE.name}        its pex, where it ran: log, keys and ssh_config are there
Once more, by hand:
  cd {ELSEWHERE}
  ./hello-service.pex --manhole.authorized_keys=authorized_keys --manhole.host_key=host_key
Your own: .venv/bin/cookiecutter {ROOT}"""
    )


def _put_into_readme(transcript: list[str]) -> None:
    path = ROOT / "README.md"
    text = "\n".join(
        ("<!-- made by: make demo ARGS=--readme -->", "```console", *transcript, "```", "<!-- end -->")
    )
    pattern = r"<!-- made by: make demo ARGS=--readme -->.*?<!-- end -->"
    path.write_text(re.sub(pattern, lambda _: text, path.read_text(), flags=re.DOTALL))


if __name__ == "__main__":
    sys.exit(main())
