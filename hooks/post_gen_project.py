"""Takes out what the answers leave out, and says what to do next. Runs in the new project's folder."""

from __future__ import annotations

import json
import shutil
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
    """Remove what only a service with a web listener has."""
    (project / "src" / answers["package_name"] / "web.py").unlink()
    (project / "tests" / "test_web.py").unlink()
    # Socket activation hands over the web listener's socket.
    (project / "deploy" / "systemd" / f"{answers['project_slug']}.socket").unlink()


def tidy(project: Path) -> None:
    """Remove what tools leave beside sources when the template itself is worked on in place."""
    for name in ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"):
        for path in list(project.rglob(name)):
            shutil.rmtree(path)


def main(answers: dict[str, str], project: Path) -> None:
    """Finish the project that was generated from `answers`."""
    choose(project, answers["web"])
    if answers["web"] == "none":
        drop(project, answers)
    tidy(project)
    sys.stdout.write(
        f"{answers['project_slug']} is ready in {project}\n"
        f"  make run    starts it from source\n"
        f"  make pex    builds dist/{answers['project_slug']}.pex; README.md has the rest\n"
    )


if __name__ == "__main__":
    main(json.loads("{{ cookiecutter | answers }}"), Path.cwd())
