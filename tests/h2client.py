"""An HTTP/2 client driven by hand, frame by frame, that forgives nothing.

Owns how tests speak RFC 9113. Under it is the state machine of the `h2` package, which checks flow
control, frame sizes, HPACK and the states of streams; it checks nothing that is sent, so that a
test can send whatever it likes. Above it the client sees each frame before h2 does.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    PingAckReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes, Settings

from tests.certificate import is_cut_off
from tests.server import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.server import RunningServer

RECV_BYTES = 1 << 18
TIMEOUT_S = 20.0
WINDOW_BYTES = 65_535
FRAME_BYTES = 16_384
WINDOW_BYTES_MAX = (1 << 31) - 1
FRAME_HEAD_BYTES = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM = 1

CONNECTION_SPECIFIC = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
)
"""RFC 9113, 8.2.2: an endpoint must not generate them."""

_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_WITHOUT_CONTENT = frozenset({204, 304})


class Frame(NamedTuple):
    """The head of a frame that the server sent."""

    kind: int
    flags: int
    stream_id: int
    length: int


@dataclass(slots=True)
class Stream:
    """What came on one stream; `fields` in their order, without :status."""

    method: str
    status: int = 0
    fields: list[tuple[str, str]] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    is_ended: bool = False
    reset_code: int | None = None
    is_given_up: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nothing more may come."""
        return self.is_ended or self.reset_code is not None

    def answer(self) -> Answer:
        """The whole response: ended, and exactly as long as it said."""
        assert self.reset_code is None, f"the stream was reset with {self.reset_code}"
        assert self.is_ended
        fields = dict(self.fields)
        if self.status in _WITHOUT_CONTENT:
            assert "content-length" not in fields
        elif self.method != "HEAD":
            assert int(fields["content-length"]) == len(self.content)
        else:
            assert "content-length" in fields
            assert not self.content
        return Answer(self.status, fields, bytes(self.content))


