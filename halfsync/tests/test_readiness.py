"""Readiness where no part is broken: there is nothing left to serve a request with."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.web.resource import Resource

from halfsync.http.bounds import Bounds
from halfsync.http.part import HttpListener
from halfsync.http.site import Site


def test_a_listener_without_memory_left_is_a_problem():
    """As long as every request would be answered 503, and no longer."""
    site = Site(Resource(), bounds=Bounds(), access_log=False, reactor=Clock())
    listener = HttpListener("web", flag="web.listen", endpoints=[], site=site, reactor=Clock())
    memory = site.context.memory
    assert memory.take(memory.limit - 1)
    assert listener.problems() == []
    assert memory.take(1)
    assert listener.problems() == [f"all {memory.limit} bytes for requests and responses are taken"]
    memory.give_back(1)
    assert listener.problems() == []
