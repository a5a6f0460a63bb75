"""Refuses bad answers: one line each, naming the key, the value and what would be right.

These are the rules.
`local_extensions.py` asks them before cookiecutter makes the project's folder;
cookiecutter runs this file as its hook once the folder is there, where there is nothing left to say.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LONGEST = 63
"""Of a slug, in characters: the limit of a Kubernetes name (RFC 1123 label)."""

CHOICES = {
    "python_version": ("3.11", "3.12", "3.13"),
    "web": ("wsgi", "async", "none"),
    "rpc": ("none", "thrift"),
}

ASKED = ("project_name", "project_slug", "package_name", "description", "author", *CHOICES)
"""The questions."""

OURS = frozenset({"chassis", "main", "test", "tests", "typings", "vendor"})
"""Names that mean something else in the project."""

FLAGS = frozenset({"admin", "log", "manhole", "rpc", "service", "tasks", "web"})
"""Groups of flags of the chassis; a package's own flags begin with its name."""

DEPENDENCIES = frozenset(
    # What the service imports, whichever way it was answered; a test compares this with what is installed.
    """
    appdirs asn1crypto attr attrs automat bcrypt blinker cffi click constantly cryptography flask h2
    halfsync hpack hyperframe hyperlink idna incremental itsdangerous jinja2 klein markupsafe multipart
    oscar packaging prometheus_client pycparser scramp service_identity six structlog thrift treq tubes
    twisted typing_extensions werkzeug zope
    """.split()  # noqa: SIM905 - thirty quoted names are harder to read
)

TOOLS = frozenset(
    # What tools.lock brings, which runs beside the service's own package; a test compares this with it.
    """
    ast_serialize distutils iniconfig librt mypy mypy_extensions mypy_zope mypyc pathspec pex pip
    pkg_resources pluggy py pygments pytest ruff setuptools typing_extensions uv wheel
    """.split()  # noqa: SIM905 - the same
)

SKIPPED = frozenset({"build", "dist", "node_modules", "venv"})
"""Folders that ruff and git leave out: nothing in a package of such a name would be looked at."""

SET_ELSEWHERE = frozenset(
    # systemd.exec(5), sd_listen_fds(3), supervisord, Kubernetes, glibc, the project's own Makefile have
    # variables that begin so, which would be taken for misspelt flags. A test looks at the deploy files.
    """
    cache configuration credentials home hostname invocation journal kubernetes listen logs mainpid malloc
    memory notify path pex pip python remote runtime service shell source state supervisor systemd user
    watchdog xdg
    """.split()  # noqa: SIM905 - the same
)
"""First words of environment variables that the places where a service runs set."""


def problems(answers: Mapping[str, object]) -> list[str]:
    """Return a line for every answer that will not do; none when all will."""
    texts = {key: str(answers[key]) for key in ASKED}
    return no_text(answers) or [f"{key}: {_shown(texts[key])} {reason}" for key, reason in _reasons(texts)]


def no_text(answers: Mapping[str, object]) -> list[str]:
    """Return a line for every answer among these that is of another type than text.

    A user's configuration is YAML, where null, true, 3.10 and 2026-11-28 are no text.
    """
    given = {key: answers[key] for key in ASKED if key in answers}
    return [
        f"{key}: {value!r} is no text: put it in quotes"
        for key, value in given.items()
        if not isinstance(value, str)
    ]


def _shown(value: object) -> str:
    # In ASCII, so that a look-alike letter and a control character can be seen.
    text = ascii(str(value))
    return text if len(text) <= 80 else text[:76] + "...'"


def _reasons(answers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key in ("project_name", "description", "author"):
        if any(unicodedata.category(character) == "Cs" for character in answers[key]):
            yield key, "is not text: give it in UTF-8"
    name = answers["project_name"]
    if not name.strip():
        yield "project_name", "is empty: give a name, such as 'Hello Service'"
    elif any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        yield "project_name", "has a line break or a control character: give one line of text"
    yield from (("project_slug", reason) for reason in _slug(answers["project_slug"]))
    yield from (("package_name", reason) for reason in _package(answers["package_name"]))
    for key, choices in CHOICES.items():
        if answers[key] not in choices:
            yield key, f"is not offered: give {' or '.join(choices)}"


def _slug(slug: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", slug):
        yield (
            "is no name for a folder and a unit: give a-z, 0-9 and single dashes between them, "
            "a letter first, such as 'hello-service'"
        )
    elif len(slug) > LONGEST:
        yield f"is too long: give at most {LONGEST} characters"


def _package(package: str) -> Iterator[str]:
    other = "give another name, such as 'hello_service'"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        yield (
            "is no name for a package: give a-z, 0-9 and underscores, a letter first, such as 'hello_service'"
        )
    elif len(package) > LONGEST:
        yield f"is too long: give at most {LONGEST} characters"
    elif keyword.iskeyword(package) or keyword.issoftkeyword(package):
        yield f"is a keyword of Python: {other}"
    else:
        yield from (f"{reason}: {other}" for names, reason in _TAKEN if package in names)


_TAKEN = (
    (sys.stdlib_module_names, "is a module of Python's standard library"),
    (DEPENDENCIES, "is a module that the service depends on"),
    (TOOLS - DEPENDENCIES, "is a tool of the project"),
    (SKIPPED, "is a folder that ruff and git skip"),
    (SET_ELSEWHERE - TOOLS - FLAGS, "is the prefix of environment variables that others set"),
    (OURS - sys.stdlib_module_names, "is taken in the project"),
    (FLAGS, "is a group of flags"),
)
"""Names that a package may not have, each among one of these, and why."""


if __name__ == "__main__":
    found = problems(json.loads("{{ cookiecutter | answers }}"))
    sys.stderr.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
