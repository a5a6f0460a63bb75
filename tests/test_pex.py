from __future__ import annotations

import getpass
import hashlib
import json
import re
import shutil
import signal
import subprocess
import urllib.request
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from children import Child
from disks import needs_mount, with_disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60
VERSION = "hello-service 0.1.0"


class Running(Child):
    """A pex that runs in a folder of its own with an empty environment, seen through its log."""

    def __init__(self, folder: Path, pex: Path, path: str, *flags: str) -> None:
        self.folder = folder
        shutil.copy2(pex, folder)
        # env -i: nothing of this test's environment, and of PATH what finds a Python.
        command = [
            "env",
            "-i",
            f"PATH={path}",
            f"HOME={folder}",
            f"./{pex.name}",
            "--log.format=json",
            *flags,
        ]
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            # Whoever does not read for a while: a log that waits makes the prompt wait as well.
            pipesize=1 << 20,
        )
        super().__init__(process)

    @classmethod
    @contextmanager
    def elsewhere(cls, folder: Path, pex: Path, path: str) -> Iterator[Running]:
        """Run it on ports of its own, with a key that may enter; end it with the block."""
        assert shutil.which("ssh"), "there is no ssh client. Debian, Ubuntu: apt install openssh-client"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        flags = [f"--{name}.listen=tcp:0:interface=127.0.0.1" for name in ("web", "admin", "manhole")]
        flags += ["--manhole.authorized_keys=key.pub", "--manhole.host_key=host_key"]
        running = cls(folder, pex, path, *flags)
        with running.process:
            try:
                running.wait_for("service.started")
                yield running
            finally:
                running.process.kill()

    def port(self, listener: str) -> str:
        """Return the port at which a listener answers."""
        addresses = [event["address"] for event in self.events if event["event"] == f"{listener}.listening"]
        return re.sub(".*:", "", addresses[-1])

    def get(self, listener: str, path: str) -> str:
        """Fetch a page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port(listener)}{path}", timeout=PATIENCE) as got:
            return str(got.read().decode())

    def ssh(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line in the manhole with the real ssh client."""
        options = [
            "-F",
            "none",
            "-i",
            self.folder / "key",
            "-o",
            "IdentitiesOnly=yes",
            "-p",
            self.port("manhole"),
        ]
        options += ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
        options += ["-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-l", getpass.getuser()]
        command = ["ssh", *map(str, options), "127.0.0.1", line]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def path_for(pex: Path) -> str:
    """Return a PATH with the Python that the pex was built for."""
    configuration = (pex.parents[1] / ".venv" / "pyvenv.cfg").read_text()
    home = re.search(r"^home = (.*)$", configuration, re.MULTILINE)
    assert home
    return f"{home[1]}:/usr/bin:/bin"


