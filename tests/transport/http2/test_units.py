"""The parts of HTTP/2 that need no connection: heads, frame headers, and bodies cut into frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hpack
import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.messages import Response
from zerocopy.core.plan import Segment
from zerocopy.core.window import WINDOW_SLICES_MAX
from zerocopy.transport.http2 import head as http2_head
from zerocopy.transport.http2.body import Body
from zerocopy.transport.http2.head import frame_header, goaway_frame, literal, render_head
from zerocopy.transport.transfer import SEGMENT_COST_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=300).map(
    lambda text: text.encode("latin-1")
)
STATIC_NAMES = st.sampled_from([name for name, _ in hpack.table.HeaderTable.STATIC_TABLE])


def decode(block: bytes) -> list[tuple[bytes, bytes]]:
    """What hpack's own decoder reads, having checked that its dynamic table stays empty."""
    decoder = hpack.Decoder()
    decoder.max_header_list_size = 1 << 20
    fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
    assert not decoder.header_table.dynamic_entries
    return fields


# ---- heads


@given(name=NAMES | STATIC_NAMES, value=VALUES)
def test_literal_reads_back_and_leaves_no_trace(name: bytes, value: bytes) -> None:
    """Any field is decoded to itself, by a decoder whose dynamic table stays as it was."""
    assert decode(literal(name, value)) == [(name, value)]


@pytest.mark.parametrize(
    "index", range(1, len(hpack.table.HeaderTable.STATIC_TABLE) + 1), ids=lambda index: f"{index}"
)
def test_field_of_the_static_table_is_one_byte(index: int) -> None:
    """RFC 7541 section 6.1: fields that have a value there; names without one cost no name."""
    name, value = hpack.table.HeaderTable.STATIC_TABLE[index - 1]
    if value:
        assert literal(name, value) == bytes([0x80 | index])
    else:
        assert len(literal(name, b"")) <= 3
    assert decode(literal(name, b"other")) == [(name, b"other")]
    assert len(literal(name, b"other")) <= 2 + 1 + 5


@given(value=VALUES)
def test_string_is_the_shorter_of_both_forms(value: bytes) -> None:
    """Huffman's code is taken where it saves bytes, the plain octets else."""
    coded = http2_head._HUFFMAN.encode(value)
    length = min(len(coded), len(value))
    prefix = len(hpack.hpack.encode_integer(length, 7))
    string = http2_head._string(value)
    assert len(string) == prefix + length
    assert bool(string[0] & 0x80) == (len(coded) < len(value))


@given(fields=st.lists(st.tuples(NAMES, VALUES), max_size=12), content=st.binary(max_size=99))
def test_head_has_status_server_fields_and_length_in_order(
    fields: list[tuple[bytes, bytes]], content: bytes
) -> None:
    """The block of a response is its fields in lower case, between :status and Content-Length."""
    upper = tuple((name.upper(), value) for name, value in fields)
    response = Response(200, upper, content)
    block = render_head(response)
    assert response.head_h2 == block
    assert decode(block) == [
        (b":status", b"200"),
        (b"server", b"zerocopy"),
        *fields,
        (b"content-length", b"%d" % len(content)),
    ]


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 405, 417, 431, 500, 503])
def test_head_without_content_has_no_length(status: int) -> None:
    """RFC 9110 section 8.6: no Content-Length in a 204, and none that would lie in a 304."""
    fields = dict(decode(render_head(Response(status, ()))))
    assert fields.pop(b":status") == b"%d" % status
    assert fields.pop(b"server") == b"zerocopy"
    assert fields == ({} if status in {204, 304} else {b"content-length": b"0"})


def test_blocks_mix_with_those_of_an_encoder() -> None:
    """Between two blocks that add to and read the dynamic table ours changes nothing."""
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    fields = [(b"x-first", b"1"), (b"x-second", b"2")]
    ours = render_head(Response(200, ((b"ETag", b'"x"'),), b"abc"))
    first, again = encoder.encode(fields), encoder.encode(fields)
    assert len(again) == 2
    assert decoder.decode(first, raw=True) == fields
    assert len(list(decoder.decode(ours, raw=True))) == 4
    assert decoder.decode(again, raw=True) == fields