class H2Client:
    """One connection over TLS; with `auto_window` every byte is given back as it is read."""

    def __init__(
        self,
        server: RunningServer,
        *,
        initial_window: int = WINDOW_BYTES,
        connection_window: int = WINDOW_BYTES,
        max_frame_size: int = FRAME_BYTES,
        header_table_size: int = 4_096,
        auto_window: bool = True,
        receive_buffer_bytes: int | None = None,
    ) -> None:
        self.sock = server.connect_tls(["h2"], receive_buffer_bytes)
        assert self.sock.selected_alpn_protocol() == "h2"
        self.authority = f"127.0.0.1:{server.tls_port}"
        self.auto_window = auto_window
        self.streams: dict[int, Stream] = {}
        self.frames: list[Frame] = []
        self.events: list[Event] = []
        self.pongs: list[bytes] = []
        self.goaways: list[tuple[int, int]] = []
        """Error code and last stream id of each."""
        self.resets: list[tuple[int, int]] = []
        """Stream and error code of each; h2 tells of none once a stream is over."""
        self.settings_acks = 0
        self.is_closed = False
        self._settings_sent = 1
        self._pings = 0
        self._received = bytearray()
        self.h2 = self._open(initial_window, max_frame_size, header_table_size)
        if connection_window > WINDOW_BYTES:
            self.h2.increment_flow_control_window(connection_window - WINDOW_BYTES)
        self.flush()

    @staticmethod
    def _open(initial_window: int, max_frame_size: int, header_table_size: int) -> H2Connection:
        h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: initial_window,
                SettingCodes.MAX_FRAME_SIZE: max_frame_size,
                SettingCodes.HEADER_TABLE_SIZE: header_table_size,
            },
        )
        h2.max_inbound_frame_size = max_frame_size
        h2.decoder.max_allowed_table_size = header_table_size
        h2.initiate_connection()
        return h2

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, whatever is unread."""
        self.sock.close()

    def request_bytes(
        self,
        target: str,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        *,
        end_stream: bool = True,
        pseudo: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """The stream and the frames of a request, to be sent by the caller.

        `pseudo` replaces all pseudo-fields.
        """
        if pseudo is None:
            pseudo = {
                ":method": method,
                ":scheme": "https",
                ":authority": self.authority,
                ":path": target,
            }
        self.flush()
        stream_id = self.h2.get_next_available_stream_id()
        self.streams[stream_id] = Stream(method)
        head = [(name.encode(), value.encode("latin-1")) for name, value in pseudo.items()]
        head += [(name.encode(), value.encode("latin-1")) for name, value in fields]
        self.h2.send_headers(stream_id, head, end_stream=end_stream)
        return stream_id, self.h2.data_to_send()

    def request(
        self,
        target: str,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        *,
        end_stream: bool = True,
        pseudo: Mapping[str, str] | None = None,
    ) -> int:
        """Send a request; its stream."""
        stream_id, raw = self.request_bytes(
            target, method, fields, end_stream=end_stream, pseudo=pseudo
        )
        self.send_bytes(raw)
        return stream_id

    def ask(
        self, target: str, method: str = "GET", fields: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Send a request and wait for its whole answer."""
        return self.answer(self.request(target, method, fields))

    def answer(self, stream_id: int) -> Answer:
        """Wait for the whole answer of a stream."""
        stream = self.streams[stream_id]
        self.pump(lambda: stream.is_over, f"the end of stream {stream_id}")
        return stream.answer()

    def send_bytes(self, raw: bytes) -> None:
        """Send frames as they are; h2 never hears of them."""
        self.sock.settimeout(TIMEOUT_S)
        self.sock.sendall(raw)

    def flush(self) -> None:
        """Send what h2 has ready."""
        if raw := self.h2.data_to_send():
            self.send_bytes(raw)

    def window(self, stream_id: int, count: int) -> None:
        """Open the window of a stream, or of the connection (0)."""
        self.h2.increment_flow_control_window(count, stream_id or None)
        self.flush()

    def reset(self, stream_id: int, code: int = 8) -> None:
        """Give a stream up, as CANCEL unless told otherwise."""
        self.h2.reset_stream(stream_id, code)
        self.streams[stream_id].is_given_up = True
        self.flush()

    def set(self, **settings: int) -> None:
        """Change settings by their names, and wait until the server acknowledged."""
        self._settled()  # or h2 would take an earlier acknowledgement for this one
        self._settings_sent += 1
        self.h2.update_settings(
            {SettingCodes[name.upper()]: value for name, value in settings.items()}
        )
        self.flush()
        self._settled()

    def _settled(self) -> None:
        self.pump(lambda: self.settings_acks >= self._settings_sent, "SETTINGS acknowledged")

    def ping(self) -> None:
        """Send a PING and wait for its answer: everything sent before has been read by then."""
        self._pings += 1
        opaque = b"ping%04d" % (self._pings % 10_000)
        self.h2.ping(opaque)
        self.flush()
        self.pump(lambda: opaque in self.pongs, "the answer to a PING")

    def pump(
        self, until: Callable[[], bool], what: str = "something", timeout_s: float | None = None
    ) -> None:
        """Read until `until` holds; AssertionError when the connection or the time ends first."""
        timeout_s = TIMEOUT_S if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + timeout_s
        while not until():
            assert not self.is_closed, f"the connection ended before {what}: {self.goaways}"
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"waited {timeout_s} s for {what}"
            self.sock.settimeout(left_s)
            self._read(what)

    def pump_to_end(self, timeout_s: float | None = None) -> None:
        """Read until the server closes the connection."""
        self.pump(lambda: self.is_closed, "the end of the connection", timeout_s)

    def lengths(self, stream_id: int) -> list[int]:
        """The lengths of the DATA frames of a stream so far."""
        return [f.length for f in self.frames if (f.kind, f.stream_id) == (DATA, stream_id)]

    def _read(self, what: str) -> None:
        try:
            data = self.sock.recv(RECV_BYTES)
        except TimeoutError:
            raise AssertionError(f"no byte came while waiting for {what}") from None
        except OSError as error:
            if not is_cut_off(error):
                raise
            data = b""
        if not data:
            self.is_closed = True
            return
        self._received += data
        given: Counter[int] = Counter()
        for frame, raw in self._take():
            self._check(frame)
            if frame.kind == DATA:
                given[0] += frame.length
                given[frame.stream_id] += frame.length
            self._on_frame(frame, raw)
        if self.auto_window:
            self._give_back(given)
        with suppress(OSError):  # it closed: reading on will say so
            self.flush()

    def _on_frame(self, frame: Frame, raw: bytes) -> None:
        stream = self.streams.get(frame.stream_id)
        if frame.kind == RST_STREAM:
            self.resets.append((frame.stream_id, int.from_bytes(raw[FRAME_HEAD_BYTES:], "big")))
        if frame.kind == DATA and stream is not None and stream.is_given_up:
            # In flight when it was given up; h2 would answer each with RST_STREAM.
            self.h2._inbound_flow_control_window_manager.window_consumed(frame.length)
            return
        for event in self.h2.receive_data(raw):
            self.events.append(event)
            self._on_event(event)
        if stream is not None and frame.kind in {DATA, HEADERS}:
            stream.is_ended = stream.is_ended or bool(frame.flags & END_STREAM)

    def _give_back(self, given: Counter[int]) -> None:
        for stream_id, count in given.items():
            stream = self.streams.get(stream_id)
            is_open = stream is None or not (stream.is_over or stream.is_given_up)
            if count and is_open:
                self.h2.increment_flow_control_window(count, stream_id or None)

    def _take(self) -> Iterator[tuple[Frame, bytes]]:
        received = self._received
        while len(received) >= FRAME_HEAD_BYTES:
            end = FRAME_HEAD_BYTES + int.from_bytes(received[:3], "big")
            if len(received) < end:
                return
            stream_id = int.from_bytes(received[5:9], "big")
            raw = bytes(received[:end])
            del received[:end]
            yield Frame(raw[3], raw[4], stream_id, end - FRAME_HEAD_BYTES), raw

    def _check(self, frame: Frame) -> None:
        """What h2 would let pass."""
        if not self.frames:
            assert frame.kind == SETTINGS, "the first frame is not SETTINGS (RFC 9113, 3.4)"
        self.frames.append(frame)
        assert frame.kind <= CONTINUATION, f"a frame of an unknown type: {frame}"
        assert frame.kind != PUSH_PROMISE
        assert frame.stream_id == 0 or frame.stream_id in self.streams, f"nobody asked: {frame}"
        if frame.kind in {DATA, HEADERS, CONTINUATION}:
            assert not self.streams[frame.stream_id].is_over, f"after the end: {frame}"

    def _on_event(self, event: Event) -> None:
        match event:
            case ResponseReceived():
                self._on_response(self.streams[event.stream_id], event)
            case DataReceived():
                self.streams[event.stream_id].content += event.data
            case StreamReset():
                self.streams[event.stream_id].reset_code = int(event.error_code)
            case ConnectionTerminated():
                self.goaways.append((int(event.error_code or 0), event.last_stream_id or 0))
                # Streams up to the last one may still be answered (6.8); h2 would refuse them.
                self.h2.state_machine.state = ConnectionState.CLIENT_OPEN
            case PingAckReceived():
                self.pongs.append(event.ping_data)
            case SettingsAcknowledged():
                self.settings_acks += 1
            case TrailersReceived():
                raise AssertionError("trailers")
            case _:
                pass

    @staticmethod
    def _on_response(stream: Stream, event: ResponseReceived) -> None:
        (first, status), *others = [
            (bytes(name).decode("ascii"), bytes(value).decode("ascii"))
            for name, value in event.headers
        ]
        assert first == ":status"
        assert re.fullmatch("[2-5][0-9]{2}", status)
        stream.status = int(status)
        for name, value in others:
            assert _NAME.fullmatch(name), name
            assert _VALUE.fullmatch(value), (name, value)
            assert name not in CONNECTION_SPECIFIC, name
            assert name not in dict(stream.fields), f"{name} is there twice"
            stream.fields.append((name, value))
