"""Bodies cut into DATA frames: every byte once, within the bounds of a turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hyperframe.frame import DataFrame, Frame
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.errors import DataChangedError
from zerocopy.core.plan import Segment, spread
from zerocopy.core.window import WINDOW_SLICES_MAX
from zerocopy.transport.body import SEGMENT_COST_BYTES, Bodies, Body
from zerocopy.transport.http2.frames import BUFFER_BYTES, FrameBuffer
from zerocopy.transport.readahead import WINDOW_BYTES_MAX
from zerocopy.transport.tls.channel import SEND_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence


BUFFER = FrameBuffer()


class FakeSource:
    """Bytes in memory; `is_ready` is what it says of itself."""

    def __init__(self, content: bytes, *, is_ready: bool = True) -> None:
        self.content = content
        self.is_ready = is_ready

    def fileno(self) -> int:
        """Never asked: frames are copied."""
        raise AssertionError

    def read(self, offset: int, count: int) -> bytes:
        """Never asked: slices are views."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """As the test wants it."""
        return count if self.is_ready else 0

    def view(self, offset: int, count: int) -> memoryview:
        """Never asked: frames are filled where they stand."""
        raise AssertionError((offset, count))

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """A copy of a slice; an empty source has changed."""
        if not self.content:
            raise DataChangedError("a day file changed")
        assert offset + sum(map(len, targets)) <= len(self.content)
        spread(memoryview(self.content)[offset:], targets)


def body_of(
    content: bytes,
    parts: Sequence[bytes],
    *,
    is_ready: bool = True,
    window_bytes_max: int = WINDOW_BYTES_MAX,
) -> Body:
    """A body whose segments lie behind a margin in their sources."""
    segments = tuple(
        Segment(FakeSource(b"margin" + part + b"tail", is_ready=is_ready), 6, len(part))
        for part in parts
    )
    return opened(content, segments, window_bytes_max)


def opened(
    content: bytes, segments: Sequence[Segment], window_bytes_max: int = WINDOW_BYTES_MAX
) -> Body:
    """The body of a listener that has no other."""
    bodies = Bodies(window_bytes_max=window_bytes_max)
    nbytes = sum(segment.count for segment in segments)
    return bodies.open(content, segments, nbytes, mapped=True)


def take(
    body: Body,
    frames: list[bytes],
    most: int = 1 << 20,
    frame_bytes_max: int = 16_384,
    head: bytes = b"",
) -> int:
    """Frames of stream 7 behind `head`, appended to `frames`; how many bytes they carry."""
    view, taken = BUFFER.fill(body, 7, head, most=most, frame_bytes_max=frame_bytes_max)
    frames.append(bytes(view))
    return taken


def take_all(body: Body, frames: list[bytes]) -> int:
    """Turn by turn, until the body ends or waits."""
    total = 0
    while body.left_bytes and (taken := take(body, frames)):
        total += taken
    return total


def parse(raw: bytes) -> list[tuple[bytes, bool]]:
    """Payload and END_STREAM of each DATA frame of stream 7."""
    frames, position = [], 0
    while position < len(raw):
        frame, length = Frame.parse_frame_header(memoryview(raw[position : position + 9]))
        assert isinstance(frame, DataFrame)
        assert frame.stream_id == 7
        payload = raw[position + 9 : position + 9 + length]
        assert len(payload) == length
        frames.append((payload, "END_STREAM" in frame.flags))
        position += 9 + length
    return frames


@given(
    content=st.binary(max_size=200),
    parts=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    budgets=st.lists(st.integers(0, 500), min_size=1, max_size=6).filter(any),
    frame_bytes_max=st.integers(100, 300),
)
@pytest.mark.usefixtures("nothing_is_tiny")
def test_frames_carry_the_body_exactly(
    content: bytes, parts: list[bytes], budgets: list[int], frame_bytes_max: int
) -> None:
    """Whatever the turns and the frames: every byte once, none above a bound, one END_STREAM."""
    body = body_of(content, parts)
    whole = content + b"".join(parts)
    assert body.left_bytes == len(whole)
    raw, turn = b"", 0
    while body.left_bytes:
        budget, left = budgets[turn % len(budgets)], body.left_bytes
        frames: list[bytes] = []
        taken = take(body, frames, budget, frame_bytes_max)
        assert taken <= budget
        assert bool(taken) == bool(budget)
        assert left - taken == body.left_bytes
        assert sum(len(payload) for payload, _ in parse(b"".join(frames))) == taken
        raw += b"".join(frames)
        turn += 1
    parsed = parse(raw)
    assert b"".join(payload for payload, _ in parsed) == whole
    assert all(0 < len(payload) <= frame_bytes_max for payload, _ in parsed)
    ends = [is_end for _, is_end in parsed]
    assert ends == [False] * (len(ends) - 1) + [True] * bool(ends)
    assert body.next_window() is None


@pytest.mark.usefixtures("nothing_is_tiny")
def test_many_tiny_segments_end_a_turn() -> None:
    """A segment costs its turn `SEGMENT_COST_BYTES` at the least; the next turn goes on there."""
    body = body_of(b"", [b"x"] * 20)
    frames: list[bytes] = []
    assert take(body, frames, 4 * SEGMENT_COST_BYTES) == 4
    assert body.left_bytes == 16
    assert body.segment_count == 20


@pytest.mark.usefixtures("nothing_is_tiny")
def test_cold_segment_stops_the_turn_behind_what_is_ready() -> None:
    """Content leaves without its segments; then what is not ready is told, a window at most."""
    body = body_of(b"head", [b"x"] * (WINDOW_SLICES_MAX + 3), is_ready=False)
    frames: list[bytes] = []
    assert body.next_window() is None  # the content needs nothing
    assert take(body, frames, 65_536) == 4
    assert body.is_waiting
    window = body.next_window()
    assert window is not None
    assert window.slices == list(body._segments[:WINDOW_SLICES_MAX])
    assert body.next_window() is None  # it is being read


@pytest.mark.usefixtures("nothing_is_tiny")
def test_window_that_was_prepared_in_vain_does_not_stop_it_twice() -> None:
    """What was told and is still not ready is sent: a full cache must not hold it up."""
    body = body_of(b"", [b"a"] * (WINDOW_SLICES_MAX + 1), is_ready=False)
    frames: list[bytes] = []
    for sent, count in ((0, WINDOW_SLICES_MAX), (WINDOW_SLICES_MAX, 1)):
        assert take_all(body, frames) == sent
        window = body.next_window()
        assert window is not None
        assert len(window.slices) == count
        body.prepared(window, None)
    assert take_all(body, frames) == 1
    assert parse(b"".join(frames)) == [(b"a", False)] * WINDOW_SLICES_MAX + [(b"a", True)]


def test_gathered_segments_fill_frames_together() -> None:
    """Tiny segments leave in full frames, across their ends, in turns of any size."""
    parts = [bytes([number]) * 700 for number in range(200)]
    body = body_of(b"head", parts, is_ready=False)
    frames: list[bytes] = []
    while body.left_bytes:
        take(body, frames, 50_000)
        window = body.next_window()
        if window is not None:
            assert window.gathers
            window.content = memoryview(b"".join(parts[window.start[0] : window.stop[0]]))
            body.prepared(window, None)
    parsed = parse(b"".join(frames))
    assert b"".join(payload for payload, _ in parsed) == b"head" + b"".join(parts)
    assert len(parsed) < 20, "many segments in a frame"


def test_bodies_of_a_connection_share_its_window() -> None:
    """Each of four reads a quarter ahead."""
    body = body_of(b"", [b"a" * 400], is_ready=False, window_bytes_max=400)
    assert take(body, []) == 0
    window = body.next_window(4)
    assert window is not None
    assert [piece.count for piece in window.slices] == [100]


def test_window_that_failed_ends_the_body_behind_what_is_ready() -> None:
    """The error of a thread is raised by the turn that comes to its bytes, not by one before."""
    body = body_of(b"", [b"ok", b"cold"])
    later = body._segments[1].source
    assert isinstance(later, FakeSource)
    later.is_ready = False
    assert take(body, []) == 2
    window = body.next_window()
    assert window is not None
    assert [piece.source for piece in window.slices] == [later]
    body.prepared(window, DataChangedError("a day file changed"))
    with pytest.raises(DataChangedError):
        take(body, [])


def test_changed_file_raises_before_its_frame() -> None:
    """What the source raises reaches the caller, who sends nothing of the turn."""
    segments = (Segment(FakeSource(b"ok"), 0, 2), Segment(FakeSource(b""), 0, 5))
    body = opened(b"", segments)
    frames: list[bytes] = []
    with pytest.raises(DataChangedError):
        take(body, frames)
    assert frames == []


@each("head", [b"", b"h" * 99])
@each("frame_bytes_max", [16_384, 16_777_215])
@each("spare", [-1, 0, 1])
def test_turn_holds_as_much_as_the_buffer(head: bytes, frame_bytes_max: int, spare: int) -> None:
    """A head, frame headers and content fill it to the byte; the next turn has the rest."""
    nbytes_a_turn = BUFFER_BYTES - len(head) - 9 * -(-BUFFER_BYTES // (frame_bytes_max + 9))
    content = bytes(range(256)) * (BUFFER_BYTES // 256 + 1)
    whole = content[: nbytes_a_turn + spare]
    body = body_of(b"", [whole])
    frames: list[bytes] = []
    assert take(body, frames, 1 << 20, frame_bytes_max, head) == min(len(whole), nbytes_a_turn)
    assert len(frames[0]) <= BUFFER_BYTES
    assert frames[0].startswith(head)
    frames[0] = frames[0].removeprefix(head)
    while body.left_bytes:
        take(body, frames, 1 << 20, frame_bytes_max)
    parsed = parse(b"".join(frames))
    assert b"".join(payload for payload, _ in parsed) == whole
    assert [is_end for _, is_end in parsed] == [False] * (len(parsed) - 1) + [True]


@pytest.mark.parametrize("split", [1, 16_383, 16_384, 100_001])
def test_turn_of_several_segments_is_one_piece_of_the_channel(split: int) -> None:
    """Where a segment ends a frame does, and its header too has its place in the buffer."""
    content = bytes(range(256)) * (BUFFER_BYTES // 256)
    body = body_of(b"", [content[:split], content[split:]])
    frames: list[bytes] = []
    taken = take(body, frames)
    assert BUFFER_BYTES - 9 <= len(frames[0]) <= BUFFER_BYTES <= SEND_BYTES_MAX
    assert b"".join(payload for payload, _ in parse(frames[0])) == content[:taken]


def test_frames_that_lie_there_are_those_of_the_same_stream_and_client() -> None:
    """Equal turns of another stream, of a client with other frames, and behind a lone head."""
    frames, bodies = FrameBuffer(), [body_of(b"", [b"x" * 1_000_000]) for _ in range(3)]

    def first_of(body: Body, stream_id: int, frame_bytes_max: int) -> bytes:
        built, _ = frames.fill(body, stream_id, b"", most=65_536, frame_bytes_max=frame_bytes_max)
        return bytes(built[:9])

    assert first_of(bodies[0], 1, 65_536) == b"\1\0\0\0\0\0\0\0\1"
    assert first_of(bodies[1], 1, 16_384) == b"\0\x40\0\0\0\0\0\0\1"
    assert first_of(bodies[2], 3, 16_384) == b"\0\x40\0\0\0\0\0\0\3"
    late = body_of(b"", [b"y" * 100_000], is_ready=False)
    _, taken = frames.fill(late, 5, b"a head alone", most=65_536, frame_bytes_max=16_384)
    assert not taken
    assert first_of(bodies[2], 3, 16_384) == b"\0\x40\0\0\0\0\0\0\3"
