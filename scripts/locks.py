"""Renew every lock: the skeleton's, one a variant of `web`, the template's own, and its benchmark's.

What `rpc=thrift` needs beside any of them is in `requirements+thrift.lock`, and comes to it when a service is
generated: a test holds the outcome against what uv makes of the whole.

No lock names a registry: `make` and pip take that from the machine's configuration.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parent.parent
SKELETON = ROOT / "{{cookiecutter.project_slug}}"
VARIANTS = ("wsgi", "async", "none")
OLDEST = "3.11"
"""The oldest Python that the template offers: a lock for it holds for the newer ones too."""


def compile_lock(where: Path, output: str, *arguments: str) -> None:
    """Resolve with the newest versions allowed, for every Python and platform at once, in `where`."""
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "compile", "--quiet", "--upgrade", "--universal", "--python-version", OLDEST]
    command += ["--generate-hashes", "--no-annotate", "--output-file", output, *arguments]
    subprocess.run(command, cwd=where, check=True)  # noqa: S603 - the arguments are ours


def pins(lock: Path) -> dict[str, str]:
    """Return what a lock pins: name -> its lines, hashes included."""
    blocks = re.split(r"(?m)^(?=[a-z0-9])", lock.read_text(encoding="utf-8"))[1:]
    return {block.partition("==")[0]: block for block in blocks}


def generate(into: str, **answers: str) -> Path:
    """Generate a project in a folder of its own."""
    made = cookiecutter(str(ROOT), no_input=True, default_config=True, output_dir=into, extra_context=answers)
    return Path(made)


def main() -> None:
    """Renew the locks in place."""
    with tempfile.TemporaryDirectory() as temporary:
        constraints: list[str] = []
        more: dict[str, str] = {}
        for variant in VARIANTS:
            sys.stdout.write(f"locking web={variant} ...\n")
            project = generate(f"{temporary}/{variant}", web=variant)
            custom = ("--custom-compile-command", "make lock")
            compile_lock(project, "requirements.lock", "pyproject.toml", *custom)
            constraints += ["--constraints", str(project / "requirements.lock")]
            shutil.copyfile(project / "requirements.lock", SKELETON / f"requirements@{variant}.lock")
            calling = generate(f"{temporary}/{variant}-thrift", web=variant, rpc="thrift")
            same = ("--constraints", str(project / "requirements.lock"))
            compile_lock(calling, "requirements.lock", "pyproject.toml", *same, *custom)
            known = pins(project / "requirements.lock")
            more |= {
                name: pin for name, pin in pins(calling / "requirements.lock").items() if name not in known
            }
        (SKELETON / "requirements+thrift.lock").write_text(
            "".join(more[name] for name in sorted(more)), encoding="utf-8"
        )
        sys.stdout.write("locking the tools ...\n")
        compile_lock(project, "tools.lock", "--group", "dev", *constraints, *custom)
        shutil.copyfile(project / "tools.lock", SKELETON / "tools.lock")
        constraints += ["--constraints", str(project / "tools.lock")]
        custom = ("--custom-compile-command", "make locks")
        compile_lock(ROOT, "requirements-dev.lock", "--group", "dev", *constraints, *custom)
        sys.stdout.write("locking what looks a lock up ...\n")
        wanted = Path(temporary) / "audit.in"
        wanted.write_text("pip-audit\n", encoding="utf-8")
        compile_lock(ROOT, "halfsync/src/halfsync/build/audit.lock", str(wanted), *custom)
        sys.stdout.write("locking the benchmark's peers ...\n")
        # What ours runs on is an input, not a constraint: the benchmark needs all of it.
        sources = ("bench/requirements.in", str(SKELETON.relative_to(ROOT) / "requirements@wsgi.lock"))
        compile_lock(ROOT, "bench/requirements.lock", *sources, *custom)


if __name__ == "__main__":
    main()
