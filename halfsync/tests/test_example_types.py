"""The examples are clean in both type checkers, as a service of its own."""

from __future__ import annotations

import pytest

from checkers import mypy, pyright
from children import ROOT

EXAMPLES = ROOT / "halfsync" / "examples"

TWISTED = "untyped_calls_exclude = twisted, service"
"""It is partly untyped, and mypy names a method that was inherited from it after the heir."""

DJANGO = "[mypy-django.*]\nignore_missing_imports = True"
"""It ships no types."""

UNTYPED = {
    "django_admin_app.py": DJANGO,
    "django_app.py": DJANGO,
    "klein_app.py": TWISTED,
    "lines_app.py": TWISTED,
    "proxy_app.py": TWISTED,
    "sessions_app.py": "",  # redis is typed, but for the parameters of `from_url`
    "worker_app.py": "",  # the same
}
"""Examples on libraries that are typed in part or not at all, and what mypy is told about these.

pyright checks them in its standard mode: the strict one tells of each name that a library leaves untyped.
"""


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_clean(name, tmp_path):
    """`mypy --strict` without plugins, and pyright, in its strict mode where the libraries are typed."""
    code = (EXAMPLES / name).read_text()
    assert mypy(code, tmp_path, UNTYPED.get(name, "")) == []
    assert pyright(code, tmp_path, "standard" if name in UNTYPED else "strict") == []


def test_a_wrong_type_is_seen_in_either_mode(tmp_path):
    """So that an empty answer means something."""
    code = 'from halfsync import About\n\nAbout(name=7)\nnumber: int = "seven"\n'
    assert len(mypy(code, tmp_path, TWISTED)) == 2
    assert len(pyright(code, tmp_path, "standard")) == 2
