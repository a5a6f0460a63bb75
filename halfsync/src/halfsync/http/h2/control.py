"""The frames of an HTTP/2 connection that carry neither heads nor bodies (RFC 9113 section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from halfsync.http.h2.frames import ACK, MAX_FRAME, ErrorCode, H2Error, Kind, Setting, frame
from halfsync.http.h2.streams import MAX_WINDOW, RESET_COST, SETTINGS_A_CREDIT, Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.bounds import Bounds
    from halfsync.http.h2.fields import Fields


class Actor(Protocol):
    """What happens to a connection, as its session tells it."""

    def request_came(self, number: int, fields: Fields, *, ended: bool) -> None:
        """Begin a stream with a head."""

    def data_came(self, number: int, data: bytes | memoryview, cost: int) -> None:
        """Take a piece of a body; `cost` is what it takes of the windows."""

    def trailers_came(self, number: int, fields: Fields) -> None:
        """Headers after a body."""

    def end_came(self, number: int) -> None:
        """Answer a request that is whole."""

    def reset_came(self, number: int, *, ours: bool) -> None:
        """End a stream with an error, the client's or one that the client has made."""

    def window_opened(self, number: int) -> None:
        """More may be sent: on a stream, or on all when the number is 0."""

    def goodbye_came(self) -> None:
        """Expect no more requests."""


class Control(Streams):
    """A server's end, as far as it has to do with no request's content."""

    def __init__(self, bounds: Bounds, seconds: Callable[[], float], actor: Actor) -> None:
        super().__init__(bounds, seconds)
        self._actor: Actor | None = actor
        self._passed_over: tuple[range, ...] = ()
        """Numbers of streams that the client has not opened, and cannot any more."""

    def dissolve(self) -> None:
        """Let go of the connection, which has this."""
        self._actor = None

    # Each reads one kind of frames.

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(1)
        if not number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY is of five bytes")

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(RESET_COST)
        if len(payload) != 4:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM is of four bytes")
        self._check_not_idle(number)
        if self._streams.pop(number, None) is not None and self._actor is not None:
            self._actor.reset_came(number, ours=False)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        self.spend(1 + len(payload) // (6 * SETTINGS_A_CREDIT))
        if number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if flags & ACK:
            return
        windows: list[int] = []
        for at in range(0, len(payload), 6):
            setting, value = int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6])
            act = _SETTINGS.get(setting)
            if setting == Setting.INITIAL_WINDOW_SIZE:
                windows.append(value)
            elif act is not None:
                act(self, value)
        # Each changes the window of every stream: the last holds, and the largest may be too large.
        if windows:
            self._set_initial_window(max(windows))
            if windows[-1] != self._initial_window:
                self._set_initial_window(windows[-1])
        self._send(frame(Kind.SETTINGS, ACK, 0))
        if self._actor is not None:
            self._actor.window_opened(0)

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        self.spend(1)
        if number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "PING is of eight bytes")
        if not flags & ACK:
            self._send(frame(Kind.PING, ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(1)
        if number:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        if self._actor is not None:
            self._actor.goodbye_came()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        del flags
        self.spend(1)
        if len(payload) != 4:
            raise H2Error(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE is of four bytes")
        more = int.from_bytes(payload) & MAX_WINDOW
        if not number:
            self._outgoing += more
            if not more:
                raise H2Error(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            if self._outgoing > MAX_WINDOW:
                raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
        else:
            stream = self._streams.get(number)
            if stream is None:
                self._check_not_idle(number)
                return
            stream.outgoing += more
            if not more or stream.outgoing > MAX_WINDOW:
                self._fail_stream(number, ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR)
                return
        if self._actor is not None:
            self._actor.window_opened(number)

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        del flags, number, payload
        raise H2Error(ErrorCode.PROTOCOL_ERROR, "a client promises nothing")

    # Settings.

    def _set_initial_window(self, value: int) -> None:
        if value > MAX_WINDOW:
            raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")
        change, self._initial_window = value - self._initial_window, value
        for stream in self._streams.values():
            stream.outgoing += change
            if stream.outgoing > MAX_WINDOW:
                raise H2Error(ErrorCode.FLOW_CONTROL_ERROR, "a window that is too large")

    def _set_frame_size(self, value: int) -> None:
        if not MAX_FRAME <= value < 2**24:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a size of frames that may not be")
        self.max_outbound_frame_size = min(value, 4 * MAX_FRAME)

    def _set_push(self, value: int) -> None:
        if value > 1:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")

    # What reading them needs.

    def _fail_stream(self, number: int, code: ErrorCode) -> None:
        self.reset_stream(number, code)
        if self._actor is not None:
            self._actor.reset_came(number, ours=True)

    def _check_not_idle(self, number: int) -> None:
        if not number % 2 or number > self.highest_inbound_stream_id:
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a frame of a stream that has not begun")

    def _check_reset(self, number: int) -> None:
        """Have the client pay for a head on a stream that is closed.

        :raises H2Error: unless it may have crossed our reset of that stream.
        """
        self.spend(RESET_COST)
        if number in self._resets:
            return
        if any(number in each for each in self._passed_over):
            raise H2Error(ErrorCode.PROTOCOL_ERROR, "a stream whose number is below an earlier one's")
        raise H2Error(ErrorCode.STREAM_CLOSED, "a head on a stream that is closed")


_SETTINGS: dict[int, Callable[[Control, int], None]] = {
    # Not HEADER_TABLE_SIZE: our encoder has no table. MAX_HEADER_LIST_SIZE is advice only.
    Setting.ENABLE_PUSH: Control._set_push,  # noqa: SLF001
    Setting.MAX_FRAME_SIZE: Control._set_frame_size,  # noqa: SLF001
}
