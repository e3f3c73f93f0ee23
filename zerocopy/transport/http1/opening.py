"""How an endless response begins on HTTP/1.1: its head, and what frames what follows.

Owns the choice, and whether a WebSocket is opened. A connection on which such a response has begun
takes no further request, so the head says `Connection: close`, or that it is no HTTP any more. The
end of the response is the end of the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.http.messages import Response
from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.parser import Persistence
from zerocopy.transport.streaming import CHUNKED_EVENTS, PLAIN_EVENTS
from zerocopy.transport.websocket.frames import MESSAGES
from zerocopy.transport.websocket.inbox import Inbox

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Handler
    from zerocopy.transport.http1.context import Http1Context
    from zerocopy.transport.http1.parser import Message, RequestParser
    from zerocopy.transport.streaming import Framing


class Opening(NamedTuple):
    """The head of an endless response, and how it goes on; `response` has its status."""

    response: Response
    head: bytes
    framing: Framing
    inbox: Inbox | None = None


def settle(
    message: Message, response: Response, handler: Handler, parser: RequestParser | None
) -> Response:
    """The response that `message` gets, now that it is known whether it would be endless.

    One that has an end refuses a WebSocket (RFC 9110 section 7.8), and requests may follow. A
    client that could have had one is told what its handshake lacks.
    """
    if response.feed is None:
        if message.request.is_websocket and parser is not None:
            parser.release(message)
        return response
    fault = None if message.handshake is None else message.handshake.fault
    if fault is None and not message.is_head:
        return response
    response.feed.close()
    return response if fault is None else handler.refuse(fault)


def opening_of(message: Message, response: Response, context: Http1Context) -> Opening:
    """How the response to `message` begins.

    RFC 9112 section 6.1: a client of HTTP/1.0 gets no chunks; the end of its connection is the end.
    RFC 6455 section 4.2.2: a WebSocket begins behind a 101.
    """
    if message.handshake is not None:
        fields = message.handshake.accepting_fields() + response.fields
        response = Response(101, fields, feed=response.feed)
        head = render_head(response) + context.tails.lines[Persistence.KEEP_ALIVE]
        return Opening(response, head, MESSAGES, Inbox(context.wheel))
    head, tail = render_head(response), context.tails.lines[Persistence.CLOSE]
    if message.is_1_0:
        return Opening(response, head + tail, PLAIN_EVENTS)
    head += b"Transfer-Encoding: chunked\r\n"
    return Opening(response, head + tail, CHUNKED_EVENTS)
