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
    "rpc": ("none",),
}

OURS = frozenset({"chassis", "main", "test", "tests", "typings"})
"""Names that mean something else in the project."""

FLAGS = frozenset({"admin", "log", "manhole", "rpc", "service", "tasks", "web"})
"""Groups of flags of the chassis; a package's own flags begin with its name."""

DEPENDENCIES = frozenset(
    # What the service imports, whichever way it was answered; a test compares this with what is installed.
    """
    appdirs attr attrs automat bcrypt blinker cffi click constantly cryptography flask h2 hpack
    hyperframe hyperlink idna incremental itsdangerous jinja2 klein markupsafe multipart oscar packaging
    prometheus_client pycparser service_identity six structlog treq tubes twisted typing_extensions
    werkzeug zope
    """.split()  # noqa: SIM905 - thirty quoted names are harder to read
)

TOOLS = frozenset(
    {"mypy", "mypy_zope", "pex", "pip", "pkg_resources", "pluggy", "pytest", "ruff", "setuptools", "uv"}
)


def problems(answers: Mapping[str, object]) -> list[str]:
    """Return a line for every answer that will not do; none when all will."""
    return [
        f"{key}: {_shown(answers[key])} {reason}"
        for key, reason in _reasons({k: str(v) for k, v in answers.items()})
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
    elif package in sys.stdlib_module_names:
        yield f"is a module of Python's standard library: {other}"
    elif package in DEPENDENCIES:
        yield f"is a module that the service depends on: {other}"
    elif package in TOOLS:
        yield f"is a tool of the project: {other}"
    elif package in OURS:
        yield f"is taken in the project: {other}"
    elif package in FLAGS:
        yield f"is a group of flags: {other}"


if __name__ == "__main__":
    found = problems(json.loads("{{ cookiecutter | answers }}"))
    sys.stderr.write("".join(f"{line}\n" for line in found))
    sys.exit(1 if found else 0)
