"""Which modules are compiled into a pex: those that a service may import."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from halfsync.build.reached import reached


def reached_in(folder, **texts):
    """Write modules, named with `__` for a dot, and return those that may be imported."""
    sources = {}
    for name, text in texts.items():
        *above, last = name.split("__")
        path = folder.joinpath(*above, f"{last or '__init__'}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        sources[".".join([*above, last] if last else above)] = path
    return reached(sources)


@pytest.mark.parametrize(
    "statement",
    [
        "import twisted.words.irc",
        "import twisted.words.irc as chat",
        "from twisted.words import irc",
        "from twisted.words import (\n    other,\n    irc as chat,\n)",
        "from twisted.words.irc import *",
        "def later():\n    if later:\n        from twisted.words.irc import Client",
        "NAME = 'twisted.words.irc'",
        "run(name='twisted.words.irc')",
    ],
)
def test_what_the_service_names_is_reached(tmp_path, statement):
    """In every kind of statement, wherever it stands, and by a string; with the packages that it is in."""
    texts = {"twisted__": "", "twisted__words__": "", "twisted__words__irc": "", "twisted__words__xmpp": ""}
    found = reached_in(tmp_path, service=statement, **texts)
    assert found == {"service", "twisted", "twisted.words", "twisted.words.irc"}


def test_what_is_reached_reaches_more(tmp_path):
    """By absolute and by relative names, from modules and from packages, in circles, too."""
    found = reached_in(
        tmp_path,
        service="import twisted.a",
        twisted__="from . import first",
        twisted__first="import twisted.first, other",
        twisted__a__="from .b import c",
        twisted__a__b="from ..d import e\nfrom .. import a, f",
        twisted__d__="",
        twisted__d__e="import os",
        twisted__f="from twisted import a",
        twisted__g="",
        other="",
    )
    assert found == {"service", "other", *(f"twisted{each}" for each in ("", ".first", ".a", ".a.b"))} | {
        "twisted.d",
        "twisted.d.e",
        "twisted.f",
    }


def test_only_known_packages_are_looked_through(tmp_path):
    """All of any other is compiled, since it may put names together at run time; of Twisted, its plugins."""
    found = reached_in(
        tmp_path,
        service="",
        dialects__="",
        dialects__one="",
        twisted__="NAME = 'twisted.tap'",
        twisted__tap="",
        twisted__plugins__="",
        twisted__plugins__core="",
        two="print 2",
    )
    assert found == {"service", "dialects", "dialects.one", "two"} | {
        "twisted",
        "twisted.plugins",
        "twisted.plugins.core",
    }


def test_what_a_service_imports_of_twisted_is_reached(tmp_path):
    """Of the Twisted that is installed: what HTTP and TLS need, and no mail."""
    site = Path(sysconfig.get_path("purelib"))
    sources = {}
    for path in (site / "twisted").rglob("*.py"):
        name = path.relative_to(site).as_posix().removesuffix(".py").removesuffix("/__init__")
        if "/test/" not in name:
            sources[name.replace("/", ".")] = path
    service = tmp_path / "service.py"
    service.write_text("from twisted.internet import reactor\nfrom twisted.web import client, server")
    found = reached({**sources, "service": service})
    wanted = ("internet.epollreactor", "internet._sslverify", "web.http", "web._newclient", "logger._json")
    assert {f"twisted.{each}" for each in wanted} <= found
    assert "twisted.mail.smtp" not in found
    assert len(found) < 0.8 * len(sources)
