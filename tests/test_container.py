"""deploy/Containerfile, built by podman, and run as deploy/kubernetes.yaml says: arguments, files, probes.

Nothing is fetched: the base image is a root of a few folders under the name that the Containerfile gives it,
and has this machine's /usr, at the build and in the run.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from .conftest import pythons
from .machine import PATIENCE, Lines, Network

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "hello-service"


def lacking() -> str | None:
    """Say in a line why no container can be built here, and what would help; None when one can."""
    if os.geteuid() != 0:
        return "only root can build a container from this machine's /usr"
    if not shutil.which("podman"):
        return "there is no podman. Debian, Ubuntu: apt install --no-install-recommends podman"
    # That is the interpreter in the container, and the pex wants the minor version that it is made for.
    probe = ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    here = subprocess.run(probe, capture_output=True, text=True, check=False).stdout.strip()
    wanted = next(iter(pythons()))
    return None if here == wanted else f"/usr/bin/python3 is not Python {wanted}, for which the pex is made"


class Podman:
    """podman, with all that it keeps in a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = [
            "podman",
            f"--root={folder}/root",
            f"--runroot={folder}/run",
            f"--tmpdir={folder}/tmp",
        ]
        self.command += ["--storage-driver=vfs", "--cgroup-manager=cgroupfs"]

    def run(self, *words: str, check: bool = True) -> str:
        """Run it, and return what it says."""
        done = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=120, check=False
        )
        assert not check or done.returncode == 0, f"podman {words}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def base(self, name: str) -> None:
        """Make the image that stands for the official one."""
        with tarfile.open(self.folder / "base.tar", "w") as tar:
            for folder, mode in {
                "etc": 0o755,
                "usr": 0o755,
                "srv": 0o755,
                "tmp": 0o1777,
                "run": 0o755,
            }.items():
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, mode
                tar.addfile(entry)
            for link in ("bin", "sbin", "lib", "lib64"):
                entry = tarfile.TarInfo(link)
                entry.type, entry.linkname = tarfile.SYMTYPE, f"usr/{link}"
                tar.addfile(entry)
            tar.add("/etc/ld.so.cache", "etc/ld.so.cache")
        self.run("import", "--change=ENV PATH=/usr/bin:/bin", f"{self.folder}/base.tar", name)


@pytest.fixture(scope="module")
def podman(pex: Path) -> Iterator[Podman]:
    """The image of the default project, built as the Containerfile says at its top."""
    if reason := lacking():
        pytest.skip(reason)
    project = pex.parents[1]
    (base,) = [
        line.removeprefix("FROM ")
        for line in (project / "deploy" / "Containerfile").read_text().splitlines()
        if line.startswith("FROM ")
    ]
    # podman takes no folder of more than 50 characters for what it runs.
    with tempfile.TemporaryDirectory(prefix="podman", ignore_cleanup_errors=True) as folder:
        podman = Podman(Path(folder))
        podman.base(f"docker.io/library/{base}")
        podman.run(
            *("build", "--isolation=chroot", "--volume=/usr:/usr:ro", "--pull=never", "--layers=false"),
            *("-f", f"{project}/deploy/Containerfile", "-t", NAME, str(project)),
        )
        yield podman


