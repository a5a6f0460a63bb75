"""The state machine of an HTTP/2 connection (RFC 9113): hyper-h2's, with bounds of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event, StreamReset
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, InvalidBodyLengthError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.http.bounds import Bounds

MAX_STREAMS = 100
"""Requests at a time on a connection. Fewer than 100 is discouraged (RFC 9113 section 6.5.2)."""

STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 1024 * 1024
"""Bytes of bodies that a client may send ahead. They cost no memory: what has come is spooled at once."""

MAX_HEADER_BLOCK = 64 * 1024
"""Bytes of a head, compressed, over all its CONTINUATION frames."""

CREDIT = 2000
CREDIT_RATE = 200
"""What a connection may spend on frames that bring no request and no data, at once and more each second."""

RESET_COST = 5
"""A stream that comes to nothing: 400 at once, 40 a second (CVE-2023-44487 and CVE-2025-8671)."""

RESPONSE_CREDIT = 4
DATA_CREDIT = 2
"""What a whole response, or a piece of one, earns: a client may well confirm each of them."""


class Session(H2Connection):
    """A server's end.

    Otherwise than hyper-h2 itself,
    it goes on answering after a client's GOAWAY, which only announces that no more requests come;
    it takes a body of another length than declared for an error of its stream, not of all streams;
    and it lets no client spend our time on frames that bring nothing.
    """

    # Each of the 65,536 that hyper-h2 remembers costs memory as long as the connection lives.
    MAX_CLOSED_STREAMS = 1000

    def __init__(self, bounds: Bounds, seconds: Callable[[], float]) -> None:
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            # What is wrong with a head is an error of its stream; hyper-h2 would end the connection.
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        H2Connection.__init__(self, config)
        # The client counts 32 for each header (RFC 9113 section 6.5.2).
        list_size = bounds.max_head + 32 * (bounds.max_headers + 5)
        # These hold at once, whether the client confirms them or not.
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: list_size,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            },
        )
        # Up to here 431; what is larger is not even decoded, and so the end of the connection.
        self.decoder.max_header_list_size = 4 * list_size
        self._seconds = seconds
        self._credit: float = CREDIT
        self._credited = seconds()

    def open(self) -> None:
        """Send the settings, and open the window of the connection."""
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)

    def receive_data(self, data: Any) -> list[Event]:
        """Read frames.

        :raises ProtocolError: when the connection cannot go on; a GOAWAY that says so waits to be sent.
        """
        events = H2Connection.receive_data(self, data)
        # hyper-h2 has no public name for what waits to be whole, and judges its length only then:
        # it keeps a frame of up to 16 MiB, and heads of up to 1 MiB.
        incomplete = self.incoming_buffer._data  # noqa: SLF001
        if int.from_bytes(incomplete[:3]) > self.max_inbound_frame_size and len(incomplete) >= 3:
            self._terminate_connection(ErrorCodes.FRAME_SIZE_ERROR)
            raise FrameTooLargeError("a frame is longer than it may be")
        head = self.incoming_buffer._headers_buffer  # noqa: SLF001
        if sum(len(frame.data) for frame in head) > MAX_HEADER_BLOCK:
            self._terminate_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise DenialOfServiceError("a head does not end")
        return events

    def dissolve(self) -> None:
        """Let go of hyper-h2's table of its own methods, which leaves a session to the collector."""
        self._frame_dispatch_table.clear()

    def earn(self, credit: int) -> None:
        """Have the client do something in return for what it got."""
        self._credit = min(CREDIT, self._credit + credit)

    def spend(self, cost: int) -> None:
        """Have the client pay for what brings nothing.

        :raises DenialOfServiceError: when it has spent all.
        """
        self._credit -= cost
        if self._credit < 0:
            now = self._seconds()
            self._credit = min(CREDIT, self._credit + CREDIT_RATE * (now - self._credited))
            self._credited = now
            if self._credit < 0:
                raise DenialOfServiceError("too many frames that bring nothing")

    def say_goaway(self, last_stream_id: int) -> None:
        """Announce that later streams will not be answered; hyper-h2's own way bars those before it, too."""
        self._prepare_for_sending([GoAwayFrame(0, last_stream_id=last_stream_id)])

    def _receive_frame(self, frame: Any) -> list[Event]:
        kind = type(frame)
        if kind is RstStreamFrame:
            self.spend(RESET_COST)
        elif kind is DataFrame:
            if frame.stream_id not in self.streams or not (frame.data or "END_STREAM" in frame.flags):
                self.spend(1)
        elif kind is not HeadersFrame:
            self.spend(1)
        return H2Connection._receive_frame(self, frame)  # noqa: SLF001  our own

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = None
        return [], [event]

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Any], list[Event]]:
        try:
            return H2Connection._receive_data_frame(self, frame)  # noqa: SLF001  our own
        except InvalidBodyLengthError:
            self.acknowledge_received_data(frame.flow_controlled_length, frame.stream_id)
            self.reset_stream(frame.stream_id, ErrorCodes.PROTOCOL_ERROR)
            event = StreamReset(stream_id=frame.stream_id)
            event.error_code, event.remote_reset = ErrorCodes.PROTOCOL_ERROR, False
            return [], [event]
