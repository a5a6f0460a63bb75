"""`serve_wsgi` and `serve_resource`: a service's own parts are there when requests are."""

from __future__ import annotations

import pytest

from children import child

SERVED = {
    "serve_wsgi": "serve_wsgi(lambda environ, start_response: [], About('child'), parts=parts)",
    "serve_resource": "serve_resource(Resource(), About('child'), parts=parts)",
}

PROGRAM = """
import sys
from twisted.web.resource import Resource
from halfsync import About, Part, StartError, get_logger, serve_resource, serve_wsgi
log = get_logger("shop")

class Database(Part):
    async def start(self):
        if "fails" in sys.argv:
            raise StartError("shop: there is no database")
        log.info("database.opened")

    async def ready(self):
        process.stop("seen enough")

    async def stop(self):
        log.info("database.closed", web=process.part("web").url())

def parts(made):
    global process
    process = made
    process.add(Database("database"))

sys.exit({served})
"""


@pytest.fixture(params=sorted(SERVED))
def program(request):
    """A service with a part of its own."""
    return PROGRAM.replace(
        "{served}", SERVED[request.param].replace("parts=parts", "parts=parts, argv=FLAGS")
    )


FLAGS = 'FLAGS = ["--admin.listen=", "--web.listen=tcp:0:interface=127.0.0.1", "--log.format=json"]\n'


def test_nothing_is_accepted_before_the_parts_of_the_service_have_started(program):
    """No request finds a database that is not open yet, nor one that is closed already."""
    with child(FLAGS + program) as service:
        code, events, err = service.end()
    assert (code, err) == (0, "")
    assert [each for each in events if each.startswith(("database.", "web."))] == [
        "database.opened",
        "web.listening",
        "database.closed",
    ]
    (closed,) = [each for each in service.events if each["event"] == "database.closed"]
    assert closed["web"] is None


def test_a_part_that_does_not_start_is_told_before_anything_is_accepted(program):
    """A client waits in the backlog of a socket that is inherited, and is not dropped."""
    with child(FLAGS + program, "fails") as service:
        code, events, err = service.end()
    assert (code, events) == (1, ["service.stopped"])
    assert err == "child: shop: there is no database\n"
