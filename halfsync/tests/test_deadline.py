"""The time by which an answer is wanted."""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from threading import Thread

import pytest

from halfsync import deadline


def test_there_is_none_before_one_is_set():
    """Neither a time nor seconds that are left."""
    assert (deadline.current(), deadline.remaining()) == (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.5", 102.5),
        ("0", 100.0),
        (".5", 100.5),
        ("5.", 105.0),
        ("123456789012", 123456789112.0),
        ("1234567890123", None),
        ("", None),
        (".", None),
        (None, None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("inf", None),
        ("nan", None),
        ("1.2.3", None),
        (" 1", None),
        ("1_0", None),
        ("١٦", None),
        ("1²", None),
    ],
)
def test_what_a_client_asks_for(text, expected):
    """It is a plain number of seconds from now on, or is let be."""
    assert deadline.asked(text, lambda: 100.0) == expected


def test_what_is_left():
    """It falls to 0, and no further."""

    def ask() -> None:
        deadline.set_deadline(10.0)
        assert deadline.current() == 10.0
        assert deadline.remaining(lambda: 7.5) == 2.5
        assert deadline.remaining(lambda: 11.0) == 0.0
        deadline.set_deadline(None)
        assert deadline.remaining() is None

    copy_context().run(ask)
    assert deadline.current() is None


@pytest.mark.parametrize(
    ("outer", "timeout", "inner"),
    [(None, 5, 105.0), (103.0, 5, 103.0), (109.0, 5, 105.0), (103.0, None, 103.0), (None, None, None)],
)
def test_a_block_has_the_earlier_one(outer, timeout, inner):
    """Its own or the one that is set already, which holds again behind the block, however that ends."""

    def ask() -> None:
        deadline.set_deadline(outer)
        with suppress(ValueError), deadline.within(timeout, lambda: 100.0):
            assert deadline.current() == inner
            raise ValueError
        assert deadline.current() == outer

    copy_context().run(ask)


def test_it_follows_a_context_into_a_thread():
    """A thread of its own has none; one that runs in the context has."""
    seen: list[float | None] = []

    def look() -> None:
        seen.append(deadline.current())

    def ask() -> None:
        deadline.set_deadline(10.0)
        context = copy_context()
        for call in (look, lambda: context.run(look)):
            thread = Thread(target=call)
            thread.start()
            thread.join()

    copy_context().run(ask)
    assert seen == [None, 10.0]