@pytest.fixture(scope="module")
def running(pex: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The pex, running somewhere else on ports of its own, with a key that may enter."""
    with Running.elsewhere(tmp_path_factory.mktemp("elsewhere"), pex, path_for(pex)) as running:
        yield running


def test_it_serves(running: Running) -> None:
    """Web and admin answer, and the task runs by itself."""
    assert running.get("web", "/?name=pex") == "Hello, pex!\n"
    assert json.loads(running.get("admin", "/info"))["version"] == "0.1.0"
    assert '"check_page"' in running.get("admin", "/tasks")


def test_it_tells_what_it_was_built_from(running: Running, pex: Path, baked: Path) -> None:
    """/info has commit, locks, library and inputs; the bill and the licences come from the live process."""
    facts = json.loads(pex.with_suffix(".build.json").read_text())
    told = json.loads(running.get("admin", "/info"))["build"]
    assert {name: told[name] for name in facts if name in told} == {
        name: value for name, value in facts.items() if name not in ("name", "version", "pex")
    } | {"pex": told["pex"]}
    assert told["pex_version"] == facts["pex"]
    lock = hashlib.sha256((baked / "requirements.lock").read_bytes()).hexdigest()
    assert told["locks"]["requirements.lock"] == lock
    assert told["library"] in (baked / "pyproject.toml").read_text()
    assert running.get("admin", "/info/sbom") == pex.with_suffix(".sbom.json").read_text()
    assert running.get("admin", "/info/licenses") == pex.with_suffix(".licenses.txt").read_text()


def test_version_tells_it_as_well(pex: Path, baked: Path, tmp_path: Path) -> None:
    """Name and version alone on the first line, then commit, locks, library and inputs."""
    run = in_cache(pex, tmp_path, "$PEX --version")
    first, *more = run.stdout.splitlines()
    assert (run.returncode, first) == (0, "hello-service 0.1.0"), run.stderr
    lock = hashlib.sha256((baked / "requirements.lock").read_bytes()).hexdigest()
    assert f"requirements.lock: sha256:{lock}" in more
    assert [line.partition(":")[0] for line in more] == [
        "commit",
        "requirements.lock",
        "tools.lock",
        "halfsync",
        "pex",
        "for",
    ]


def test_its_process_is_the_one_that_was_started(running: Running) -> None:
    """No launcher stays between: signals reach the service itself."""
    (started,) = [event for event in running.events if event["event"] == "service.started"]
    assert started["pid"] == running.process.pid


def test_manhole_is_toggled_by_a_signal_and_entered_by_ssh(running: Running) -> None:
    """USR2 opens it, the real ssh client runs a line in the process, USR2 closes it again."""
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for("manhole.listening")
    running.wait_for("manhole.opened")
    answered = running.ssh("__import__('os').getpid()")
    assert (answered.stdout.strip(), answered.returncode) == (str(running.process.pid), 0), answered.stderr
    running.ssh("flags.web.greeting = 'Good evening'")
    assert running.get("web", "/") == "Good evening, world!\n"
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for("manhole.closed")
    assert running.ssh("1").returncode == 255


def test_it_has_compiled_nothing(running: Running, pex: Path, tmp_path: Path) -> None:
    """All that it has imported, to serve and for whoever entered its manhole, was compiled in the file."""
    assert in_cache(pex, tmp_path, "$PEX --version").returncode == 0
    assert compiled(running.folder / ".cache" / "pex") == compiled(tmp_path / "cache")


def test_it_stops_cleanly(running: Running) -> None:
    """TERM ends it with exit code 0; the last test, as the others need it alive."""
    running.process.send_signal(signal.SIGTERM)
    out, _ = running.process.communicate(timeout=PATIENCE)
    assert running.process.returncode == 0
    assert json.loads(out.splitlines()[-1])["event"] == "service.stopped"


def test_wrong_python_is_told(pex: Path, tmp_path: Path) -> None:
    """Without the Python that it was built for, the pex says which one it needs."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    run = subprocess.run(
        ["env", "-i", f"PATH={tmp_path}", f"HOME={tmp_path}", "/bin/sh", pex],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert run.stderr.startswith(f"{pex}: it needs CPython 3.11 on ")
    assert run.stderr.endswith(f"and there is no Python on the PATH: {tmp_path}\n")
    assert run.stderr.count("\n") == 1


def in_cache(
    pex: Path, folder: Path, script: str, *wrapper: str, python: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a script in which $PEX is the pex, with a folder as its cache, and another for temporary files."""
    (folder / "tmp").mkdir()
    path = python or path_for(pex)
    environ = [f"PATH={path}", f"HOME={folder}", f"PEX_ROOT={folder}/cache", f"TMPDIR={folder}/tmp"]
    command = ["env", "-i", *environ, f"PEX={pex}", *wrapper, "sh", "-ec", script]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def kept(folder: Path) -> dict[str, bytes]:
    """Return the files of the one virtual environment in a cache, but for what names its place or Python."""
    (venv,) = (path.parent for path in folder.glob("venvs/*/*/*/pyvenv.cfg"))
    place = re.compile(rb"%s/venvs/(\d+/s/\w+/venv|\d+/\w+/\w+)" % str(folder).encode())
    files = (each for each in rglob(venv) if each.name != "pyvenv.cfg" and each.suffix != ".pyc")
    texts = {each.relative_to(venv).as_posix(): place.sub(b"", each.read_bytes()) for each in files}
    # A script that names its place has a hash of its own.
    return {
        name: re.sub(rb"(?m)^(\S+/bin/[^,\n]+),.*$", rb"\1,,", text) if name.endswith("/RECORD") else text
        for name, text in texts.items()
    }


def compiled(folder: Path) -> set[str]:
    """Return the names of what is compiled in the one virtual environment in a cache."""
    (venv,) = (path.parent for path in folder.glob("venvs/*/*/*/pyvenv.cfg"))
    return {each.relative_to(venv).as_posix() for each in venv.rglob("*.pyc")}


def rglob(folder: Path) -> Iterator[Path]:
    """Walk the files below a folder, those in linked folders too."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from rglob(path)
        else:
            yield path


def test_its_first_start_makes_what_pex_makes(pex: Path, tmp_path: Path) -> None:
    """The same files, in one virtual environment and nothing else beside it; pex goes on with it."""
    script = """
        cd $(dirname $PEX)
        $PEX --version
        PEX_ROOT=$HOME/own PEX_INTERPRETER=1 ./$(basename $PEX) -c 'print("own")'
        PEX_INTERPRETER=1 $PEX -c 'print("shared")'
    """
    run = in_cache(pex, tmp_path, script)
    told = [line for line in run.stdout.splitlines() if ": " not in line]
    assert (run.returncode, told, run.stderr) == (0, [VERSION, "own", "shared"], "")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["venvs"]
    ours, theirs = kept(tmp_path / "cache"), kept(tmp_path / "own")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_its_first_start_leaves_nothing_to_compile(pex: Path, tmp_path: Path) -> None:
    """What is compiled is in the file, and Python takes it for good: a start adds nothing to it."""
    script = """
        $PEX --version
        find $PEX_ROOT | sort >before
        $PEX --check_config
        find $PEX_ROOT | sort | diff before -
    """
    run = in_cache(pex, tmp_path, f"cd {tmp_path}\n{script}")
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    before = (tmp_path / "before").read_text()
    assert "/flask/__pycache__/app.cpython-" in before
    # Nothing of the service leads to it.
    assert "/twisted/words/tap.py" in before
    assert "/twisted/words/__pycache__/tap.cpython-" not in before


def test_its_first_start_heeds_nothing_beside_python(pex: Path, tmp_path: Path) -> None:
    """What is installed there is not looked at, and not in what it makes; pex itself sees it."""
    script = """
        python3.11 -m venv --without-pip $HOME/beside
        echo 'import sys; print("seen", file=sys.stderr)' >$HOME/beside/lib/python3.11/site-packages/seen.pth
        PATH=$HOME/beside/bin:$PATH
        $PEX --version 2>$HOME/first
        $PEX --version 2>$HOME/later
        grep -c $HOME/beside $PEX_ROOT/venvs/*/*/*/pyvenv.cfg || true
        PEX_INTERPRETER=1 PEX_ROOT=$HOME/own $PEX -c 'print("pex")'
    """
    run = in_cache(pex, tmp_path, script)
    told = [line for line in run.stdout.splitlines() if ": " not in line]
    assert (run.returncode, told) == (0, [VERSION, VERSION, "0", "pex"]), run.stderr
    assert set(run.stderr.splitlines()) == {"seen"}
    assert (tmp_path / "first").read_text() == (tmp_path / "later").read_text() == ""


def test_a_source_that_is_changed_is_compiled_again(pex: Path, tmp_path: Path) -> None:
    """Whoever edits what was unpacked, to find a fault, sees the edit."""
    script = """
        $PEX --version
        echo 'print("edited")' >>$(find $PEX_ROOT -path '*hello_service/__init__.py')
        $PEX --version
    """
    run = in_cache(pex, tmp_path, script)
    told = [line for line in run.stdout.splitlines() if ": " not in line]
    assert (run.returncode, told) == (0, [VERSION, "edited", VERSION]), run.stderr


@pytest.mark.parametrize(
    "member", [".bootstrap/first-start", ".bootstrap/first-start-compiled", "hello_service/__init__.py"]
)
def test_a_damaged_file_is_told(pex: Path, tmp_path: Path, member: str) -> None:
    """A first start that finds other bytes than were built says so in a line, and leaves nothing."""
    damaged = tmp_path / pex.name
    data = bytearray(pex.read_bytes())
    with zipfile.ZipFile(pex) as archive:
        found = archive.getinfo(member)
    data[found.header_offset + 30 + len(member) + found.compress_size // 2] ^= 255
    damaged.write_bytes(data)
    damaged.chmod(0o755)
    run = in_cache(damaged, tmp_path, "$PEX --version", python=path_for(pex))
    assert (run.returncode, run.stderr) == (1, f"{damaged}: the file is damaged: copy it here again\n")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.stat().st_size] == []


def test_several_first_starts_at_once(pex: Path, tmp_path: Path) -> None:
    """One unpacks, the others wait for it; what one that was killed has left half done is not used."""
    place = re.search(rb'INSTALLED_PEX="\$\{PEX_ROOT\}/([\w/]+)"', pex.read_bytes())
    assert place
    half = tmp_path / "cache" / f"{place[1].decode()}.lck.work"
    half.mkdir(parents=True)
    (half / "__main__.py").write_text("raise SystemExit(9)")
    script = """
        for each in 1 2 3 4; do $PEX --version >$HOME/$each & pids="$pids $!"; done
        for pid in $pids; do wait $pid; done
    """
    run = in_cache(pex, tmp_path, script)
    assert (run.returncode, run.stderr) == (0, "")
    assert {(tmp_path / each).read_text().splitlines()[0] for each in "1234"} == {VERSION}
    (folder,) = (tmp_path / "cache" / "venvs").glob("*/*")
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == [
        place[1].decode().rpartition("/")[2]
    ]


@needs_mount
def test_cache_on_a_read_only_disk(pex: Path, tmp_path: Path, cache: Path) -> None:
    """It costs time at each start and is no reason not to start; pex warns, and nothing is left behind."""
    run = in_cache(pex, tmp_path, "$PEX --version", *with_disk(cache, "ro"))
    assert (run.returncode, run.stdout.splitlines()[0]) == (0, VERSION), run.stderr
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"hello-service: PEX_ROOT is configured as {cache} but that path is un-writeable")
    assert list((tmp_path / "tmp").iterdir()) == []


@needs_mount
def test_cache_on_a_full_disk(pex: Path, tmp_path: Path, cache: Path) -> None:
    """It does not start, and says why; it does once there is room, and when the disk fills up later."""
    script = """
        head -c 60m /dev/zero >$PEX_ROOT/filler
        $PEX --version && exit 9
        rm $PEX_ROOT/filler
        $PEX --version
        head -c 64m /dev/zero >$PEX_ROOT/filler || echo full
        $PEX --version
    """
    run = in_cache(pex, tmp_path, script, *with_disk(cache, "size=64m"))
    told = [line for line in run.stdout.splitlines() if ": " not in line]
    assert (run.returncode, told) == (0, [VERSION, "full", VERSION]), run.stderr
    ours = [line for line in run.stderr.splitlines() if not line.startswith("head: ")]
    hint = "make room there, or name another folder in PEX_ROOT"
    assert ours == [f"hello-service: it cannot be unpacked into {cache}: No space left on device: {hint}"]


def test_old_versions_are_listed_and_removed(pex: Path, tmp_path: Path) -> None:
    """With a PEX_ROOT for each version, all of one goes with its folder, and the others start as before."""
    script = """
        PEX_ROOT=$HOME/roots/1 $PEX --version
        PEX_ROOT=$HOME/roots/2 $PEX --version
        ls $HOME/roots
        rm -r $HOME/roots/1
        PEX_ROOT=$HOME/roots/2 $PEX --version
    """
    run = in_cache(pex, tmp_path, script)
    told = [line for line in run.stdout.splitlines() if ": " not in line]
    assert (run.returncode, told, run.stderr) == (0, [VERSION, VERSION, "1", "2", VERSION], "")
    # Nothing of it is anywhere else.
    assert {path.name for path in tmp_path.iterdir()} == {"roots", "tmp"}
    assert list((tmp_path / "tmp").iterdir()) == []


@needs_mount
def test_cache_that_is_read_only_since(pex: Path, tmp_path: Path, cache: Path) -> None:
    """A pex that was unpacked before starts from there: the way that needs no unpacking at the start."""
    script = """
        $PEX --version
        mount -o remount,ro $PEX_ROOT
        $PEX --version
    """
    run = in_cache(pex, tmp_path, script, *with_disk(cache, "size=128m"))
    told = [line for line in run.stdout.splitlines() if ": " not in line]
    assert (run.returncode, told, run.stderr) == (0, [VERSION, VERSION], "")
