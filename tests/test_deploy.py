from __future__ import annotations

import configparser
import os
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


@pytest.fixture(scope="module", params=["wsgi", "none"])
def deploy(request: pytest.FixtureRequest, bake: Bake) -> Path:
    """The deploy folder of a project with a web listener, and of one without."""
    return bake(web=request.param) / "deploy"


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


def test_supervisor_hands_over_a_socket(deploy: Path) -> None:
    """With a web listener, supervisord holds the socket and every process gets it as descriptor 0."""
    configuration = configparser.RawConfigParser()
    configuration.read(deploy / "supervisord.conf")
    (section,) = configuration.sections()
    if section == "fcgi-program:hello-service":
        assert configuration[section]["socket"] == "tcp://0.0.0.0:8080"
        assert "--web.listen=fd:0" in configuration[section]["command"]
    else:
        assert section == "program:hello-service"
    assert configuration.getint(section, "stopwaitsecs") > 30


@pytest.mark.parametrize(
    ("mode", "above", "code"), [(0o700, 0o755, 0), (0o777, 0o755, 2), (0o770, 0o755, 2), (0o700, 0o777, 2)]
)
def test_a_cache_that_others_can_write_to_is_not_run_from(
    deploy: Path, tmp_path: Path, mode: int, above: int, code: int
) -> None:
    """The start line says so and ends: what is unpacked in PEX_ROOT is the code that runs."""
    config = configparser.RawConfigParser()
    config.read(deploy / "supervisord.conf")
    (program,) = (each for each in config.sections() if "program:" in each)
    command = shlex.split(
        config[program]["command"].replace("/opt/hello-service/hello-service.pex", "/bin/echo")
    )
    folder = tmp_path / "cache" / "pex"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    folder.parent.chmod(above)
    environ = {"PATH": os.environ["PATH"], "PEX_ROOT": str(folder)}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert run.returncode == code, run
    assert ("others can write to it" in run.stderr) is bool(code)
    assert bool(run.stdout) is not bool(code)


def test_manifest_waits_longer_than_the_drain(deploy: Path) -> None:
    """Kubernetes lets the drain end, and sets no variables that the service would take for flags."""
    documents = {each["kind"]: each for each in yaml.safe_load_all((deploy / "kubernetes.yaml").read_text())}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 35
    assert pod["enableServiceLinks"] is False
    assert ("Service" in documents) == ("ports" in pod["containers"][0])


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
