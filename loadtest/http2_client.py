"""HTTP/2 over TLS for one user: several streams on one connection, each body streamed.

Owns a connection, its streams and its windows, by the `h2` package, which judges frames, header
blocks, states and flow control. A body is passed on frame by frame and given back to the windows
as it is read, never held. Everything happens in the one greenlet of the user: it starts streams,
then reads until one of them is over.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from loadtest.question import PendingRequest, Question, WrongAnswerError

if TYPE_CHECKING:
    import ssl

    from h2.events import Event

    from loadtest.server_url import ServerUrl

RECV_BYTES = 256 * 1024
YIELD_BYTES = 1 << 20
"""Bytes after which other users get their turn, however fast they come."""

WINDOW_BYTES = 65_535
"""Of a connection, before its first WINDOW_UPDATE (RFC 9113 section 6.9.2)."""

CONNECTION_WINDOWS = 4
"""A connection's window is that of so many streams."""

_GOES_ON = {
    (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN)
}


class NotProcessedError(Exception):
    """The server went away before it looked at the request: ask again (RFC 9113 section 6.8)."""


class Http2Client:
    """Asks several questions at once on one connection, and opens another when it ends."""

    def __init__(self, url: ServerUrl, context: ssl.SSLContext, window_bytes: int) -> None:
        self._url = url
        self._context = context
        self._window_bytes = window_bytes
        self._sock: ssl.SSLSocket | None = None
        self._h2 = H2Connection()
        self._open: dict[int, PendingRequest] = {}
        self._over: list[PendingRequest] = []
        self._is_going = False
        self._unyielded = 0

    @property
    def streams(self) -> int:
        """Streams that wait for their answer."""
        return len(self._open)

    @property
    def takes_more(self) -> bool:
        """Whether a stream may be started: nothing is to be told of, and no GOAWAY has come."""
        return not self._over and (not self._is_going or not self._open)

    def ask(self, question: Question) -> PendingRequest:
        """Ask one question and wait for its answer."""
        self.start(question)
        [exchange] = self.wait()
        return exchange

    def start(self, question: Question) -> None:
        """Send a question on a stream of its own; `wait` tells how it went."""
        exchange = PendingRequest(question)
        try:
            if self._is_going:
                assert not self._open, "takes_more is to be asked"
                self.close()
            if self._sock is None:
                self._connect()
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, self._head(question), end_stream=True)
            self._open[stream_id] = exchange
            self._flush()
        except (OSError, ProtocolError) as error:
            if exchange not in self._open.values():
                exchange.fail(error)
                self._over.append(exchange)
            self._end(error)

    def wait(self) -> list[PendingRequest]:
        """Read until a stream is over; all that are over by then."""
        while not self._over:
            assert self._sock is not None, "something was started"
            try:
                received = self._sock.recv(RECV_BYTES)
                if not received:
                    raise WrongAnswerError("the connection ended before the answer")
                for event in self._h2.receive_data(received):
                    self._on_event(event)
                self._flush()
            except (OSError, ProtocolError, WrongAnswerError) as error:
                self._end(error)
            else:
                self._yield(len(received))
        over, self._over = self._over, []
        return over

    def close(self) -> None:
        """Close the connection and forget what is open."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.close()
        self._sock, self._open, self._is_going = None, {}, False

    def _connect(self) -> None:
        self._sock = self._url.connect_tls(self._context)
        if self._sock.selected_alpn_protocol() != "h2":
            self.close()
            raise OSError(f"{self._url.authority} does not speak HTTP/2")
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        # h2 takes GOAWAY for the end of everything, and refuses the frame behind it.
        machine = self._h2.state_machine
        machine._transitions = {**machine._transitions, **_GOES_ON}  # noqa: SLF001
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: self._window_bytes,
            },
        )
        self._h2.initiate_connection()
        wanted = CONNECTION_WINDOWS * self._window_bytes
        if wanted > WINDOW_BYTES:
            self._h2.increment_flow_control_window(wanted - WINDOW_BYTES)

    def _head(self, question: Question) -> list[tuple[str, str]]:
        return [
            (":method", question.method),
            (":scheme", "https"),
            (":authority", self._url.authority),
            (":path", question.target),
            *question.fields,
        ]

    def _flush(self) -> None:
        if self._sock is not None and (raw := self._h2.data_to_send()):
            self._sock.sendall(raw)

    def _on_event(self, event: Event) -> None:
        match event:
            case DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if (exchange := self._open.get(event.stream_id)) is not None:
                    self._judge(event.stream_id, exchange, event)
            case ResponseReceived() | StreamEnded() | TrailersReceived():
                if (exchange := self._open.get(event.stream_id)) is not None:
                    self._judge(event.stream_id, exchange, event)
            case StreamReset():
                if (exchange := self._open.pop(event.stream_id, None)) is not None:
                    self._fail(exchange, WrongAnswerError(f"reset with {event.error_code!r}"))
            case ConnectionTerminated():
                self._on_goaway(event)
            case _:
                pass

    def _judge(self, stream_id: int, exchange: PendingRequest, event: Event) -> None:
        """Pass an event to the check; a stream that has failed is cancelled."""
        try:
            match event:
                case ResponseReceived():
                    fields = {str(name): str(value) for name, value in event.headers}
                    exchange.begin(int(fields.pop(":status")), fields)
                case DataReceived():
                    exchange.feed(memoryview(event.data))
                case TrailersReceived():
                    raise WrongAnswerError("trailers")
                case StreamEnded():
                    del self._open[stream_id]
                    exchange.end()
                    self._over.append(exchange)
                case _:
                    pass
        except WrongAnswerError as error:
            if self._open.pop(stream_id, None) is not None:
                with suppress(ProtocolError):  # it may have ended with these bytes
                    self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            self._fail(exchange, error)

    def _on_goaway(self, event: ConnectionTerminated) -> None:
        """Streams up to the last one are still answered."""
        self._is_going = True
        if event.error_code:
            raise WrongAnswerError(f"GOAWAY with {event.error_code!r}")
        last = event.last_stream_id or 0
        for stream_id in [stream_id for stream_id in self._open if stream_id > last]:
            self._fail(self._open.pop(stream_id), NotProcessedError())

    def _fail(self, exchange: PendingRequest, error: Exception) -> None:
        exchange.fail(error)
        self._over.append(exchange)

    def _end(self, error: Exception) -> None:
        """The connection cannot be used any more: every stream has failed."""
        for exchange in self._open.values():
            self._fail(exchange, error)
        self.close()

    def _yield(self, nbytes: int) -> None:
        self._unyielded += nbytes
        if self._unyielded >= YIELD_BYTES:
            self._unyielded = 0
            time.sleep(0)
