"""The service for tests: both faces, the types of the IDL, errors."""

from __future__ import annotations

import pytest

from halfsync.deadline import DeadlineExceeded
from halfsync.thrift import FakeRpc, RemoteError, errors
from sample_rpc import Sample
from sample_rpc.ttypes import InvalidName


def result(coroutine):
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def test_both_faces():
    """Answers come in their order, the last again and again; the calls are there to be looked at."""
    fake = FakeRpc(Sample.Client)
    fake.answers("hello", "one")
    fake.answers("hello", "two")
    assert fake.blocking.hello("a") == "one"
    assert result(fake.hello(name="b")) == "two"
    assert result(fake.call(Sample.Client.hello, "c")) == "two"
    assert fake.calls == [("hello", {"name": each}) for each in "abc"]
    fake.blocking.note("x")
    assert fake.calls[-1] == ("note", {"text": "x"})


def test_errors():
    """Those that the IDL declares, and the client's own."""
    fake = FakeRpc(Sample.Client)
    for error in (InvalidName("a"), DeadlineExceeded(), RemoteError(errors.FORBIDDEN, "no")):
        fake.answers("hello", error=error)
        with pytest.raises(type(error)):
            fake.blocking.hello("x")
        fake._answers.clear()


def test_a_test_that_is_wrong_hears_it():
    """An answer or an argument of another type, a method that there is not, a call that was not expected."""
    fake = FakeRpc(Sample.Client)
    for method, value, error in (
        ("hello", b"bytes", None),
        ("hello", 3, None),
        ("echo", "text", None),
        ("nope", 1, None),
        ("hello", None, KeyError()),
    ):
        with pytest.raises(ValueError, match=r"hello|echo|nope"):
            fake.answers(method, value, error=error)
    fake.answers("hello", "x")
    with pytest.raises(ValueError, match="where text"):
        fake.blocking.hello(b"x")
    with pytest.raises(AssertionError, match="no answer to ping"):
        fake.blocking.ping()
    with pytest.raises(AttributeError):
        _ = fake.nope
