"""Every trap of the generated Processor is closed, over both protocols; each test asks it in this thread."""

from __future__ import annotations

import struct
from time import monotonic

import pytest
from structlog.testing import capture_logs
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TMultiplexedProtocol import TMultiplexedProtocol
from thrift.Thrift import TApplicationException, TException
from thrift.transport.TTransport import TMemoryBuffer, TTransportException
from twisted.internet.defer import Deferred

from halfsync.thrift import Forbidden, Identity, ServerOverloaded, Service, codec, errors, header
from halfsync.thrift.errors import FrameError
from halfsync.thrift.processor import Done
from rpc_tools import Handler, InMemory, answer, error_of, hello, make_processor, message, read_result
from sample_rpc import Base, Sample
from sample_rpc.ttypes import Empty, InvalidName, Part


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def processor(handler):
    return make_processor(handler)


@pytest.fixture(params=[False, True], ids=["binary", "compact"])
def compact(request):
    return request.param


def test_answers(processor, compact):
    """A call is answered in its own protocol, with its own number."""
    got = answer(processor, hello(compact=compact))
    assert read_result(got, "hello", compact=compact) == "Hello, Anna!"
    if not compact:
        assert got[:4] == b"\x80\x01\x00\x02"
        assert struct.unpack("!I", got[13:17]) == (7,)


@pytest.mark.parametrize("number", [0, 1, 127, 128, 2**31 - 1, -1, -(2**31)])
def test_number_comes_back(processor, compact, number):
    """The client's number comes back as it was, negative ones too."""
    memory = TMemoryBuffer()
    from thrift.protocol.TCompactProtocol import TCompactProtocol

    make = TCompactProtocol if compact else TBinaryProtocol
    sender = Sample.Client(make(memory))
    sender._seqid = number
    sender.send_hello("x")
    got = make(TMemoryBuffer(answer(processor, memory.getvalue())))
    assert got.readMessageBegin() == ("hello", 2, number)


def test_text_and_binary(processor, compact):
    """Text that is not ASCII and bytes that are no text come back as they were, with nothing turned on."""
    assert (
        read_result(answer(processor, hello("Zoë 🎉 \ufffd", compact=compact)), "hello")
        == "Hello, Zoë 🎉 \ufffd!"
    )
    sent = message(lambda client: client.send_echo(b"\xff\x00\xfe\xc3"), compact=compact)
    assert read_result(answer(processor, sent), "echo") == b"\xff\x00\xfe\xc3"


def test_bad_text_is_refused(processor, compact):
    """What is no UTF-8 is no text: the C codec would replace it and run the call."""
    sent = hello("Anna", compact=compact).replace(b"Anna", b"An\xff\xfe")
    assert error_of(answer(processor, sent)).type == errors.PROTOCOL_ERROR


