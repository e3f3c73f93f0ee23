"""zerocopy.transport.streaming: what a feed says, in order, whole, and framed."""

from __future__ import annotations

import pytest

from tests.table import each
from tests.transport.feeds import FakeFeed, message
from tests.transport.tls_bench import MemorySource
from zerocopy.core.http.stream import HEARTBEAT, End, Message
from zerocopy.core.plan import Segment
from zerocopy.transport.body import Bodies, Body
from zerocopy.transport.streaming import (
    CHUNKED_EVENTS,
    FRAMED_MAX,
    PLAIN_EVENTS,
    SMALL_MESSAGE_BYTES,
    Framed,
    Framing,
    Inbox,
    Stream,
)

SEGMENT = Segment(MemorySource(1_000), 0, 1_000)


class FakeInbox:
    """Replies with what the test has put into it."""

    def __init__(self) -> None:
        self.is_over = False
        self.received = b""
        self.waiting = b""

    def on_data(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def replies(self) -> bytes:
        """All that waits."""
        waiting, self.waiting = self.waiting, b""
        return waiting


def _stream(
    feed: FakeFeed,
    framing: Framing = CHUNKED_EVENTS,
    inbox: Inbox | None = None,
    bodies: Bodies | None = None,
) -> Stream:
    stream = Stream(
        feed, framing, inbox, framed=Framed(), bodies=bodies or Bodies(), is_mapped=True
    )
    stream.start(lambda: None)
    return stream


def _drain(stream: Stream, *, is_draining: bool = False) -> bytes:
    """All that the stream has now."""
    taken = b""
    pull = stream.next_in_drain if is_draining else stream.next
    while not stream.is_over and (piece := pull()) is not None:
        if isinstance(piece, Body):
            while piece.left_bytes:
                taken += bytes(piece.take(10_000) or b"")
            piece.close()
        else:
            taken += piece
    return taken


@pytest.mark.parametrize(
    ("framing", "expected"),
    [
        (CHUNKED_EVENTS, b"5\r\nhello\r\n3\r\n:\n\n\r\na\r\n0123456789\r\n0\r\n\r\n"),
        (PLAIN_EVENTS, b"hello:\n\n0123456789"),
    ],
)
def test_items_leave_in_order_and_framed(framing: Framing, expected: bytes) -> None:
    """Messages, a heartbeat and the end, as RFC 9112 section 7.1 writes them, or bare."""
    feed = FakeFeed(message(b"hello"), HEARTBEAT, message(b"0123456789"), End(1000, "enough"))
    stream = _stream(feed, framing)
    assert _drain(stream) == expected
    assert stream.is_over
    assert feed.closed == 1
    stream.close()
    assert feed.closed == 1, "once is enough"


@each("size", [1, SMALL_MESSAGE_BYTES, SMALL_MESSAGE_BYTES + 1])
@each("segments", [(), (SEGMENT,)])
@each("framing", [CHUNKED_EVENTS, PLAIN_EVENTS])
def test_message_of_any_size_is_whole(
    size: int, segments: tuple[Segment, ...], framing: Framing
) -> None:
    """Content of any size, with segments and without, between what frames it; no body stays."""
    bodies = Bodies()
    feed = FakeFeed(message(b"a" * size, *segments), message(b"next"))
    content = b"a" * size + bytes(1_000) * len(segments)
    before, after = framing.message(len(content))
    expected = before + content + after + b"next".join(framing.message(4))
    assert _drain(_stream(feed, framing, bodies=bodies)) == expected
    assert (bodies.count, bodies.segments_held) == (0, 0)


def test_large_content_is_not_copied() -> None:
    """Many slow clients amid the same large message share its bytes."""
    content = b"x" * (SMALL_MESSAGE_BYTES + 1)
    stream = _stream(FakeFeed(message(content)))
    assert stream.next() == b"10001\r\n"
    body = stream.next()
    assert isinstance(body, Body)
    view = body.in_memory(10)
    assert view is not None
    assert view.obj is content


def test_equal_message_is_framed_once() -> None:
    """All streams with the same message and framing get the same bytes object."""
    framed, same = Framed(), message(b"same")

    def given(said: Message, framing: Framing = CHUNKED_EVENTS) -> object:
        feed = FakeFeed(said)
        stream = Stream(feed, framing, None, framed=framed, bodies=Bodies(), is_mapped=True)
        stream.start(lambda: None)
        return stream.next()

    data = given(same)
    assert given(same) is data
    assert given(message(b"same")) is not data
    assert given(same, PLAIN_EVENTS) is same.content
    for number in range(FRAMED_MAX):
        given(message(b"%d" % number))
    assert given(same) == data, "forgotten at the bound, and made again"
    assert len(framed) <= FRAMED_MAX


@pytest.mark.parametrize("taken", range(4))
def test_drain_ends_behind_the_whole_message(taken: int) -> None:
    """Whatever was taken of a message when the server stops: it ends, then the stream does."""
    large = message(b"x" * (SMALL_MESSAGE_BYTES + 1), SEGMENT)
    feed = FakeFeed(large, message(b"never"))
    stream = _stream(feed)
    pieces = [stream.next() for _ in range(taken)]
    for piece in pieces:
        if isinstance(piece, Body):
            piece.close()
    rest = _drain(stream, is_draining=True)
    assert rest.endswith(b"0\r\n\r\n")
    if taken in (1, 2):
        assert rest.endswith(b"\r\n0\r\n\r\n")
    assert b"never" not in rest
    assert feed.closed == 1


def test_replies_go_between_two_messages() -> None:
    """What an inbox has to say leaves before the next message, never amid one."""
    inbox = FakeInbox()
    feed = FakeFeed(message(b"x" * (SMALL_MESSAGE_BYTES + 1)), message(b"b"))
    stream = _stream(feed, CHUNKED_EVENTS, inbox)
    assert stream.next() == b"10001\r\n"
    inbox.waiting = b"pong"
    body = stream.next()
    assert isinstance(body, Body)
    body.close()
    assert stream.next() == b"\r\n"
    assert stream.next() == b"pong"
    assert stream.next() == b"1\r\nb\r\n"
    assert stream.next() is None


@pytest.mark.parametrize("reply", [b"bye", b""])
def test_inbox_that_is_over_ends_the_stream(reply: bytes) -> None:
    """The client has ended its stream: the last reply leaves, if there is one, and no message."""
    inbox, feed = FakeInbox(), FakeFeed(message(b"never"))
    stream = _stream(feed, CHUNKED_EVENTS, inbox)
    inbox.is_over, inbox.waiting = True, reply
    assert stream.next() == reply
    assert stream.is_over
    assert (feed.closed, feed.pulled) == (1, 0)


def test_stream_is_drained_behind_a_whole_message_alone() -> None:
    """Neither behind a reply, nor amid a large message: what follows would never be pulled."""
    inbox = FakeInbox()
    feed = FakeFeed(message(b"a"), message(b"x" * (SMALL_MESSAGE_BYTES + 1)), message(b"b"))
    feed.is_drained = True
    stream = _stream(feed, CHUNKED_EVENTS, inbox)
    assert stream.next() == b"1\r\na\r\n"
    assert stream.is_drained
    inbox.waiting = b"pong"
    assert stream.next() == b"pong"
    assert not stream.is_drained
    assert stream.next() == b"10001\r\n"
    assert not stream.is_drained
    body = stream.next()
    assert isinstance(body, Body)
    body.close()
    assert not stream.is_drained
    assert stream.next() == b"\r\n"
    assert not stream.is_drained
    assert stream.next() == b"1\r\nb\r\n"
    assert stream.is_drained
