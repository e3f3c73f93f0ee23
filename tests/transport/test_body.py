"""Bodies: every byte of a response once and in order, and what all of them hold together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sources import Scatters
from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.messages import Response
from zerocopy.core.plan import Segment, in_memory
from zerocopy.core.window import GATHERED_BYTES_MAX, TINY_BYTES, TINY_RUN
from zerocopy.transport import body as body_module
from zerocopy.transport.body import Bodies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.transport.body import Body

FILE = bytes(range(256)) * 1_000


class FakeSource(Scatters):
    """FILE, of which those bytes below `there` are in memory."""

    def __init__(self, there: int = len(FILE)) -> None:
        self.there = there
        self.mapped: set[bool] = set()

    def fileno(self) -> int:
        """Never asked: a body holds no descriptor."""
        raise AssertionError

    def read(self, offset: int, count: int) -> bytes:
        """Never asked: threads read."""
        raise AssertionError((offset, count))

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:
        """What is below `there`."""
        self.mapped.add(mapped)
        return max(0, min(count, self.there - offset))

    def view(self, offset: int, count: int) -> memoryview:
        """The bytes."""
        return memoryview(FILE)[offset : offset + count]


@pytest.fixture(name="source")
def fixture_source() -> FakeSource:
    """All of it in memory."""
    return FakeSource()


def open_body(content: bytes, segments: Sequence[Segment], bodies: Bodies | None = None) -> Body:
    """A body of so many bytes."""
    segment_bytes = sum(segment.count for segment in segments)
    return (bodies or Bodies()).open(content, segments, segment_bytes, mapped=True)


def read_ahead(body: Body) -> bool:
    """Do what a thread does with the next window; whether there is one."""
    window = body.next_window()
    if window is None:
        return False
    if window.gathers:
        pieces = [part.source.view(part.offset, part.count) for part in window.slices]
        window.content = memoryview(b"".join(pieces))
    body.prepared(window, None)
    return True


@pytest.mark.parametrize("most", [1, 7, 1_000, 1 << 20])
@pytest.mark.parametrize("there", [0, len(FILE)])
def test_bytes_are_taken_once_and_in_order(most: int, there: int) -> None:
    """Content, files, memory and gathered runs, in pieces of any size, warm or cold."""
    source = FakeSource(there)
    tiny = [Segment(source, at, 1 + at % 5) for at in range(TINY_RUN)]
    segments = [
        Segment(source, 5, TINY_BYTES + 1), in_memory(b"between"), *tiny, Segment(source, 0, 9),
        Segment(source, 2, TINY_BYTES + 2),
    ]  # fmt: skip
    body, taken = open_body(b"content", segments), b""
    whole = body.left_bytes
    while body.left_bytes:
        piece = body.take(most)
        assert body.is_waiting == (piece is None)
        if piece is None:
            assert read_ahead(body), "who waits is told what to read"
        else:
            assert 0 < len(piece) <= most
            taken += piece
        assert body.left_bytes == whole - len(taken)
    expected = b"".join(
        b"between" if segment.source is not source else FILE[segment.offset :][: segment.count]
        for segment in segments
    )
    assert taken == b"content" + expected
    assert source.mapped == {True}


def test_sender_may_take_less_than_it_was_given(source: FakeSource) -> None:
    """What has left is told afterwards, from memory and from a file alike."""
    body = open_body(b"content", [Segment(source, 10, 100)])
    assert bytes(body.in_memory(1_000) or b"") == b"content"
    body.advance(3)
    assert bytes(body.in_memory(2) or b"") == b"te"
    body.advance(4)
    assert body.in_memory(1_000) is None
    assert body.allowed(30) == 30
    assert body.file_range == (source, 10, 100)
    body.advance(20)
    assert body.file_range == (source, 30, 80)
    assert body.allowed(1_000) == 80
    body.advance(80)
    assert body.left_bytes == 0


def test_bytes_are_joined_with_those_behind_them_but_not_with_what_may_have_to_be_read(
    source: FakeSource,
) -> None:
    """Content with the file, a segment with the next; neither the last nor gathered ones."""
    alone = open_body(b"content", [])
    assert not alone.joins_next
    tiny = [Segment(source, at, 2) for at in range(TINY_RUN)]
    body = open_body(b"content", [Segment(source, 0, TINY_BYTES + 1), *tiny])
    assert body.joins_next
    body.advance(7)
    assert body.joins_next
    body.advance(TINY_BYTES + 1)
    assert not body.allowed(1)
    assert read_ahead(body)
    assert body.in_memory(1_000) is not None
    assert not body.joins_next
    last = open_body(b"", [Segment(source, 0, 5)])
    assert not last.joins_next


def test_body_waits_until_its_window_is_ready() -> None:
    """And raises, where its bytes come, why it cannot be made so."""
    source = FakeSource(there=0)
    for error in (None, DataChangedError("by the test")):
        body = open_body(b"", [Segment(source, 0, 100)])
        assert body.next_window() is None, "nobody has asked"
        assert body.take(10) is None
        window = body.next_window()
        assert window is not None
        assert body.next_window() is None, "one at a time"
        assert body.take(10) is None
        body.prepared(window, error)
        assert not body.is_waiting
        if error is None:
            assert body.take(10) == FILE[:10]
        else:
            with pytest.raises(DataChangedError):
                body.take(10)


def test_body_that_expires_asks_again() -> None:
    """What was ready when its client stalled may have gone since."""
    source = FakeSource(there=0)
    body = open_body(b"", [Segment(source, 0, 100)])
    assert body.take(10) is None
    assert read_ahead(body)
    assert body.take(10) == FILE[:10]
    body.expire()
    assert body.take(10) is None
    assert body.is_waiting


def test_body_is_from_the_disk_as_its_last_window_was() -> None:
    """It is not known before."""
    body = open_body(b"", [Segment(FakeSource(there=0), 0, 100)])
    assert not body.is_from_disk
    assert body.take(10) is None
    window = body.next_window()
    assert window is not None
    window.missing_bytes = 100
    body.prepared(window, None)
    assert body.is_from_disk


def test_closing_gives_back_once_what_is_held(source: FakeSource) -> None:
    """And nobody reads on for it."""
    source.there = 0
    bodies = Bodies()
    body = open_body(b"content", [Segment(source, 0, 5), Segment(source, 5, 5)], bodies)
    other = open_body(b"content", [], bodies)
    assert (bodies.count, bodies.segments_held, body.segment_count) == (2, 2, 2)
    body.advance(7)
    assert body.take(10) is None
    window = body.next_window()
    assert window is not None
    for _ in range(2):
        body.close()
        assert body.is_closed
        assert (bodies.count, bodies.segments_held) == (1, 0)
    assert window.is_cancelled
    body.prepared(window, None)
    other.close()
    assert (bodies.count, bodies.segments_held) == (0, 0)


def test_response_without_segments_has_nothing_to_read_ahead() -> None:
    """Its content is where it is."""
    body = open_body(b"content", [])
    assert body.next_window() is None
    assert body.take(100) == b"content"
    assert body.left_bytes == 0


def test_room_is_bounded_but_one_response_is_always_served(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many segments it has; and one without segments needs no room."""
    monkeypatch.setattr(body_module, "SEGMENTS_HELD_MAX", 3)
    bodies = Bodies()

    def response(count: int) -> Response:
        return Response(200, (), b"", (Segment(source, 0, 1),) * count)

    assert bodies.has_room_for(response(100))
    held = open_body(b"", [Segment(source, 0, 1)] * 2, bodies)
    assert bodies.has_room_for(response(1))
    assert not bodies.has_room_for(response(2))
    assert bodies.has_room_for(response(0))
    held.close()
    assert bodies.has_room_for(response(2))


def test_bodies_divide_open_files_and_gathered_bytes(source: FakeSource) -> None:
    """By their segments, and by their number."""
    bodies = Bodies(open_files_max=400)
    opened = [open_body(b"", [Segment(source, 0, 1)] * count, bodies) for count in (10, 30)]
    assert (bodies.slices_max(10), bodies.slices_max(30)) == (25, 75)
    assert bodies.gathered_bytes_max == GATHERED_BYTES_MAX
    opened += [open_body(b"x", [], bodies) for _ in range(1_000)]
    assert TINY_BYTES <= bodies.gathered_bytes_max < GATHERED_BYTES_MAX
    for body in opened:
        body.close()
    assert bodies.gathered_bytes_max == GATHERED_BYTES_MAX


def test_bodies_of_a_connection_share_a_window() -> None:
    """Each of two reads half as far ahead."""
    source = FakeSource(there=0)
    for share, count in ((1, 1_000), (2, 500)):
        body = open_body(b"", [Segment(source, 0, 100_000)], Bodies(window_bytes_max=1_000))
        assert body.take(10) is None
        window = body.next_window(share)
        assert window is not None
        assert window.slices[0].count == count
