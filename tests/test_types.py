"""pyright agrees with the generated code; test_bakes.py has mypy look at it, by `make lint`."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from checkers import pyright_project

if TYPE_CHECKING:
    from .conftest import Bake


@pytest.mark.parametrize(("web", "rpc"), list(product(("wsgi", "async", "none"), ("none", "thrift"))))
def test_pyright_finds_nothing(bake: Bake, web: str, rpc: str) -> None:
    """In its standard mode, and without the plugin for zope's interfaces that mypy has."""
    project = bake(web=web, rpc=rpc)
    assert pyright_project(project, ["src", "tests"], "standard", "src") == []


def test_what_is_wrong_in_a_service_is_seen(bake: Bake) -> None:
    """So that an empty answer means something."""
    project = bake()
    main = project / "src" / "hello_service" / "main.py"
    main.write_text(main.read_text().replace("version=__version__", "version=7"))
    assert len(pyright_project(project, ["src", "tests"], "standard", "src")) == 1
