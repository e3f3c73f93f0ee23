"""HTTP/1.1 requests out of bytes: messages in the order in which they came.

Owns what follows a head. Bytes go in as they come; `Message` objects come out. Content is counted
and dropped. `http1/request.py` says what a head is: each is judged whole, by a new httptools
parser, so nothing of one request is left for the next.

The first fault ends the parser: it yields one last message that carries the error. Everything after
it is ignored, because it is unknown where the next request would begin.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

from zerocopy.core.errors import RequestError, ZerocopyError
from zerocopy.core.http.messages import Request
from zerocopy.transport.http1.request import CHUNKED, RequestReader

if TYPE_CHECKING:
    from zerocopy.transport.http1.request import RequestHead
    from zerocopy.transport.limits import RequestLimits
    from zerocopy.transport.websocket.opening import Handshake


class Persistence(enum.IntEnum):
    """What becomes of the connection after the response; indexes the line that says so."""

    KEEP_ALIVE = 0
    KEEP_ALIVE_HTTP_1_0 = 1
    CLOSE = 2


class Message:
    """One parsed request and how its connection goes on, or the error that ends it.

    `handshake` is there where the client would go on with a WebSocket. If that may be, nothing
    behind the request is parsed before `RequestParser.release`.
    """

    __slots__ = ("error", "handshake", "is_1_0", "is_head", "persistence", "received_ns", "request")

    def __init__(
        self,
        request: Request,
        persistence: Persistence,
        error: ZerocopyError | None = None,
        received_ns: int = 0,
        handshake: Handshake | None = None,
    ) -> None:
        self.request = request
        self.handshake = handshake
        self.is_1_0 = False
        self.is_head = request.method == b"HEAD"
        self.persistence = persistence
        self.error = error
        self.received_ns = received_ns  # when the end of its head was read


_UNREADABLE = Request(b"GET", b"", ())
_UNREADABLE_HEAD = Request(b"HEAD", b"", ())


class RequestParser:
    """Collects messages; one for each connection that needs it.

    `at_boundary` is True between messages: nothing of a next one has been seen.
    `awaits_continue` is True while a client waits for 100 (Continue) before it sends content.
    `ended` is True once nothing more will be read as a request.
    `is_held` is True while it is open whether what follows is a request or a WebSocket's.
    """

    __slots__ = (
        "_content_left",
        "_content_max",
        "_network",
        "_pending",
        "_reader",
        "_received_ns",
        "at_boundary",
        "awaits_continue",
        "ended",
        "is_held",
        "messages",
    )

    def __init__(self, limits: RequestLimits, network: bytes = b"") -> None:
        self._network = network
        self._reader = RequestReader(limits)
        self._content_max = limits.content_bytes_max
        self._content_left = 0
        self._received_ns = 0
        self._pending: Message | None = None  # its content is still to come
        self.messages: deque[Message] = deque()
        self.at_boundary = True
        self.awaits_continue = False
        self.ended = False
        self.is_held = False

    def feed(self, data: bytes, received_ns: int = 0) -> None:
        """Parse `data`, which was read then; complete requests are appended to `messages`."""
        if self.ended:
            return
        self._received_ns = received_ns
        reader = self._reader
        reader.feed(data)
        try:
            while not (self.ended or self.is_held) and self._take_content():
                head = reader.take()
                if head is None:
                    break
                self._on_head(head)
        except RequestError as error:
            request = _UNREADABLE_HEAD if reader.is_head else _UNREADABLE
            self._end(Message(request, Persistence.CLOSE, error, received_ns))
        self.at_boundary = self._pending is None and reader.is_at_boundary and not self.is_held

    def release(self, message: Message) -> None:
        """`message` is answered like any other: what follows it is a request, if anything is."""
        self.is_held = False
        if message.persistence is Persistence.CLOSE:
            self._reader.clear()
            self.ended = True
            self.at_boundary = True
        self.feed(b"", self._received_ns)

    def take_rest(self) -> bytes:
        """No request follows those that were handed out. Returns what came behind them."""
        self.is_held = False
        self.ended = True
        return self._reader.read(len(self._reader))

    def end_early(self) -> None:
        """Answer the request whose content is awaited without it, then close."""
        if self._pending is not None:
            self._end(self._pending)

    def _take_content(self) -> bool:
        """Drop the content that has arrived. Returns whether all of it has."""
        if self._pending is None:
            return True
        dropped = self._reader.skip(self._content_left)
        self._content_left -= dropped
        if dropped:
            self.awaits_continue = False
        if self._content_left:
            return False
        self._finish(self._pending)
        return not self.ended

    def _on_head(self, head: RequestHead) -> None:
        persistence = Persistence.CLOSE
        if head.keeps_alive:
            persistence = Persistence.KEEP_ALIVE if head.is_1_1 else Persistence.KEEP_ALIVE_HTTP_1_0
        handshake = head.handshake
        is_websocket = handshake is not None and handshake.fault is None
        fields = tuple(head.fields)
        request = Request(head.method, head.target, fields, is_websocket, self._network)
        message = Message(request, persistence, None, self._received_ns, handshake)
        message.is_1_0 = not head.is_1_1
        length = head.content_bytes
        if is_websocket:
            # Held even where the connection is to end after an ordinary response.
            self.messages.append(message)
            self.is_held = True
        elif length == 0:
            self._finish(message)
        elif length == CHUNKED or length > self._content_max:
            # Chunked, or more than is worth reading: the response does not depend on it.
            self._end(message)
        else:
            self._pending = message
            self._content_left = length
            self.awaits_continue = head.expects_continue and not self._reader

    def _finish(self, message: Message) -> None:
        """The whole request came."""
        self._pending = None
        self.awaits_continue = False
        if message.persistence is Persistence.CLOSE:
            self._end(message)
        else:
            self.messages.append(message)

    def _end(self, message: Message) -> None:
        """Hand out the last message."""
        message.persistence = Persistence.CLOSE
        self.messages.append(message)
        self._pending = None
        self._reader.clear()
        self.awaits_continue = False
        self.ended = True
