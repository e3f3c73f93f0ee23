"""HTTP/1.1 over TLS: h11 behind the same reader of heads as the plain listener, inside Hypercorn.

Owns what h11 gets to see. `http1/request.py` judges a head first; h11 gets only as much of it as it
needs. Content follows by the byte, so no byte of a next request goes with it. What h11 would let
pass (a list of lengths, folded lines, bare LF, a version without Host) never reaches it, and both
listeners refuse the same requests with the same status.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import h11
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol

from zerocopy.core.errors import RequestError
from zerocopy.core.http.messages import Request
from zerocopy.transport.asgi import METHOD
from zerocopy.transport.http1.request import CHUNKED, RequestReader
from zerocopy.transport.limits import malformed

if TYPE_CHECKING:
    from hypercorn.protocol.events import Event as StreamEvent

    from zerocopy.transport.http1.request import RequestHead
    from zerocopy.transport.http2.context import Http2Context, Wire
    from zerocopy.transport.limits import RequestLimits

_NOT_FOR_H11 = frozenset({b"upgrade", b"proxy-connection"})
"""Ignored, RFC 9110 section 7.8; h11 would wait whether the protocol is switched."""

_UNREADABLE = Request(b"GET", b"", ())
_OVER = frozenset({h11.MUST_CLOSE, h11.CLOSED, h11.ERROR})


class FilteredH11Connection(h11.Connection):
    """The server's end of a connection; `fault` is why it reads no further.

    `closes_after` says that the connection ends with the present response, whatever h11 finds, and
    `is_head` that the request is, or seems to be, a HEAD.
    """

    def __init__(self, limits: RequestLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._incoming = RequestReader(limits)
        self._content_max = limits.content_bytes_max
        self._content_left = 0
        self._is_at_end = False
        self.closes_after = False
        self.fault: RequestError | None = None

    @property
    def is_head(self) -> bool:
        """Whether the head that cannot be read begins as one of HEAD."""
        return self._incoming.is_head

    @property
    def is_mid_head(self) -> bool:
        """Whether a head has begun, the end of which is still to come."""
        return (
            self.their_state is h11.IDLE
            and self.fault is None
            and not self._incoming.is_at_boundary
        )

    def receive_data(self, data: bytes) -> None:
        """Keep what came until its turn; an empty `data` is the end of the input."""
        if not data:
            self._is_at_end = True
        elif self.fault is None and self.their_state not in _OVER:
            self._incoming.feed(data)

    def next_event(self) -> Any:
        """What h11 makes of the next head or of content.

        Raises:
            h11.RemoteProtocolError: there is a `fault`, or h11 finds one.
        """
        state = self.their_state
        if state is h11.IDLE:
            if not self._pass_head() and self._is_at_end:
                self._incoming.clear()  # a part of a head is no request
        elif state is h11.SEND_BODY:
            self._pass_content()
        elif state in _OVER:
            self._incoming.clear()  # nobody will answer it: RFC 9112 section 9.6
        elif self._incoming:
            return h11.PAUSED
        if self._is_at_end and not self._incoming:
            super().receive_data(b"")
        return super().next_event()

    def _pass_head(self) -> bool:
        try:
            if self.fault is not None:
                raise self.fault
            head = self._incoming.take()
        except RequestError as error:
            self.fault = error
            raise h11.RemoteProtocolError(error.detail, error.status) from None
        if head is None:
            return False
        length = self._content_left = head.content_bytes
        self.closes_after = not head.keeps_alive or length == CHUNKED
        is_awaited = length != 0 and length <= self._content_max and not self._incoming
        super().receive_data(_rendered(head, can_continue=is_awaited))
        return True

    def _pass_content(self) -> None:
        if self._content_left == CHUNKED or self._content_left > self._content_max:
            # Nobody reads it, and nothing that follows it is answered: so it is not kept either.
            self._incoming.clear()
            return
        data = self._incoming.read(self._content_left)
        if data:
            super().receive_data(data)
        self._content_left -= len(data)


def _rendered(head: RequestHead, *, can_continue: bool) -> bytes:
    """The head for h11: its target in origin-form, its version one of two."""
    lines = [b"%s %s HTTP/1.%d" % (head.method, head.target, head.is_1_1)]
    lines += [
        b"%s: %s" % (name, value)
        for name, value in head.fields
        if name not in _NOT_FOR_H11 and (can_continue or name != b"expect")
    ]
    return b"\r\n".join([*lines, b"", b""])


class Http1OverTls(H11Protocol):
    """HTTP/1.1 by h11 behind a gate: what is no request gets the response of the plain path."""

    connection: FilteredH11Connection

    def __init__(self, *hypercorn: Any, context: Http2Context, wire: Wire) -> None:
        super().__init__(*hypercorn)
        self.connection = FilteredH11Connection(context.request_limits)
        self._context = context
        self._wire = wire

    async def _maybe_recycle(self) -> None:
        if self.connection.our_state is h11.SEND_BODY:
            self._wire.reset()  # a promise broke: close_notify would make it look like an end
        await super()._maybe_recycle()

    async def _check_protocol(self, event: h11.Request) -> None:
        """RFC 9110 section 7.8: a server may ignore Upgrade; h2 is chosen by ALPN."""

    async def _create_stream(self, request: h11.Request) -> None:
        # Hypercorn would make get a GET: methods are case-sensitive, RFC 9110 section 9.1.
        self.connection_state[METHOD] = request.method
        await super()._create_stream(request)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application has made; the gate may know that it is the last response."""
        if isinstance(event, Response) and (self.connection.closes_after or self._context.draining):
            fields = [field for field in event.headers if field[0] != b"connection"]
            event = replace(event, headers=[*fields, (b"connection", b"close")])
        await super().stream_send(event)

    async def _send_error_response(self, status_code: int) -> None:
        begun_ns, limits, connection = monotonic_ns(), self._context.request_limits, self.connection
        error: RequestError = connection.fault or malformed()
        if connection.fault is None and status_code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            error = limits.fields_too_large()  # around the chunks of content
        response = self._context.handler.refuse(error)
        fields = [
            *response.fields,
            (b"server", b"zerocopy"),
            (b"content-length", b"%d" % response.nbytes),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=response.status, headers=fields))
        self._context.metrics.answered(_UNREADABLE, response, begun_ns)
        if not connection.is_head:
            await self._send_h11_event(h11.Data(data=response.content))
        elif connection.fault is not None:
            return  # h11 did not see the HEAD, and would miss the content
        await self._send_h11_event(h11.EndOfMessage())
