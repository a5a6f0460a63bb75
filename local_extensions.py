"""What cookiecutter's Jinja environment is given: answers are data, and bad ones are refused early.

Cookiecutter renders more than the files of a template.
It also renders every value of `cookiecutter.json`, and that *after* answers from the command line, from a
program or from a user's configuration have replaced the defaults: a description `{{ 7 * 7 }}` would be run.
Here only what the template itself wrote is a template; anything else is emitted as it came.

The second gap is that the project's folder is made before `hooks/pre_gen_project.py` may refuse its name,
and that cookiecutter prints a traceback when a hook refuses.
So the hook's rules are asked here first, when the name of the folder is rendered.

The third is that cookiecutter holds a choice against its list before it loads anything of a template,
and that a choice which is not in the list is a traceback.
So `cookiecutter.json` has choices as plain text, the rules refuse a wrong one like any other answer,
and only a person who is asked at a terminal is shown the list.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cookiecutter.exceptions import FailedHookException
from jinja2.ext import Extension

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from jinja2 import Environment, Template

if sys.version_info < (3, 11):  # noqa: UP036  cookiecutter runs on whatever Python it was installed with
    raise FailedHookException(
        f"cookiecutter runs on Python {sys.version_info.major}.{sys.version_info.minor}: "
        "this template needs 3.11 or newer"
    )

ROOT = Path(__file__).resolve().parent
LIBRARY = ROOT / "halfsync"
"""The source of the library, from which the wheel of each service is built."""
LOADER = "needs_cookiecutter_2_1_or_newer"
"""The module by whose name cookiecutter loads this one."""
FOLDER = "{{cookiecutter.project_slug}}"
"""The name of the folder that holds the skeleton."""
NAMES = re.compile(r"\{\{cookiecutter\.(project_slug|package_name)\}\}")
"""What names of files and folders in the skeleton may contain."""
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
        # A program that lives long may generate from another version of this template next.
        sys.modules.pop(LOADER, None)
        environment.filters.update(answers=answers, markdown=markdown, python=python, toml=toml)
        environment.globals["halfsync"] = BACKEND.version(BACKEND.LABEL)
        environment.globals["library"] = quoted(str(LIBRARY))
        compiled = environment.from_string
        # Cookiecutter gives it every text that is not a file of the skeleton.
        environment.from_string = lambda source, *_, **__: Text(source, compiled)  # type: ignore[method-assign,assignment]
        asked = _locals("prompt_for_config").get("context", {}).get("cookiecutter", {})
        if found := RULES.no_text(asked):
            raise FailedHookException("\n".join(found))
        _offer(asked)


class Text:
    """What cookiecutter renders besides files: a default, an answer, a hook, or a name in the skeleton."""

    def __init__(self, source: str, compiled: Callable[[str], Template]) -> None:
        self._source = source
        self._compiled = compiled

    def render(self, *, cookiecutter: Mapping[str, Any], **_: object) -> str:
        """Return the text with what the template itself wrote in it filled in, and nothing else.

        :param cookiecutter: the answers, as far as they are known.
        :raises FailedHookException: a line for every bad answer; cookiecutter prints it and exits with 1.
        """
        awaited = next((key for key in QUESTIONS if key not in cookiecutter), None)
        if awaited is not None:
            # The default of another question, given as the answer to this one, is data.
            own = self._source == QUESTIONS[awaited]
            return self._compiled(self._source).render(cookiecutter=cookiecutter) if own else self._source
        if self._source in HOOKS:
            return self._compiled(self._source).render(cookiecutter=cookiecutter)
        if self._source == FOLDER and (found := RULES.problems(cookiecutter) or _without_hooks()):
            raise FailedHookException("\n".join(found))
        return NAMES.sub(lambda name: str(cookiecutter[name[1]]), self._source)


def _without_hooks() -> list[str]:
    """Return a line when cookiecutter was told to run no hooks: the project would be left half made."""
    hooks = _locals("generate_files").get("accept_hooks", True)
    return [] if hooks else ["this template needs its hooks: leave --accept-hooks=no out"]


def _offer(asked: dict[str, Any]) -> None:
    """Make lists of choices, for a person to see, of the plain text that cookiecutter is about to ask."""
    for key, choices in RULES.CHOICES.items():
        if asked.get(key) in choices:
            asked[key] = sorted(choices, key=lambda choice: choice != asked[key])


def _locals(function: str) -> dict[str, Any]:
    """Return the local variables of the function of cookiecutter's that is at work, empty when it is not.

    It gives them to no extension.
    Should it call that function otherwise one day, choices are asked for as plain text.
    """
    frame = inspect.currentframe()
    while frame and (frame.f_code.co_name, frame.f_globals["__name__"].partition(".")[0]) != (
        function,
        "cookiecutter",
    ):
        frame = frame.f_back
    return frame.f_locals if frame else {}


def answers(given: Mapping[str, Any]) -> str:
    """Return all answers as JSON, escaped to stand inside a double-quoted Python string."""
    return quoted({key: value for key, value in given.items() if not key.startswith("_")})


def quoted(value: object) -> str:
    """Return `value` as JSON, escaped to stand inside a double-quoted Python string."""
    return json.dumps(value).replace("\\", "\\\\").replace('"', '\\"')


def toml(text: str) -> str:
    """Return `text` as a TOML basic string (TOML 1.0 allows no raw control character in it, DEL included)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def python(text: str) -> str:
    """Return `text` as a Python expression, laid out as the formatter would behind `    summary=`."""
    whole = _quoted(text)
    if _columns(whole) + len("    summary=,") <= WIDTH:
        return whole
    pieces = [""]
    for character in text:
        # Behind a space where there is one late in the line, else anywhere.
        if _columns(_quoted(pieces[-1])) > WIDTH - (40 if pieces[-1].endswith(" ") else 25):
            pieces.append("")
        pieces[-1] += character
    return "\n        ".join(["(", *map(_quoted, pieces)]) + "\n    )"


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
