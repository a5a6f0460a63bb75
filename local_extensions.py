"""What cookiecutter's Jinja environment is given: answers are data, and bad ones are refused early.

Cookiecutter renders more than the files of a template.
It also renders every value of `cookiecutter.json`, and that *after* answers from the command line, from a
program or from a user's configuration have replaced the defaults: a description `{{ 7 * 7 }}` would be run.
Here only what the template itself wrote is a template; anything else is emitted as it came.

The second gap is that the project's folder is made before `hooks/pre_gen_project.py` may refuse its name,
and that cookiecutter prints a traceback when a hook refuses.
So the hook's rules are asked here first, when the name of the folder is rendered.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import textwrap
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cookiecutter import generate
from cookiecutter.exceptions import FailedHookException
from jinja2.ext import Extension

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from jinja2 import Environment

if sys.version_info < (3, 11):  # noqa: UP036  cookiecutter runs on whatever Python it was installed with
    raise FailedHookException(
        f"cookiecutter runs on Python {sys.version_info.major}.{sys.version_info.minor}: "
        "this template needs 3.11 or newer"
    )

ROOT = Path(__file__).resolve().parent
LIBRARY = ROOT / "halfsync"
"""The source of the library, from which the wheel of each service is built."""
FOLDER = "{{cookiecutter.project_slug}}"
"""The name of the folder that holds the skeleton."""
NAMES = re.compile(r"(\{\{cookiecutter\.(?:project_slug|package_name)\}\})")
"""What names of files and folders in the skeleton may contain."""
REFUSED = "Invalid default received: "
"""How cookiecutter begins to say that it left a configured choice out."""
WIDTH = 110
"""The line length of the generated project."""


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # noqa: S101 - for the type checker: a .py file always has a spec
    assert spec.loader is not None  # noqa: S101 - the same
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULES = _load(ROOT / "hooks" / "pre_gen_project.py")
BACKEND = _load(LIBRARY / "build_wheel.py")
HOOKS = frozenset(path.read_text(encoding="utf-8") for path in (ROOT / "hooks").glob("*.py"))
QUESTIONS: dict[str, Any] = {
    key: default
    for key, default in json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8")).items()
    if not key.startswith("_")
}


class AnswersAreData(Extension):
    """Tells the template's own Jinja from the text of answers, and brings the filters that quote them."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters.update(
            answers=answers, awaited=awaited, folder=folder, markdown=markdown, python=python, toml=toml
        )
        environment.globals["halfsync"] = BACKEND.version(BACKEND.LABEL)
        environment.globals["library"] = quoted(str(LIBRARY))

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        """Return the Jinja source that stands for `source`.

        A file of the skeleton has a name.
        What has none was given to `from_string`: a hook, a name in the skeleton, a default, or an answer.
        """
        if name is not None or source in HOOKS:
            return source
        if self.environment.loader is not None:
            # Cookiecutter sets a loader only to walk the skeleton: this is a path in it or in the output.
            return "".join(part if NAMES.fullmatch(part) else literal(part) for part in NAMES.split(source))
        if source == FOLDER:
            return "{{ cookiecutter | folder }}"
        for key, default in QUESTIONS.items():
            if source == default and "{{" in source:
                # The same text given as the answer to another question is data.
                return (
                    f"{{% if (cookiecutter | awaited) == '{key}' %}}{source}"
                    f"{{% else %}}{literal(source)}{{% endif %}}"
                )
        return literal(source)


def literal(text: str) -> str:
    """Return a Jinja expression whose value is `text`, which Jinja then neither runs nor normalises."""
    return '{{ "' + "".join(f"\\U{ord(character):08x}" for character in text) + '" }}' if text else ""


def awaited(given: Mapping[str, Any]) -> str | None:
    """Return the question that comes after the answers given so far."""
    return next((key for key in QUESTIONS if key not in given), None)


def folder(given: Mapping[str, Any]) -> str:
    """Return the name of the project's folder, once all answers are found good.

    :raises FailedHookException: with a line for every bad answer; cookiecutter prints it and exits with 1.
    """
    if "_output_dir" not in given:
        return FOLDER  # still asking: somebody gave the folder's own expression as an answer
    if problems := _ignored() + RULES.problems(given):
        raise FailedHookException("\n".join(problems))
    return str(given["project_slug"])


def _ignored() -> list[str]:
    """Return a line for each choice of a user's configuration that cookiecutter only warned of, and left out.

    The interpreter notes warnings in the module that gave them, so that each is shown once.
    """
    noted = getattr(generate, "__warningregistry__", {})
    found = [key for key in noted if isinstance(key, tuple) and str(key[0]).startswith(REFUSED)]
    for key in found:
        del noted[key]
    return [f"{str(key[0]).removeprefix(REFUSED).rstrip('.')} (in your configuration)" for key in found]


def answers(given: Mapping[str, Any]) -> str:
    """Return all answers as JSON, escaped to stand inside a double-quoted Python string."""
    return quoted({key: value for key, value in given.items() if not key.startswith("_")})


def quoted(value: object) -> str:
    """Return `value` as JSON, escaped to stand inside a double-quoted Python string."""
    return json.dumps(value).replace("\\", "\\\\").replace('"', '\\"')


def toml(text: str) -> str:
    """Return `text` as a TOML basic string (TOML 1.0 allows no raw control character in it, DEL included)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def python(text: str, column: int = 0, indent: int = 0) -> str:
    """Return `text` as a Python expression, laid out as the formatter would.

    :param column: where in its line the expression begins.
    :param indent: how far that line is indented.
    """
    whole = _quoted(text)
    if column + _columns(whole) + 1 <= WIDTH:
        return whole
    pieces = textwrap.TextWrapper(
        # A wide character takes two columns: with any in the text, each is given two.
        width=(WIDTH - 30) // (1 if _columns(text) == len(text) else 2),
        drop_whitespace=False,
        replace_whitespace=False,
        expand_tabs=False,
        break_on_hyphens=False,
    ).wrap(text)
    if len(pieces) == 1:
        pieces = [text[: len(text) // 2], text[len(text) // 2 :]]
    margin = "\n" + " " * (indent + 4)
    return "(" + margin + margin.join(map(_quoted, pieces)) + "\n" + " " * indent + ")"


def _columns(text: str) -> int:
    """Return how wide a text is shown, as the formatter counts it (Unicode Standard Annex 11)."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _quoted(text: str) -> str:
    # The formatter prefers double quotes, unless single ones save it a backslash.
    quote = "'" if text.count('"') > text.count("'") else '"'
    body = "".join(
        "\\" + character
        if character in ("\\", quote)
        else character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
    return quote + body + quote


def markdown(text: str) -> str:
    """Return `text` so that CommonMark shows it letter for letter; lines stay lines."""
    lines = []
    for line in text.splitlines():
        shown = "".join(character if character.isprintable() else " " for character in line).strip()
        shown = re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", shown)
        lines.append(re.sub(r"^([-+=]|\d+(?=[.)]))", lambda match: _escape_first(match[0]), shown))
    return "\n".join(lines)


def _escape_first(mark: str) -> str:
    # A number at the start of a line makes a list with the point behind it: there it is the point's turn.
    return mark + "\\" if mark.isdigit() else "\\" + mark
