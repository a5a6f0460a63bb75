from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import kubernetes_validate
import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Bake


@pytest.fixture(scope="module", params=["wsgi-none", "none-none", "wsgi-thrift", "none-thrift"])
def answers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What was answered to `web` and to `rpc`."""
    web, rpc = request.param.split("-")
    return web, rpc


@pytest.fixture(scope="module")
def deploy(answers: tuple[str, str], bake: Bake) -> Path:
    """The deploy folder of a project with a web listener, with RPC, with both, and with neither."""
    return bake(web=answers[0], rpc=answers[1]) / "deploy"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_units_are_right(deploy: Path, tmp_path: Path) -> None:
    """systemd has nothing to say against the units, and the service is hardened."""
    for unit in (deploy / "systemd").iterdir():
        # The pex is not there, and systemd minds; any program that is will do.
        text = unit.read_text().replace("/opt/hello-service/hello-service.pex", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.iterdir())
    run = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (run.stdout + run.stderr, run.returncode) == ("", 0)
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", units[0]]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-500:]
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(next(path for path in units if path.suffix == ".service"))
    assert (unit["Service"]["Type"], unit["Service"]["WatchdogSec"]) == ("notify", "30")
    assert unit["Service"]["ExecReload"] == "kill -HUP $MAINPID"


def test_supervisor_hands_over_a_socket(deploy: Path, answers: tuple[str, str]) -> None:
    """With a listener, supervisord holds its socket and every process gets it as descriptor 0."""
    configuration = configparser.RawConfigParser()
    configuration.read(deploy / "supervisord.conf")
    (section,) = configuration.sections()
    command = configuration[section]["command"]
    if answers == ("none", "none"):
        assert section == "program:hello-service"
    elif answers[0] == "wsgi":
        assert configuration[section]["socket"] == "tcp://0.0.0.0:8080"
        assert "--web.listen=fd:0" in command
        # Each process has a port of its own.
        assert ("--rpc.listen=tcp:91%(process_num)02d:interface=127.0.0.1" in command) == (
            answers[1] == "thrift"
        )
    else:
        assert configuration[section]["socket"] == "tcp://127.0.0.1:9091"
        assert "--rpc.listen=fd:0" in command
    assert configuration.getint(section, "stopwaitsecs") > 30


def test_systemd_hands_over_the_sockets(deploy: Path, answers: tuple[str, str]) -> None:
    """Each listener gets the descriptor of its line in the socket unit, counted from 3 (sd_listen_fds)."""
    command = (deploy / "systemd" / "hello-service.service").read_text()
    found = re.findall(r"--(\w+)\.listen=fd:(\d)", command)
    ports = {"web": "8080", "rpc": "127.0.0.1:9091"}
    wanted = [name for name, answer in zip(("web", "rpc"), answers, strict=True) if answer != "none"]
    assert found == [(name, str(number)) for number, name in enumerate(wanted, 3)]
    if wanted:
        unit = (deploy / "systemd" / "hello-service.socket").read_text()
        assert re.findall(r"ListenStream=(\S+)", unit) == [ports[name] for name in wanted]
        assert f"({', '.join(wanted)})" in unit


@pytest.mark.parametrize(
    ("mode", "above", "code"), [(0o700, 0o755, 0), (0o777, 0o755, 2), (0o770, 0o755, 2), (0o700, 0o777, 2)]
)
def test_a_cache_that_others_can_write_to_is_not_run_from(
    deploy: Path, tmp_path: Path, mode: int, above: int, code: int
) -> None:
    """The start line says so and ends: what is unpacked in PEX_ROOT is the code that runs."""
    folder = tmp_path / "cache" / "pex"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    folder.parent.chmod(above)
    assert started(deploy, folder) is not bool(code)


def started(deploy: Path, pex_root: Path) -> bool:
    """Run the start line of supervisord.conf with another program; say whether it came to that."""
    config = configparser.RawConfigParser()
    config.read(deploy / "supervisord.conf")
    (program,) = (each for each in config.sections() if "program:" in each)
    command = shlex.split(
        config[program]["command"].replace("/opt/hello-service/hello-service.pex", "/bin/echo")
    )
    environ = {"PATH": os.environ["PATH"], "PEX_ROOT": str(pex_root)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    refused = run.returncode == 2
    assert refused or run.returncode == 0, run
    assert ("others can write to it" in run.stderr) is refused
    assert bool(run.stdout) is not refused
    return not refused


def test_a_cache_that_others_can_put_another_in_the_place_of(deploy: Path, tmp_path: Path) -> None:
    """What counts is also the folder in which its name stands: of a link, and of one that is not made yet."""
    shared, ours = tmp_path / "shared", tmp_path / "ours"
    (ours / "pex").mkdir(parents=True)
    shared.mkdir()
    (shared / "link").symlink_to(ours / "pex")
    for name in ("link", "missing"):
        shared.chmod(0o755)
        assert started(deploy, shared / name)
        shared.chmod(0o777)
        assert not started(deploy, shared / name)


def test_manifest_waits_longer_than_the_drain(deploy: Path) -> None:
    """Kubernetes lets the drain end, and sets no variables that the service would take for flags."""
    documents = {each["kind"]: each for each in yaml.safe_load_all((deploy / "kubernetes.yaml").read_text())}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 35
    assert pod["enableServiceLinks"] is False
    assert ("Service" in documents) == ("ports" in pod["containers"][0])


def test_manifest_opens_the_ports_of_the_listeners(deploy: Path, answers: tuple[str, str]) -> None:
    """Web is served at 80, RPC at 9091 to clients with a certificate, whose Secret is mounted."""
    documents = {each["kind"]: each for each in yaml.safe_load_all((deploy / "kubernetes.yaml").read_text())}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    named = {
        each["name"]: each["port"]
        for each in documents.get("Service", {"spec": {"ports": ()}})["spec"]["ports"]
    }
    assert named == {
        **({"web": 80} if answers[0] != "none" else {}),
        **({"rpc": 9091} if answers[1] != "none" else {}),
    }
    (container,) = pod["containers"]
    assert {each["name"] for each in container.get("ports", ())} == set(named)
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    flags = [each for each in container["args"] if each.startswith("--rpc.listen=")]
    if "rpc" in named:
        assert flags == [
            "--rpc.listen=ssl:9091:privateKey=/etc/rpc/tls.key:certKey=/etc/rpc/tls.crt:clientCA=/etc/rpc/ca.crt"
        ]
        assert mounted["rpc"] == "/etc/rpc"
        assert {"name": "rpc", "secret": {"secretName": "hello-service-rpc"}} in pod["volumes"]
    else:
        assert not flags
        assert "rpc" not in mounted


@pytest.mark.parametrize("version", ["1.25", kubernetes_validate.latest_version()])
def test_manifest_fits_the_published_schemas(deploy: Path, version: str) -> None:
    """Kubernetes of a few years ago and of today take it, and no field of it is unknown to them."""
    for document in yaml.safe_load_all((deploy / "kubernetes.yaml").read_text()):
        kubernetes_validate.validate(document, version, strict=True)


def test_manifest_holds_what_a_service_needs(deploy: Path) -> None:
    """Probes, resources, a read-only root with a place for uploads, and a budget that keeps one up."""
    documents = {each["kind"]: each for each in yaml.safe_load_all((deploy / "kubernetes.yaml").read_text())}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert container["resources"]["requests"]["cpu"]
    assert container["resources"]["limits"]["memory"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True
    # twisted.web keeps bodies above 100 kB in temporary files.
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert (
        documents["PodDisruptionBudget"]["spec"]["minAvailable"] < documents["Deployment"]["spec"]["replicas"]
    )
