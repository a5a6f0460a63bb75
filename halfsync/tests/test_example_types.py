"""The examples that stand on typed libraries are clean in both type checkers, as a service of its own."""

from __future__ import annotations

import pytest

from checkers import mypy, pyright
from children import ROOT

EXAMPLES = ROOT / "halfsync" / "examples"

TYPED = ("flask_app.py", "fleet_task.py", "observed_app.py", "shop_app.py", "websocket_app.py")
"""Django, a2wsgi beside FastAPI, redis and zope's interfaces of klein tell checkers too little or wrong."""


@pytest.mark.parametrize("name", TYPED)
def test_an_example_is_clean(name, tmp_path):
    """`mypy --strict`, and pyright in its strict mode, without any setting or plugin of ours."""
    code = (EXAMPLES / name).read_text()
    assert mypy(code, tmp_path) == []
    assert pyright(code, tmp_path) == []
