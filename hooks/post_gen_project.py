"""Takes out what the answers leave out, and brings in the library. Runs in the new project's folder."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path


def choose(project: Path, variant: str) -> None:
    """Keep, of the files named `<stem>@<variant><suffix>`, the one that was chosen, as `<stem><suffix>`."""
    for path in sorted(project.rglob("*@*")):
        stem, _, rest = path.name.partition("@")
        of, _, suffix = rest.partition(".")
        if of == variant:
            path.rename(path.with_name(f"{stem}.{suffix}"))
        else:
            path.unlink()


def drop(project: Path, answers: dict[str, str]) -> None:
    """Remove what only a service with a web listener, or with RPC, has, beside the variants of `web.py`."""
    package = project / "src" / answers["package_name"]
    if answers["web"] == "none":
        (project / "tests" / "test_web.py").unlink()
    if answers["rpc"] == "none":
        (project / "tests" / "test_rpc.py").unlink()
        for path in (package / "rpc.py", package / "hello.thrift"):
            path.unlink()
        shutil.rmtree(package / "gen")
    if answers["web"] == answers["rpc"] == "none":
        # Socket activation hands over the sockets of these listeners.
        (project / "deploy" / "systemd" / f"{answers['project_slug']}.socket").unlink()


def add_pins(lock: Path, more: Path, *, wanted: bool) -> None:
    """Take the pins of a second lock into a first one, in the order of their names, and remove the second."""
    if wanted:
        texts = [path.read_bytes().decode("utf-8") for path in (lock, more)]
        head, *pins = re.split(r"(?m)^(?=[a-z0-9])", "".join(texts))
        lock.write_bytes(
            "".join([head, *sorted(pins, key=lambda pin: pin.partition("==")[0])]).encode("utf-8")
        )
    more.unlink()


def vendor(library: Path, folder: Path, locks: list[Path]) -> Path:
    """Build the library's wheel into a folder, as the only one, and put its version and hash into locks."""
    sys.path.insert(0, str(library))
    backend = importlib.import_module("build_wheel")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    wheel = folder / str(backend.build_wheel(str(folder), {"label": backend.LABEL}))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pin = f"halfsync=={backend.version(backend.LABEL)} \\\n    --hash=sha256:{digest}\n"
    for lock in locks:
        # No newline is translated: the lock is the same bytes wherever it is written.
        text = lock.read_bytes().decode("utf-8")
        pinned = re.sub(r"(?m)^halfsync==\S+ \\\n    --hash=sha256:[0-9a-f]{64}\n", lambda _: pin, text)
        lock.write_bytes(pinned.encode("utf-8"))
    return wheel


def remember(project: Path, template: Path, answers: dict[str, str], wheel: Path) -> None:
    """Write down what the project was made from, for `make update` and for people."""
    made: dict[str, object] = {
        "template": "cookiecutter-twisted-service",
        "version": wheel.name.split("-")[1].partition("+")[0],
    }
    if (template / ".git").exists() and (git := shutil.which("git")):
        command = [git, "-C", str(template), "rev-parse", "HEAD"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
        if asked.returncode == 0:
            made["commit"] = asked.stdout.strip()
    made["answers"] = answers
    text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    (project / ".template.json").write_text(text, encoding="utf-8")


def tidy(project: Path) -> None:
    """Remove what tools leave beside sources when the template itself is worked on in place."""
    for name in ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"):
        for path in list(project.rglob(name)):
            shutil.rmtree(path)


def main(answers: dict[str, str], library: Path, project: Path) -> None:
    """Finish the project that was generated from `answers`."""
    sys.dont_write_bytecode = True  # the template may be somebody's checkout
    choose(project, answers["web"])
    drop(project, answers)
    add_pins(
        project / "requirements.lock",
        project / "requirements+thrift.lock",
        wanted=answers["rpc"] == "thrift",
    )
    wheel = vendor(library, project / "vendor", [project / "requirements.lock"])
    remember(project, library.parent, answers, wheel)
    tidy(project)
    sys.stdout.write(
        f"{answers['project_slug']} is ready in {project}\n"
        f"  make run    starts it from source\n"
        f"  make pex    builds dist/{answers['project_slug']}.pex; README.md has the rest\n"
        f"It is in no repository yet: git init && git add . && git commit -m 'From the template'\n"
    )


if __name__ == "__main__":
    main(json.loads("{{ cookiecutter | answers }}"), Path(json.loads("{{ library }}")), Path.cwd())
