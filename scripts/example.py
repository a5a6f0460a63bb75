"""Generate `example/`: what a service of all defaults is made of; its diff shows what users will get.

Left out are its locks, which the skeleton has, and the wheel in `vendor/`, which is built from `halfsync/`;
and so is the commit in `.template.json`, which no commit can name that the example is a part of.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "example"


def generate(into: Path) -> Path:
    """Generate the example into a folder that is not there yet.

    :raises subprocess.CalledProcessError: when cookiecutter fails; it has said why.
    """
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-P", "-m", "cookiecutter", "--no-input", "--default-config"]
        subprocess.run(  # noqa: S603 - the arguments are ours
            [*command, "-o", temporary, str(ROOT)],
            check=True,
            cwd=temporary,
            stdout=subprocess.DEVNULL,
            env={"HOME": temporary, "PATH": "/usr/bin:/bin"},  # cookiecutter keeps answers in the home folder
        )
        (project,) = (path for path in Path(temporary).iterdir() if not path.name.startswith("."))
        shutil.rmtree(project / "vendor")
        for lock in project.glob("*.lock"):
            lock.unlink()
        note = project / ".template.json"
        noted = json.loads(note.read_text(encoding="utf-8"))
        noted.pop("commit", None)
        note.write_text(json.dumps(noted, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.copytree(project, into)
    return into


if __name__ == "__main__":
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    print(f"{generate(EXAMPLE).relative_to(ROOT)}/ is what the template generates now")