def test_declared_exception(processor, compact):
    """An exception of the IDL is a result."""
    with pytest.raises(InvalidName) as caught:
        read_result(answer(processor, hello("", compact=compact)), "hello")
    assert caught.value.reason == "a name is wanted"
    caught.value.add_note("exceptions are mutable")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        TTransportException(0, "secret"),
        TApplicationException(3, "secret"),
        TException("secret"),
        SystemExit(3),
        EOFError("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_undeclared_exception(handler, processor, error):
    """Whatever else a handler raises is an internal error without its text, which the log has."""
    handler.result = error
    with capture_logs() as events:
        got = error_of(answer(processor, hello("boom")))
    assert (got.type, got.message) == (errors.INTERNAL_ERROR, "internal error")
    assert [each["event"] for each in events] == ["rpc.handler_failed"]


@pytest.mark.parametrize("error", [ServerOverloaded("come back"), Forbidden()])
def test_deliberate_refusal(handler, processor, error):
    """A handler may raise what the client can tell apart."""
    handler.result = error
    got = error_of(answer(processor, hello("boom")))
    assert (got.type, got.message) == (error.number, str(error))


@pytest.mark.parametrize("result", ["text", 5, [b"x"], object()], ids=["str", "int", "list", "object"])
def test_wrong_result(handler, processor, compact, result):
    """A result of a wrong type is an internal error, and nothing of it is sent."""
    handler.result = result
    with capture_logs() as events:
        sent = message(lambda client: client.send_echo(b"x"), compact=compact)
        got = error_of(answer(processor, sent))
    assert got.type == errors.INTERNAL_ERROR
    assert [each["event"] for each in events] == ["rpc.wrong_result"]


def test_wrong_inside(handler, processor):
    """So is one that lacks what is required, deep inside."""
    handler.result = Part(name="x", parts=[Part(name="y"), Part()])
    sent = message(lambda client: client.send_part(Part(name="x")))
    assert error_of(answer(processor, sent)).type == errors.INTERNAL_ERROR


def test_missing_result():
    """Nothing, where there must be something, is said to be missing."""

    class Silent(Handler):
        def ping(self):
            return None

    got = answer(make_processor(Silent()), message(lambda client: client.send_ping()))
    assert error_of(got).type == errors.MISSING_RESULT


def test_void(processor):
    """A method without a result is answered."""
    got = answer(processor, message(lambda client: client.send_nothing()))
    assert read_result(got, "nothing") is None


def with_kind(payload: bytes, kind: int) -> bytes:
    if payload[0] == 0x82:
        return bytes((0x82, kind << 5 | 1)) + payload[2:]
    return b"\x80\x01\x00" + bytes((kind,)) + payload[4:]


@pytest.mark.parametrize("kind", [2, 3])
def test_no_call(processor, compact, kind):
    """An answer is no call: it is not run, and its sender is not talked to."""
    with pytest.raises(FrameError):
        answer(processor, with_kind(hello(compact=compact), kind))


def test_oneway_of_two_way(handler, processor, compact):
    """A oneway call of a method with a result is neither run nor answered: its client reads nothing."""
    handler.echo = lambda data: pytest.fail("it ran")
    sent = with_kind(hello("x", compact=compact), 4)
    assert answer(processor, sent) == b""


def test_call_of_oneway(handler, processor, compact):
    """A call of a oneway method gets an answer, which says what is wrong, and is not run."""
    sent = with_kind(message(lambda client: client.send_note("x"), compact=compact), 1)
    assert error_of(answer(processor, sent)).type == errors.INVALID_MESSAGE_TYPE
    assert handler.notes == []


def test_oneway(handler, processor, compact):
    """A oneway call runs and has no answer, whatever becomes of it."""
    assert answer(processor, message(lambda client: client.send_note("x"), compact=compact)) == b""
    assert handler.notes == ["x"]
    handler.notes = None
    with capture_logs():
        assert answer(processor, message(lambda client: client.send_note("x"), compact=compact)) == b""


def test_unknown_method(processor, compact):
    """A method that there is not is answered so; its arguments are not read."""
    sent = hello(compact=compact).replace(b"hello", b"other")[:-3]
    assert error_of(answer(processor, sent)).type == errors.UNKNOWN_METHOD


def test_trailing_bytes(processor, compact):
    """Bytes after the last field are refused."""
    assert error_of(answer(processor, hello(compact=compact) + b"\0")).type == errors.PROTOCOL_ERROR


def test_cut_off(processor, compact):
    """So is every message that ends too early; none of them runs or raises."""
    whole = message(lambda client: client.send_part(Part("x", b"y", [Part("z")])), compact=compact)
    for size in range(len(whole)):
        try:
            got = answer(processor, whole[:size])
        except (FrameError, IndexError):
            assert size < 20
        else:
            assert error_of(got).type in (errors.PROTOCOL_ERROR, errors.UNKNOWN_METHOD)


def test_old_style(processor):
    """A message without a version (strict mode is what is spoken) is none."""
    memory = TMemoryBuffer()
    Sample.Client(TBinaryProtocol(memory, strictWrite=False)).send_hello("x")
    with pytest.raises(FrameError, match="no protocol"):
        answer(processor, memory.getvalue())


@pytest.mark.parametrize("part", [Part(), Part(name="x", parts=[Part(name="y", parts=[Part()])])])
def test_required(processor, compact, part):
    """Required fields are required, at every depth."""
    sent = message(lambda client: client.send_part(part), compact=compact)
    got = error_of(answer(processor, sent))
    assert got.type == errors.PROTOCOL_ERROR
    assert "Required field name" in got.message


def test_required_argument(processor):
    sent = message(lambda client: client.send_part(None))
    assert error_of(answer(processor, sent)).type == errors.PROTOCOL_ERROR


def test_wrong_field_type(processor):
    """An argument of another type than the IDL's never reaches the handler as such: it is skipped."""
    sent = b"\x80\x01\x00\x01" + struct.pack("!I", 4) + b"echo" + bytes(4)
    sent += struct.pack("!bhq", 10, 1, 5) + b"\0"
    assert error_of(answer(processor, sent)).type == errors.MISSING_RESULT


@pytest.mark.parametrize("size", [2**31 - 1, -1, 2**20])
def test_forged_container(processor, size):
    """No container may claim more items than the message has bytes."""
    sent = message(lambda client: client.send_count([Empty()]))
    forged = sent.replace(struct.pack("!bi", 12, 1), struct.pack("!bi", 12, size))
    assert forged != sent
    assert error_of(answer(processor, forged)).type == errors.PROTOCOL_ERROR


@pytest.mark.parametrize("size", [2**31 - 1, -1])
def test_forged_text(processor, size):
    sent = hello("Anna").replace(struct.pack("!i", 4) + b"Anna", struct.pack("!i", size) + b"Anna")
    assert error_of(answer(processor, sent)).type == errors.PROTOCOL_ERROR


def test_depth(processor, compact):
    """A struct may not nest without end; the interpreter's stack is not at stake."""

    def nested(depth: int) -> Part:
        part = Part(name="x")
        for _ in range(depth):
            part = Part(name="x", parts=[part])
        return part

    sent = message(lambda client: client.send_part(nested(5)), compact=compact)
    assert read_result(answer(processor, sent), "part") == nested(5)
    raw = b"\x80\x01\x00\x01" + struct.pack("!I", 4) + b"part" + bytes(4)
    deep = b"\x0c\x00\x63" * 100_000
    assert error_of(answer(processor, raw + deep)).type == errors.PROTOCOL_ERROR


def test_dense(processor):
    """A megabyte of empty structs is decoded rightly (by the codec that lets the reactor run)."""
    items = b"\x0f\x00\x01\x0c" + struct.pack("!I", 70_000) + bytes(70_000) + b"\0"
    sent = b"\x80\x01\x00\x01" + struct.pack("!I", 5) + b"count" + bytes(4) + items
    assert read_result(answer(processor, sent), "count") == 70_000


def test_long_name(processor):
    """The name of a method is bounded."""
    with pytest.raises(FrameError, match="name"):
        answer(
            processor, hello().replace(struct.pack("!I", 5) + b"hello", struct.pack("!I", 300) + b"h" * 300)
        )


def test_multiplexed(processor, compact):
    """A multiplexing client is answered without its prefix; an unknown service is an unknown method."""
    from thrift.protocol.TCompactProtocol import TCompactProtocol

    make = TCompactProtocol if compact else TBinaryProtocol
    for name, right in (("Sample", True), ("Other", False)):
        memory = TMemoryBuffer()
        Sample.Client(TMultiplexedProtocol(make(memory), name)).send_hello("x")
        got = answer(processor, memory.getvalue())
        assert make(TMemoryBuffer(got)).readMessageBegin()[0] == "hello"
        if right:
            assert read_result(got, "hello") == "Hello, x!"
        else:
            assert error_of(got).type == errors.UNKNOWN_METHOD


def test_waited_too_long(processor):
    """A call that has waited too long for its thread is not run; the client may try again."""
    got = error_of(answer(processor, hello(), arrived=monotonic() - 11))
    assert got.type == errors.OVERLOADED


def test_authorize(handler):
    """The rule sees who calls what, and what it does not allow is not run."""
    seen = []

    def rule(call):
        seen.append((call.identity, call.service, call.method, call.peer))
        return call.method != "hello"

    processor = make_processor(handler, rule)
    anna = Identity("anna", "SCRAM-SHA-256")
    assert error_of(answer(processor, hello(), identity=anna)).type == errors.FORBIDDEN
    assert seen == [(anna, "Sample", "hello", "test")]
    sent = message(lambda client: client.send_whoami())
    assert read_result(answer(processor, sent, identity=anna), "whoami") == "anna"


def test_work_that_nobody_awaits_is_told():
    """A method that is `async` behind a plain decorator, or gives a Deferred, is an error: void ones, too."""

    async def work(*_):
        raise AssertionError("it was begun")

    class Hidden(Handler):
        def hello(self, name):
            return work(name)

        def nothing(self):
            return Deferred()

        def note(self, text):
            return work(text)

    nothing = message(lambda client: client.send_nothing())
    note = message(lambda client: client.send_note("x"))
    with capture_logs() as events:
        answers = InMemory(Hidden()).ask(hello(), nothing, note)
    assert [error_of(each).type for each in answers] == [errors.INTERNAL_ERROR] * 2
    wrong = [each for each in events if each["event"] == "rpc.wrong_result"]
    assert [each["method"] for each in wrong] == ["Sample.hello", "Sample.nothing", "Sample.note"]
    assert "returned a coroutine, which nobody awaits; write the method as `async def`" in wrong[0]["reason"]
    assert "returned a Deferred" in wrong[1]["reason"]


def test_a_rule_that_raises(handler):
    """The call is not run and its client hears so, in a thread as in the reactor; the log says which."""

    def rule(call):
        return call.identity.name == "anna"

    memory = InMemory(handler, authorize=rule)
    note = message(lambda client: client.send_note("x"))
    later = message(lambda client: client.send_later("x"))
    with capture_logs() as events:
        answers = [*memory.ask(note, hello()), *memory.ask(later)]
    assert [error_of(each).type for each in answers] == [errors.INTERNAL_ERROR] * 2
    assert handler.notes == []
    failed = [each for each in events if each["event"] == "rpc.rule_failed"]
    assert [each["method"] for each in failed] == ["Sample.note", "Sample.hello", "Sample.later"]


def test_a_rule_may_say_why(handler):
    """An error of ours that it raises reaches the client as it is, and is no fault in the log."""

    def rule(call):
        raise Forbidden("only on Mondays")

    with capture_logs() as events:
        (got,) = InMemory(handler, authorize=rule).ask(hello())
    assert (error_of(got).type, error_of(got).message) == (errors.FORBIDDEN, "only on Mondays")
    assert [each["event"] for each in events] == ["rpc.call"]


def test_a_rule_that_would_allow_everything(handler):
    """An `async` rule is refused when the listener is made: its coroutine is true, whatever it would say."""

    async def rule(call):
        return False

    with pytest.raises(TypeError, match="authorize: must be a plain function"):
        make_processor(handler, rule)


def test_refusal_in_the_reactor(processor, compact):
    """What the reactor refuses is answered in the client's protocol, and a oneway call is not answered."""
    done = processor.refuse(hello(compact=compact), ServerOverloaded(), monotonic())
    assert isinstance(done, Done)
    assert error_of(done.answer[4:]).type == errors.OVERLOADED
    note = message(lambda client: client.send_note("x"), compact=compact)
    assert processor.refuse(note, ServerOverloaded(), monotonic()).answer == b""


def test_handler_is_checked():
    """A handler that lacks a method, or takes other arguments, is found when the service is made."""

    class Lacking(Sample.Iface):
        pass

    class Odd(Handler):
        def hello(self):
            return ""

    with pytest.raises(TypeError, match="has no method"):
        Service(Sample, Lacking())
    with pytest.raises(TypeError, match=r"hello does not take \(name\)"):
        Service(Sample, Odd())
    assert set(Service(Base, Handler()).methods) == {"ping"}
    assert "ping" in Service(Sample, Handler()).methods


class Frozen(InvalidName):
    """What the compiler makes of an exception whose IDL does not say that it is mutable."""

    def __init__(self, reason: str) -> None:
        InvalidName.__setattr__(self, "reason", reason)

    def __setattr__(self, *_: object) -> None:
        raise TypeError("can't modify immutable instance")


def test_an_immutable_exception_with_a_deadline():
    """A declared exception that cannot be changed is the answer, also to a call with a deadline."""
    handler = Handler()

    def refuse(name):
        raise Frozen("no")

    handler.hello = refuse
    sent = header.wrap(hello(), sequence=b"abcd", protocol=0, headers={"client_timeout": "5000"})[4:]
    _, payload = header.unwrap(answer(make_processor(handler), sent), 1000)
    with pytest.raises(InvalidName) as caught:
        read_result(payload, "hello")
    assert caught.value.reason == "no"


def test_without_the_extension(compact, monkeypatch):
    """Where the runtime shows no C codec, its protocols are used, and make the same bytes."""
    handler = Handler()
    wanted = answer(make_processor(handler), hello(compact=compact))
    for table in (codec._ENCODE, codec._DECODE):
        monkeypatch.setitem(table, 2 if compact else 0, None)
    assert answer(make_processor(handler), hello(compact=compact)) == wanted