@given(
    nbytes=st.integers(0, (1 << 24) - 1),
    kind=st.sampled_from([0, 1, 3, 4, 6, 7, 8, 9]),
    stream_id=st.integers(1, (1 << 31) - 1),
)
def test_frame_header_is_what_a_parser_reads(nbytes: int, kind: int, stream_id: int) -> None:
    """Length, type and stream of every size are read back by hyperframe."""
    if kind in {4, 6, 7}:
        stream_id = 0
    frame, length = Frame.parse_frame_header(memoryview(frame_header(nbytes, kind, 0, stream_id)))
    assert (length, frame.type, frame.stream_id) == (nbytes, kind, stream_id)


@given(last=st.integers(0, (1 << 31) - 1), code=st.integers(0, 13))
def test_goaway_is_the_frame_of_a_library(last: int, code: int) -> None:
    """The bytes are those that hyperframe serializes."""
    ours = goaway_frame(last, code)
    assert ours == GoAwayFrame(0, last_stream_id=last, error_code=code).serialize()


# ---- bodies


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
        """A slice; an empty source has changed."""
        if not self.content:
            raise DataChangedError("a day file changed")
        assert offset + count <= len(self.content)
        return memoryview(self.content)[offset : offset + count]


def body_of(content: bytes, parts: Sequence[bytes], *, is_ready: bool = True) -> Body:
    """A body whose segments lie behind a margin in their sources."""
    segments = tuple(
        Segment(FakeSource(b"margin" + part + b"tail", is_ready=is_ready), 6, len(part))
        for part in parts
    )
    return Body(Response(200, (), content, segments), now=0)


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


@settings(max_examples=200)
@given(
    content=st.binary(max_size=200),
    parts=st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    budgets=st.lists(st.integers(0, 500), min_size=1, max_size=6).filter(any),
    frame_bytes_max=st.integers(1, 200),
)
@pytest.mark.usefixtures("nothing_is_tiny")
def test_frames_carry_the_body_exactly(
    content: bytes, parts: list[bytes], budgets: list[int], frame_bytes_max: int
) -> None:
    """Whatever the turns and the frames: every byte once, none above a bound, one END_STREAM."""
    body = body_of(content, parts)
    whole = content + b"".join(parts)
    assert body.left == len(whole)
    raw, turn = b"", 0
    while body.left:
        budget, left = budgets[turn % len(budgets)], body.left
        frames: list[bytes | memoryview] = []
        taken = body.take_frames(frames, 7, budget, frame_bytes_max)
        assert taken <= budget
        assert bool(taken) == bool(budget)
        assert left - taken == body.left
        assert sum(len(payload) for payload, _ in parse(b"".join(frames))) == taken
        raw += b"".join(frames)
        turn += 1
    parsed = parse(raw)
    assert b"".join(payload for payload, _ in parsed) == whole
    assert all(0 < len(payload) <= frame_bytes_max for payload, _ in parsed)
    ends = [is_end for _, is_end in parsed]
    assert ends == [False] * (len(ends) - 1) + [True] * bool(ends)
    assert body.next_window(1, WINDOW_SLICES_MAX) is None


@pytest.mark.usefixtures("nothing_is_tiny")
def test_many_tiny_segments_end_a_turn() -> None:
    """A segment costs its turn `SEGMENT_COST_BYTES` at the least; the next turn goes on there."""
    body = body_of(b"", [b"x"] * 20)
    frames: list[bytes | memoryview] = []
    assert body.take_frames(frames, 7, 4 * SEGMENT_COST_BYTES, 16_384) == 4
    assert body.left == 16
    assert body.segment_count == 20


