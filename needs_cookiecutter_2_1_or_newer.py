"""Loads `local_extensions.py` from beside itself, and is named for who cannot load it.

Cookiecutter 1.7 finds no module of a template; all that it prints is the name of the one it looked for.
By this name no other template's `local_extensions.py` is taken for ours either, in the current folder or in a
program that generates from several templates.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location(
    "local_extensions", Path(__file__).with_name("local_extensions.py")
)
assert _spec is not None  # noqa: S101 - for the type checker: a .py file always has a spec
assert _spec.loader is not None  # noqa: S101 - the same
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
AnswersAreData = _module.AnswersAreData
