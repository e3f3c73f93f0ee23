"""How an endless response begins on HTTP/1.1: its head, and what frames what follows.

Owns the choice. A connection on which such a response has begun takes no further request, so the
head says `Connection: close`, and the end of the response is the end of the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.parser import Persistence
from zerocopy.transport.streaming import CHUNKED_EVENTS, PLAIN_EVENTS

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.transport.http1.head import Tails
    from zerocopy.transport.http1.parser import Message
    from zerocopy.transport.streaming import Framing, Inbox


class Opening(NamedTuple):
    """The head of an endless response, and how it goes on."""

    head: bytes
    framing: Framing
    inbox: Inbox | None = None


def opening_of(message: Message, response: Response, tails: Tails) -> Opening:
    """How the response to `message` begins.

    RFC 9112 section 6.1: a client of HTTP/1.0 gets no chunks; the end of its connection is the end.
    """
    head, tail = render_head(response), tails.lines[Persistence.CLOSE]
    if message.is_1_0:
        return Opening(head + tail, PLAIN_EVENTS)
    return Opening(head + b"Transfer-Encoding: chunked\r\n" + tail, CHUNKED_EVENTS)
