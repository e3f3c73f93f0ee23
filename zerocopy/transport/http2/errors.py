"""h2's connection with the errors of RFC 9113: which end a stream, and which end the connection.

Owns what h2 gets wrong about a client's errors. For h2 a malformed request ends the connection, and
with it all other downloads; RFC 9113 section 8.1.1 makes it a stream error. `wasted` counts the
frames that served no request, so that the transport can tell a flood: resets that a client forces,
and frames on closed streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamReset, TrailersReceived
from h2.exceptions import (
    DenialOfServiceError,
    InvalidBodyLengthError,
    NoSuchStreamError,
    ProtocolError,
    StreamClosedError,
    StreamIDTooLowError,
)
from h2.settings import SettingCodes
from h2.stream import StreamClosedBy, StreamState
from hpack.exceptions import HPACKError
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from zerocopy.transport.http2.head import STREAM_ID_MAX, goaway_frame

if TYPE_CHECKING:
    from h2.config import H2Configuration
    from h2.events import Event
    from h2.stream import H2Stream
    from hyperframe.frame import Frame

    Outcome = tuple[list[Frame], list[Event]]

LATE_BYTES_MAX = 65_535
"""Content that may be on its way when its stream is reset: the window of the connection."""

LATE_FRAME_BYTES = 64
"""What a late DATA frame counts for at least."""

UPDATES_DUE_MAX = 16_384
"""WINDOW_UPDATEs that may come after what they give back was sent: one for each KB of 16 MiB."""

UPDATES_PER_REQUEST = UPDATES_PER_BYTE = 2
"""WINDOW_UPDATEs that a request may bring, and that may give a byte back: of its stream and of the
connection."""

CLOSED_STREAMS_MAX = 256
"""Closed streams that are remembered, to excuse frames that were on their way when they closed."""

TABLE_BYTES_MAX = 4_096
"""Of the table with which responses are encoded: it is searched from end to end for each field."""

_KNOWN_SETTINGS = frozenset(SettingCodes)
_MAY_SEND = frozenset({StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL})
_NEVER_EMPTY = frozenset({b":method", b":scheme", b":path"})


class ClosedStreams(dict[int, StreamClosedBy | None]):
    """How streams were closed, of the last `CLOSED_STREAMS_MAX` at least.

    The oldest of twice as many are forgotten together, which costs a stream less than h2's own
    dictionary, whose every assignment looks for one to forget.
    """

    def __setitem__(self, stream_id: int, closed_by: StreamClosedBy | None) -> None:
        super().__setitem__(stream_id, closed_by)
        self.forget()

    def forget(self) -> None:
        """Keep the bound; the lane notes some streams without it, and calls this once."""
        if len(self) > 2 * CLOSED_STREAMS_MAX:
            for stream_id in list(self)[:-CLOSED_STREAMS_MAX]:
                del self[stream_id]


class JudgedConnection(H2Connection):
    """The state of one connection; `wasted` counts frames that served no request."""

    wasted = 0
    updates_due = 0  # WINDOW_UPDATEs that requests and their answers explain
    _late_bytes = 0  # of content that are excused
    _open_streams_seen = 0
    _last_accepted = STREAM_ID_MAX  # what GOAWAY has named
    _window_seen = 65_535  # of the connection, when a WINDOW_UPDATE was seen last

    @property
    def open_inbound_streams(self) -> int:
        """Fewer than would make h2 end the connection; `_receive_headers_frame` has the bound."""
        self._open_streams_seen = super().open_inbound_streams
        return min(self._open_streams_seen, self.local_settings.max_concurrent_streams - 1)

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self._closed_streams = ClosedStreams()

    def goaway_frame(self) -> bytes:
        """A GOAWAY after which streams that are open go on; h2's own would end them.

        It names the last stream, or less if one before did so (RFC 9113 section 6.8).
        """
        self._last_accepted = min(self._last_accepted, self.highest_inbound_stream_id)
        return goaway_frame(self._last_accepted, ErrorCodes.NO_ERROR)

    def _prepare_for_sending(self, frames: list[Frame]) -> None:
        for frame in frames:
            if isinstance(frame, GoAwayFrame):
                frame.last_stream_id = min(frame.last_stream_id, self._last_accepted)
        super()._prepare_for_sending(frames)

    def forget_closed_streams(self) -> None:
        """Keep the bound of closed streams that were noted past it."""
        if isinstance(self._closed_streams, ClosedStreams):
            self._closed_streams.forget()

    def reset_stream(self, stream_id: int, error_code: ErrorCodes | int = 0) -> None:
        """Send RST_STREAM; content that is on its way is excused for it.

        A connection that has ended took its streams with it, and h2 would raise: an application
        may end its stream only afterwards.
        """
        if self.state_machine.state is ConnectionState.CLOSED:
            return
        if self._get_stream_by_id(stream_id).state_machine.state in _MAY_SEND:
            self._late_bytes = LATE_BYTES_MAX
        super().reset_stream(stream_id, error_code)

    def _receive_frame(self, frame: Frame) -> list[Event]:
        events = super()._receive_frame(frame)
        if not events and isinstance(frame, DataFrame):  # on a stream that is over
            self._late_bytes -= max(frame.flow_controlled_length, LATE_FRAME_BYTES)
            self.wasted += self._late_bytes < 0
        elif not events:
            self.wasted += isinstance(frame, HeadersFrame)
        else:
            self.wasted += any(
                isinstance(event, StreamReset) and not event.remote_reset for event in events
            )
        return events

    def _receive_headers_frame(self, frame: HeadersFrame) -> Outcome:
        stream_id = frame.stream_id
        stream = self.streams.get(stream_id)
        left = 0 if stream is None else _content_left(stream)
        try:
            frames, events = super()._receive_headers_frame(frame)
        except (StreamClosedError, StreamIDTooLowError) as error:
            if self._is_late(stream_id, error):
                return [], []
            raise
        except ProtocolError as error:
            if isinstance(error.__cause__, HPACKError):  # RFC 9113 section 4.3
                if not isinstance(error, DenialOfServiceError):
                    error.error_code = ErrorCodes.COMPRESSION_ERROR
                raise
            if stream_id not in self.streams:
                raise  # it may not be opened, RFC 9113 section 5.1.1
            return self._reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
        code = self._refusal_of(events[0], left)
        return (frames, events) if code is None else self._reset(stream_id, code)

    def _refusal_of(self, event: Event, left: int) -> ErrorCodes | None:
        """Why a field section that h2 lets pass is refused; `left` of its content is missing."""
        if isinstance(event, TrailersReceived):
            return ErrorCodes.PROTOCOL_ERROR if left else None
        if not isinstance(event, RequestReceived):
            return None
        if self._open_streams_seen >= self.local_settings.max_concurrent_streams:
            return ErrorCodes.REFUSED_STREAM  # RFC 9113 section 5.1.2
        is_short = event.stream_ended and _content_left(self.streams[event.stream_id])
        if is_short or _is_malformed(event.headers):
            return ErrorCodes.PROTOCOL_ERROR
        self.updates_due += UPDATES_PER_REQUEST
        return None

    def _receive_data_frame(self, frame: DataFrame) -> Outcome:
        try:
            return super()._receive_data_frame(frame)
        except InvalidBodyLengthError:
            error = StreamClosedError(frame.stream_id)
            error.error_code = ErrorCodes.PROTOCOL_ERROR
            _, error._events = self._reset(frame.stream_id, error.error_code)  # noqa: SLF001
            return self._handle_data_on_closed_stream([], error, frame)

    def _handle_data_on_closed_stream(
        self, events: list[Event], exc: StreamClosedError, frame: DataFrame
    ) -> Outcome:
        frames, events = super()._handle_data_on_closed_stream(events, exc, frame)
        if self._is_late(frame.stream_id, exc):
            frames.pop()  # the RST_STREAM; the window of the connection is given back
        return frames, events

    def _receive_window_update_frame(self, frame: WindowUpdateFrame) -> Outcome:
        sent = self._window_seen - self.outbound_flow_control_window
        self.updates_due = min(self.updates_due + UPDATES_PER_BYTE * sent, UPDATES_DUE_MAX)
        if self.updates_due:  # a client may give each byte back alone
            self.updates_due -= 1
        else:
            self.wasted += 1
        outcome = super()._receive_window_update_frame(frame)
        self._window_seen = self.outbound_flow_control_window
        return outcome

    def _receive_settings_frame(self, frame: SettingsFrame) -> Outcome:
        """Obey the settings that h2 knows; it would keep the others (RFC 9113 section 6.5.2)."""
        known = {code: value for code, value in frame.settings.items() if code in _KNOWN_SETTINGS}
        table_bytes = known.get(SettingCodes.HEADER_TABLE_SIZE)
        if table_bytes is not None:  # RFC 7541 section 4.2: an encoder may use less
            known[SettingCodes.HEADER_TABLE_SIZE] = min(table_bytes, TABLE_BYTES_MAX)
        frame.settings = known
        outcome = super()._receive_settings_frame(frame)
        sizes = self.encoder.table_size_changes
        if sizes:  # RFC 7541 section 4.2: the smallest and the last are told, none between
            if len(sizes) > 1:
                sizes[:] = [min(sizes), sizes[-1]]
            self.encoder.header_table.resized = True  # which a size that is said twice takes back
        return outcome

    def _receive_rst_stream_frame(self, frame: RstStreamFrame) -> Outcome:
        if not frame.stream_id & 1 or frame.stream_id > self.highest_inbound_stream_id:
            raise NoSuchStreamError(frame.stream_id)  # RFC 9113 section 6.4: it is idle
        return super()._receive_rst_stream_frame(frame)

    def _is_late(self, stream_id: int, error: ProtocolError) -> bool:
        """Whether a frame may have been on its way when we reset its stream: section 5.1."""
        return not getattr(error, "_events", ()) and (
            self._stream_closed_by(stream_id) is StreamClosedBy.SEND_RST_STREAM
        )

    def _reset(self, stream_id: int, code: ErrorCodes) -> Outcome:
        """End a stream, whatever its state; h2 may have closed it amid an error."""
        machine = self.streams[stream_id].state_machine
        machine.state = StreamState.CLOSED
        machine.stream_closed_by = StreamClosedBy.SEND_RST_STREAM
        frame = RstStreamFrame(stream_id, error_code=code)
        return [frame], [StreamReset(stream_id=stream_id, error_code=code, remote_reset=False)]


def _content_left(stream: H2Stream) -> int:
    """How many bytes Content-Length has announced that did not come; RFC 9113 section 8.1.1."""
    expected = stream._expected_content_length or 0  # noqa: SLF001
    return expected - stream._actual_content_length if expected else 0  # noqa: SLF001


def _is_malformed(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether pseudo-fields break RFC 9113 section 8.3 in a way that h2 lets pass."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in headers:
        if not name.startswith(b":"):
            break
        pseudo[name] = value
    return any(not pseudo.get(name, b"x") for name in _NEVER_EMPTY) or (
        pseudo[b":method"] == b"CONNECT" and not pseudo.get(b":authority")
    )