class Pod:
    """The container of the manifest's Deployment, run as it is written there."""

    def __init__(self, podman: Podman, manifest: Path, key: Path) -> None:
        self.key = key
        self.log = Lines()
        self._podman = podman
        documents = {each["kind"]: each for each in yaml.safe_load_all(manifest.read_text())}
        spec = documents["Deployment"]["spec"]["template"]["spec"]
        (self.container,) = spec["containers"]
        config = key.parent / "config"
        config.mkdir()
        for name, text in documents["ConfigMap"]["data"].items():
            (config / name).write_text(text)
        with (config / "authorized_keys").open("a") as keys:
            keys.write(key.with_suffix(".pub").read_text())
        mounts = {each["name"]: each["mountPath"] for each in self.container["volumeMounts"]}
        user = spec["securityContext"]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        command = [
            *(*podman.command, "run", "--rm", f"--name={NAME}", "--log-driver=none", "--pull=never"),
            *("--network=none", "--cgroups=disabled", "--volume=/usr:/usr:ro"),
            # podman would raise them beyond what it may here.
            *(f"--ulimit=nofile={hard}:{hard}", "--ulimit=nproc=1000:1000"),
            *("--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"),
            *(f"--user={user['runAsUser']}:{user['runAsGroup']}", f"--tmpfs={mounts['tmp']}:mode=1777"),
            *(f"--volume={config}:{mounts['etc']}:ro", NAME, *self.container["args"]),
        ]
        # crun refuses a machine that has both versions of control groups, even where none is used.
        hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", hide, "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout
        self._reader = threading.Thread(target=self.log.read, args=[self.process.stdout])
        self._reader.start()
        try:
            self.log.wait_for('"event": "service.started"')
        except AssertionError:
            self.end()
            raise
        self.pid = int(podman.run("inspect", "--format={{.State.Pid}}", NAME))
        self.network = Network(self.pid)

    def exec(self, *command: str, check: bool = True) -> str:
        """Run a command in the container, as a probe is."""
        return self._podman.run("exec", NAME, *command, check=check)

    def end(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        if self.process.poll() is None:
            self._podman.run("rm", "--force", "--time=0", NAME, check=False)
        self.process.wait(PATIENCE)
        self._reader.join()
        assert self.process.stdout
        self.process.stdout.close()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key for the manhole."""
    key = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key


@pytest.fixture(scope="module")
def pod(podman: Podman, pex: Path, key: Path) -> Iterator[Pod]:
    pod = Pod(podman, pex.parents[1] / "deploy" / "kubernetes.yaml", key)
    try:
        yield pod
    finally:
        pod.network.close()
        pod.end()


def test_it_starts_warm_and_answers(pod: Pod) -> None:
    """With a read-only root and as nobody, it runs what the build unpacked, and writes nothing to start."""
    assert pod.network.get("/?name=Ada") == (200, "Hello, Ada!\n")
    status = Path(f"/proc/{pod.pid}/status").read_text()
    assert "Uid:\t65532\t65532\t65532\t65532" in status
    assert "CapBnd:\t0000000000000000" in status
    # It is process 1: no shell stands between it and the signals.
    assert "\t1\n" in next(line for line in status.splitlines(keepends=True) if line.startswith("NSpid:"))
    command = Path(f"/proc/{pod.pid}/cmdline").read_text().split("\0")
    assert command[0].startswith("/srv/pex/venvs/")
    # A pex that cannot use its PEX_ROOT unpacks itself into /tmp.
    assert pod.exec("ls", "-A", "/tmp") == ""
    # No warnings, of pex or of anything else: the log is JSON from the first line on.
    assert {json.loads(line)["level"] for line in pod.log} == {"info"}


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_a_probe_succeeds(pod: Pod, probe: str) -> None:
    """The probes of the manifest are commands that the image has, and say that all is well."""
    pod.exec(*pod.container[probe]["exec"]["command"])


def test_the_manhole_opens_as_the_manifest_says(pod: Pod) -> None:
    """A signal sent from within opens it, and the keys of the ConfigMap let in."""
    pod.exec("sh", "-c", "kill -USR2 1")
    pod.log.wait_for('"event": "manhole.opened"')
    assert pod.network.ssh(pod.key, "manhole", "flags.log.format") == "'json'"
    assert pod.exec("ls", "-A", "/tmp") == "manhole_host_key\n"


def test_it_ends_in_time(podman: Podman, pod: Pod) -> None:
    """Last: a pod is stopped by its preStop command, then TERM; it drains, and the exit code is 0."""
    pod.exec(*pod.container["lifecycle"]["preStop"]["exec"]["command"])
    podman.run("kill", f"--signal={signal.SIGTERM.name}", NAME)
    assert pod.process.wait(PATIENCE) == 0
    pod.end()
    events = [json.loads(line)["event"] for line in pod.log]
    assert [event for event in events if event.startswith("service.")][1:] == [
        "service.draining",
        "service.stopped",
    ]
