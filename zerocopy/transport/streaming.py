"""One endless response being sent, whatever protocol carries it.

Owns the feed, how its items are framed, and what is left of the message under way. It pulls: a
protocol calls `next` once its client has room, so nothing waits in memory for a slow client but the
rest of one message. A small message is framed once for all streams that get it. A large one is a
`Body` like any other. It knows neither sockets nor time.

    protocol           framing
    HTTP/1.1           CHUNKED_EVENTS, RFC 9112 section 7.1
    HTTP/1.0, HTTP/2   PLAIN_EVENTS: the end of the connection, or of the stream, is the end
    WebSocket          RFC 6455 section 5, with an `Inbox` for what the client sends
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zerocopy.core.http.stream import GOING_AWAY, End, Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.http.stream import Feed, Item, Message
    from zerocopy.transport.body import Bodies, Body

SMALL_MESSAGE_BYTES = 65_536
"""Content of a message that is framed in one piece; it is copied for that, once for all streams."""

FRAMED_MAX = 64
"""Framed messages that are kept: 4 MiB at most."""

MESSAGE_COST_BYTES = 8_192
"""What one message costs its turn at least, in bytes: some 6 µs where it leaves as it is."""

ENCRYPTED_COST_BYTES = 24_576
"""The same where OpenSSL encrypts it: 16 µs on HTTP/1.1, 11 to 25 µs on HTTP/2, by how many streams
share a connection (Intel Xeon, 2 cores, 2026-11-30)."""

_COMMENT = b":\n\n"
"""A comment and no event, for clients of server-sent events (WHATWG HTML, section 9.2.6)."""


class Framing(Protocol):
    """How messages become bytes. It has no state, so that all streams share one object."""

    def message(self, nbytes: int) -> tuple[bytes, bytes]:
        """What goes before and behind a message of `nbytes`, which are more than 0."""

    def heartbeat(self) -> bytes:
        """A heartbeat."""

    def end(self, end: End) -> bytes:
        """The end; b"" where the protocol below says it."""


class Inbox(Protocol):
    """What a client may send on its stream, if its protocol is for both directions.

    `is_over`: nothing follows the replies. The client has said so, or has broken the protocol.
    """

    is_over: bool

    def on_data(self, data: bytes) -> None:
        """Bytes that arrived, cut anywhere."""

    def replies(self) -> bytes:
        """What is to leave between two messages; bounded, and each only once."""


class PlainEvents:
    """Server-sent events as they are."""

    def message(self, _nbytes: int) -> tuple[bytes, bytes]:
        """Nothing around them."""
        return b"", b""

    def heartbeat(self) -> bytes:
        """A comment."""
        return _COMMENT

    def end(self, _end: End) -> bytes:
        """Nothing: an EventSource opens a new connection, and tells where it stopped."""
        return b""


class ChunkedEvents:
    """Server-sent events, each message a chunk (RFC 9112 section 7.1)."""

    def message(self, nbytes: int) -> tuple[bytes, bytes]:
        """The size of the chunk, and the end of its line."""
        return b"%x\r\n" % nbytes, b"\r\n"

    def heartbeat(self) -> bytes:
        """A comment, in a chunk."""
        return b"%x\r\n%b\r\n" % (len(_COMMENT), _COMMENT)

    def end(self, _end: End) -> bytes:
        """The last chunk."""
        return b"0\r\n\r\n"


PLAIN_EVENTS = PlainEvents()
CHUNKED_EVENTS = ChunkedEvents()


class Framed(dict[tuple[int, Framing], tuple["Message", bytes]]):
    """Small messages as bytes, which all streams with the same message and framing share.

    By identity; each entry keeps its message, so that no other object gets that identity.
    """

    def add(self, message: Message, framing: Framing) -> bytes:
        """The message with what goes around it; all are forgotten at the bound."""
        before, after = framing.message(message.nbytes)
        data = before + message.content + after if before or after else message.content
        if len(self) >= FRAMED_MAX:
            self.clear()
        self[id(message), framing] = message, data
        return data


class Stream:
    """The feed of one response, and how far it has been taken.

    `is_over`: nothing follows. `is_drained`: what `next` gave last was a whole message, and it need
    not be called again before `on_ready` is; see `Feed`.
    """

    __slots__ = (
        "_after", "_bodies", "_feed", "_framed", "_framing", "_is_mapped", "_large", "inbox",
        "is_drained", "is_over",
    )  # fmt: skip

    def __init__(
        self,
        feed: Feed,
        framing: Framing,
        inbox: Inbox | None,
        *,
        framed: Framed,
        bodies: Bodies,
        is_mapped: bool,
    ) -> None:
        self._feed: Feed | None = feed
        self._framing = framing
        self._framed = framed
        self._bodies = bodies
        self._is_mapped = is_mapped  # see `Bodies.open`
        self._large: Message | None = None  # what goes before it was taken, it was not
        self._after = b""  # what goes behind the body that was taken
        self.inbox = inbox
        self.is_drained = False
        self.is_over = False

    def start(self, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called when `next` has something again; see `Feed`."""
        assert self._feed is not None, "it was not closed"
        self._feed.start(on_ready)

    def next(self) -> bytes | Body | None:
        """What leaves next; None: nothing yet. Its caller closes a body once that has left.

        Not called again once `is_over`; what it gave last is then the end, which may be b"".
        """
        if self._after or self._large is not None or self.inbox is not None:
            owed = self._owed()
            if owed is not None:
                return owed
        feed = self._feed
        assert feed is not None, "it was not closed"
        item = feed.next()
        if item is None:
            return None
        self.is_drained = feed.is_drained
        kept = self._framed.get((id(item), self._framing))  # nearly always, where many wait
        return self._bytes_of(item) if kept is None else kept[1]

    def next_in_drain(self) -> bytes | Body:
        """The same where the server stops: the end comes behind the message under way."""
        owed = self._owed()
        return self._end(GOING_AWAY) if owed is None else owed

    def _owed(self) -> bytes | Body | None:
        """What leaves before anything else of the feed."""
        self.is_drained = False
        if self._after or self._large is not None:
            return self._rest()
        if self.inbox is not None and (data := self._replies(self.inbox)):
            return data
        return b"" if self.is_over else None

    def _bytes_of(self, item: Item) -> bytes | Body:
        if isinstance(item, Heartbeat):
            return self._framing.heartbeat()
        if isinstance(item, End):
            return self._end(item)
        assert item.nbytes > 0, "an empty chunk would be the last one"
        if item.segments or len(item.content) > SMALL_MESSAGE_BYTES:
            return self._begin(item)
        return self._framed.add(item, self._framing)

    def _begin(self, message: Message) -> bytes | Body:
        """The first piece of a large message. Its content is not copied where that is large."""
        self.is_drained = False
        before, self._after = self._framing.message(message.nbytes)
        if len(message.content) <= SMALL_MESSAGE_BYTES:
            return self._open(message, before + message.content)
        self._large = message
        return before or self._rest()

    def _rest(self) -> bytes | Body:
        """What follows of the message under way."""
        message, self._large = self._large, None
        if message is not None:
            return self._open(message, message.content)
        after, self._after = self._after, b""
        return after

    def _open(self, message: Message, content: bytes) -> Body:
        segment_bytes = message.nbytes - len(message.content)
        return self._bodies.open(content, message.segments, segment_bytes, mapped=self._is_mapped)

    def _replies(self, inbox: Inbox) -> bytes:
        replies = inbox.replies()
        if inbox.is_over:
            self.is_over = True
            self.close()
        return replies

    def _end(self, end: End) -> bytes:
        self.is_over, self.is_drained = True, False
        self.close()
        return self._framing.end(end)

    def close(self) -> None:
        """The feed is to forget this stream; it may be called more than once."""
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()