@pytest.mark.usefixtures("nothing_is_tiny")
def test_cold_segment_stops_the_turn_behind_what_is_ready() -> None:
    """Content leaves without its segments; then what is not ready is told, a window at most."""
    body = body_of(b"head", [b"x"] * (WINDOW_SLICES_MAX + 3), is_ready=False)
    frames: list[bytes | memoryview] = []
    assert body.next_window(1, WINDOW_SLICES_MAX) is None  # the content needs nothing
    assert body.take_frames(frames, 7, 65_536, 16_384) == 4
    assert body.is_waiting
    window = body.next_window(1, WINDOW_SLICES_MAX)
    assert window is not None
    assert window.slices == list(body._segments[:WINDOW_SLICES_MAX])
    assert body.next_window(1, WINDOW_SLICES_MAX) is None  # it is being read


@pytest.mark.usefixtures("nothing_is_tiny")
def test_window_that_was_prepared_in_vain_does_not_stop_it_twice() -> None:
    """What was told and is still not ready is sent: a full cache must not hold it up."""
    body = body_of(b"", [b"a"] * (WINDOW_SLICES_MAX + 1), is_ready=False)
    frames: list[bytes | memoryview] = []
    for sent, count in ((0, WINDOW_SLICES_MAX), (WINDOW_SLICES_MAX, 1)):
        assert body.take_frames(frames, 7, 1 << 20, 16_384) == sent
        window = body.next_window(1, WINDOW_SLICES_MAX)
        assert window is not None
        assert len(window.slices) == count
        body.prepared(window, None)
    assert body.take_frames(frames, 7, 1 << 20, 16_384) == 1
    assert parse(b"".join(frames)) == [(b"a", False)] * WINDOW_SLICES_MAX + [(b"a", True)]


def test_gathered_segments_fill_frames_together() -> None:
    """Tiny segments leave in full frames, across their ends, in turns of any size."""
    parts = [bytes([number]) * 700 for number in range(200)]
    body = body_of(b"head", parts, is_ready=False)
    frames: list[bytes | memoryview] = []
    while body.left:
        body.take_frames(frames, 7, 50_000, 16_384)
        window = body.next_window(1, WINDOW_SLICES_MAX)
        if window is not None:
            assert window.gathers
            window.content = memoryview(b"".join(parts[window.start[0] : window.stop[0]]))
            body.prepared(window, None)
    parsed = parse(b"".join(frames))
    assert b"".join(payload for payload, _ in parsed) == b"head" + b"".join(parts)
    assert len(parsed) < 20, "many segments in a frame"


def test_bodies_of_a_connection_share_its_window() -> None:
    """Each of four reads a quarter ahead."""
    body = body_of(b"", [b"a" * 400], is_ready=False)
    body._ahead._window_bytes_max = 400
    assert body.take_frames([], 7, 1 << 20, 16_384) == 0
    window = body.next_window(4, WINDOW_SLICES_MAX)
    assert window is not None
    assert [piece.count for piece in window.slices] == [100]


def test_window_that_failed_ends_the_body_behind_what_is_ready() -> None:
    """The error of a thread is raised by the turn that comes to its bytes, not by one before."""
    body = body_of(b"", [b"ok", b"cold"])
    later = body._segments[1].source
    assert isinstance(later, FakeSource)
    later.is_ready = False
    assert body.take_frames([], 7, 1 << 20, 16_384) == 2
    window = body.next_window(1, WINDOW_SLICES_MAX)
    assert window is not None
    assert [piece.source for piece in window.slices] == [later]
    body.prepared(window, DataChangedError("a day file changed"))
    with pytest.raises(DataChangedError):
        body.take_frames([], 7, 1 << 20, 16_384)


def test_changed_file_raises_before_its_frame() -> None:
    """What the source raises reaches the caller, and no frame is left half-made."""
    segments = (Segment(FakeSource(b"ok"), 0, 2), Segment(FakeSource(b""), 0, 5))
    body = Body(Response(200, (), b"", segments), now=0)
    frames: list[bytes | memoryview] = []
    with pytest.raises(DataChangedError):
        body.take_frames(frames, 7, 1 << 20, 16_384)
    assert parse(b"".join(frames)) == [(b"ok", False)]
