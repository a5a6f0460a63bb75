"""The folder of a service that is built: its names, its locks, its commit."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError

if TYPE_CHECKING:
    from pathlib import Path

LOCKS = ("requirements.lock", "tools.lock")


@dataclass(frozen=True)
class Commit:
    """What git knows of a folder."""

    name: str | None
    """40 hexadecimal digits; None when the folder is in no repository."""
    changed: bool = False
    """Whether the folder differs from the commit, files that git neither has nor ignores included."""


@dataclass(frozen=True)
class Project:
    """A service's folder, with the Makefile in it."""

    root: Path
    slug: str
    package: str

    @property
    def wheels(self) -> Path:
        """Where `make setup` leaves the wheels of requirements.lock."""
        return self.root / ".build" / "wheels"

    @property
    def source_archives(self) -> Path:
        """Where it leaves what came as source; each was built into a wheel beside the others."""
        return self.root / ".build" / "source"

    def pex(self, suffix: str = "") -> Path:
        """Return the path of a file that is built: `dist/<slug><suffix>.pex`."""
        return self.root / "dist" / f"{self.slug}{suffix}.pex"

    def version(self) -> str:
        """Return what `__init__.py` calls `__version__`.

        :raises BuildError: when there is no such line.
        """
        path = self.root / "src" / self.package / "__init__.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
                return str(ast.literal_eval(node.value))
        raise BuildError(f"{path.relative_to(self.root)}: it has no line such as __version__ = '1.0'")

    def requirements(self) -> list[str]:
        """Return what pyproject.toml says that the service imports."""
        settings = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        return list(settings["project"]["dependencies"])

    def oldest_python(self) -> tuple[int, int]:
        """Return the oldest minor version that `requires-python` in pyproject.toml lets in.

        :raises BuildError: when it does not begin with `>=`.
        """
        settings = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        wanted = str(settings["project"]["requires-python"])
        found = re.match(r">=\s*(\d+)\.(\d+)", wanted)
        if not found:
            raise BuildError(f"pyproject.toml: requires-python: {wanted!r}: begin with the oldest, as >=3.11")
        return int(found[1]), int(found[2])

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each lock, by its name."""
        return {name: hashlib.sha256((self.root / name).read_bytes()).hexdigest() for name in LOCKS}

    def locked(self) -> dict[str, frozenset[str]]:
        """Return the SHA-256 of every archive that requirements.lock allows, by distribution."""
        return {
            name: frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", part))
            for name, part in self.lock_parts().items()
        }

    def lock_parts(self) -> dict[str, str]:
        """Return the lines of requirements.lock about each distribution."""
        text = (self.root / "requirements.lock").read_text(encoding="utf-8")
        parts = re.split(r"(?m)^(?=[A-Za-z0-9][\w.-]*==)", text)[1:]
        return {normal(part.partition("==")[0]): part for part in parts}

    def built(self) -> frozenset[str]:
        """Return the distributions that came as source."""
        folder = self.source_archives
        archives = folder.iterdir() if folder.is_dir() else ()
        return frozenset(normal(re.sub(r"-\d[^-]*$", "", each.name)) for each in archives)

    def commit(self) -> Commit:
        """Return the commit of the folder, asked of git.

        :raises BuildError: when there is a repository and git does not answer: a build that silently leaves
            its commit out would differ from all others.
        """
        if not any((each / ".git").exists() for each in (self.root, *self.root.parents)):
            return Commit(None)
        # Ignored by the repository that it happens to lie in, a folder has no commit of its own.
        if self.git("ls-files", "--", "Makefile") == "" or (name := self._head()) is None:
            return Commit(None)
        return Commit(name, changed=self.git("status", "--porcelain", "--", ".") != "")

    def git(self, *arguments: str) -> str:
        """Run git in the folder, and return what it printed.

        :raises BuildError: with git's last words when it fails.
        """
        command = ["git", "-C", str(self.root), *arguments]
        environ = {name: text for name, text in os.environ.items() if not name.startswith("GIT_DIR")}
        done = run(command, self.root, environ)
        if done.returncode != 0:
            raise BuildError(f"git {arguments[0]}: {last_words(done)}")
        return done.stdout.strip()

    def _head(self) -> str | None:
        try:
            return self.git("rev-parse", "--verify", "--quiet", "HEAD")
        except BuildError:
            return None  # a repository without a commit


def normal(name: str) -> str:
    """Return a distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
