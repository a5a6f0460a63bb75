from __future__ import annotations

from halfsync.testing import Client, flags_set

from hello_service.web import make_app


def test_front() -> None:
    """The front page greets the client."""
    client = Client(make_app())
    assert client.get("/").text == "Hello, world!\n"
    assert client.get("/?name=Ada").text == "Hello, Ada!\n"


def test_greeting_is_a_flag() -> None:
    """The word of welcome can be set."""
    with flags_set({"web.greeting": "Good evening"}):
        assert Client(make_app()).get("/").text == "Good evening, world!\n"


def test_time() -> None:
    """The time is given in seconds since the epoch."""
    answer = Client(make_app()).get("/time")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["time"] > 1e9
