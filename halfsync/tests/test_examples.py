"""The examples are existing applications that adopt the library: each as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from children import ROOT, Child, running

EXAMPLES = ROOT / "halfsync" / "examples"

GREETINGS = {
    "flask_app.py": "Hello from Flask\n",
    "django_app.py": "Hello from Django\n",
    "klein_app.py": "Hello from klein\n",
}


def url(address: str) -> str:
    """Return the URL of a `tcp:127.0.0.1:8080`."""
    return f"http://127.0.0.1:{re.search(r'[0-9]+$', address)[0]}"


def get(page: str) -> str:
    with urllib.request.urlopen(page, timeout=30) as response:
        return response.read().decode()


def started(service: Child) -> tuple[str, str]:
    """Wait until a service has started; return where its admin interface and its listener answer."""
    service.wait_for("service.started")
    at = {event["event"]: event["address"] for event in service.events if "address" in event}
    return url(at["admin.listening"]), url(at["web.listening"])


@pytest.mark.parametrize("kind", ["epoll", "asyncio"])
@pytest.mark.parametrize("name", GREETINGS)
def test_an_adopted_application(name, kind, folder, tmp_path):
    """It answers, its admin interface sees it, its manhole opens, and it drains when it is told to stop."""
    command = [
        sys.executable,
        str(EXAMPLES / name),
        "--log.format=json",
        f"--service.reactor={kind}",
        "--web.listen=tcp:0:interface=127.0.0.1",
        "--admin.listen=tcp:0:interface=127.0.0.1",
        "--manhole.listen=tcp:0:interface=127.0.0.1",
        f"--manhole.authorized_keys={folder / 'authorized_keys'}",
        f"--manhole.host_key={tmp_path / 'host_key'}",
        "--manhole.user=me",
    ]
    with running(command) as service:
        admin, web = started(service)
        assert get(f"{web}/") == GREETINGS[name]
        get(f"{admin}/health/ready")
        service.signal(signal.SIGUSR2)
        assert ask(service.wait_for("manhole.opened")["ssh"], folder, "service.state") == "'running'\n"
        service.signal(signal.SIGTERM)
        service.wait_for("service.draining")
        code, _, errors = service.end()
        assert (code, errors) == (0, "")


def ask(ssh: str, folder, statement: str) -> str:
    """Run a statement in the manhole that an event announced."""
    options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    program, *rest = ssh.split()
    command = [
        program,
        "-F",
        "/dev/null",
        *(f"-o{each}" for each in options),
        "-i",
        str(folder / "id"),
        *rest,
    ]
    done = subprocess.run(
        [*command, statement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", GREETINGS)
def test_an_example_is_small(name):
    """Adopting the library takes about 18 lines, so the whole of an example is a screen."""
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60


def test_what_is_wrong_is_one_line():
    """The reactor was imported before the flags were read: who did it is named, and what helps."""
    code = (
        "import sys\nfrom klein import Klein\nfrom halfsync import About, serve_resource\n"
        "sys.exit(serve_resource(Klein(), About('late')))"
    )
    with running([sys.executable, "-c", code, "--service.reactor=asyncio"]) as service:
        code, events, errors = service.end()
        assert (code, events) == (1, [])
        assert errors == (
            "late: --service.reactor: 'asyncio': this process runs on epoll, which klein._app imported"
            " before the flags were read; call halfsync.arrange_reactor ahead of that import\n"
        )


def test_help_into_a_pipe_that_closes():
    """`--help | head -1`: the reader has had enough, and that is no error."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} {EXAMPLES / 'flask_app.py'} --help | head -1"],
        env={"PYTHONPATH": str(ROOT / "halfsync" / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("flask-app 1.0\n", "")


def test_flags_of_a_script_have_short_names():
    """`flag.namespace(__name__)` in the file that is run is the package's own group, not `__main__`."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "flask_app.py"), "--greeting=Hi", "--print_config"],
        env={"PYTHONPATH": str(ROOT / "halfsync" / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "greeting = Hi  (command line; over default: Hello)\n" in done.stdout
    assert "__main__" not in done.stdout.casefold()
