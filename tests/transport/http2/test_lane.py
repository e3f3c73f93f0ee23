"""The fast lane against a real h2 client: when a repeated block is answered, and when not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded
from h2.settings import SettingCodes

from zerocopy.core.access import Grant
from zerocopy.core.counters import SENT_BYTES_COPY, SLOTS, TLS, requests_slot
from zerocopy.core.endpoints import DATA
from zerocopy.core.http.messages import Request, Response
from zerocopy.transport.http2.errors import JudgedConnection
from zerocopy.transport.http2.head import literal
from zerocopy.transport.http2.lane import BLOCK_BYTES_MAX, BLOCKS_MAX, Lane, Proved
from zerocopy.transport.metered_metrics import MeteredMetrics
from zerocopy.transport.request_metrics import RequestMetrics

if TYPE_CHECKING:
    from zerocopy.core.access import Usage
    from zerocopy.core.plan import Segment
    from zerocopy.transport.http2.context import Http2Context
    from zerocopy.transport.http2.lane import Waiting

HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "t"), (":path", "/api/data?x")]
CONTENT = bytes(range(256)) * 16
DATE = literal(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")


class FakeHandler:
    """Knows `response` at once; None where a plan has to be made."""

    is_counting = False

    def __init__(self) -> None:
        self.response: Response | None = Response(200, ((b"ETag", b'"e"'),), CONTENT)
        self.left = 100
        self.asked = 0
        self.reused = 0

    def respond_now(self, _request: Request, times: int = 1) -> Response | None:
        """The response, not counted: whether it is of use is known later."""
        assert times == 0
        self.asked += 1
        return self.response

    def counts(self, _request: Request) -> bool:
        """Everybody has limits."""
        return True

    def admits(self, _request: Request, response: Response) -> bool:
        """While some are left."""
        assert response is self.response
        self.left -= 1
        return self.left >= 0

    def count_reused(self, times: int) -> None:
        """Requests answered without asking."""
        self.reused += times


class Wire:
    """A client's h2 connection, a server's, and the lane of the latter; frames go by hand."""

    def __init__(self, initial_window: int = 65_535) -> None:
        self.handler = FakeHandler()
        self.counters = [0] * len(SLOTS)
        shared = SimpleNamespace(
            handler=self.handler,
            counters=self.counters,
            metrics=RequestMetrics(TLS, self.counters),
            streams_max=4,
            date_h2=DATE,
            batch=SimpleNamespace(known=lambda request: request, rendered={}),
            scheduler=SimpleNamespace(hurry=lambda _: None),
        )
        self.context = cast("Http2Context", shared)
        self.proved = Proved()
        self.frames = b""
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.server = JudgedConnection(H2Configuration(client_side=False, header_encoding=None))
        self.client.initiate_connection()
        self.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: initial_window})
        self.server.initiate_connection()
        for _ in range(2):
            self.server.receive_data(self.client.data_to_send())
            self.client.receive_data(self.server.data_to_send())
        self.lane = Lane(self.server, self.context)

    def ask(self, *more: tuple[str, str]) -> tuple[int, bytes]:
        """The stream and the block of a client's GET; END_HEADERS and one frame are checked."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, [*HEAD, *more], end_stream=True)
        raw = self.client.data_to_send()
        assert len(raw) == 9 + int.from_bytes(raw[:3], "big")
        assert raw[3:5] == b"\x01\x05"
        return stream_id, raw[9:]

    def give_to_h2(self, stream_id: int, block: bytes) -> Request:
        """Have h2 read the request, as Http2Connection does, answer it, and teach the lane."""
        raw = len(block).to_bytes(3, "big") + b"\x01\x05" + stream_id.to_bytes(4, "big") + block
        events = self.server.receive_data(raw)
        fields = next(event for event in events if isinstance(event, RequestReceived)).headers
        request = Request(b"GET", b"/api/data?x", tuple((bytes(n), bytes(v)) for n, v in fields))
        if self.lane.is_table_unchanged():
            self.lane.learn(block, request)
        self.server.send_headers(stream_id, [(":status", "200")], end_stream=True)
        self.client.receive_data(self.server.data_to_send())
        return request

    def warm(self) -> None:
        """Two requests: the first adds its fields to the table, the second is remembered."""
        for _ in range(2):
            self.give_to_h2(*self.ask())

    def is_answered(self, block: bytes, stream_id: int) -> bool:
        """Whether the lane answers it; what it has written waits in `frames`."""
        answered, frames = self.lane.answer([(0, block, stream_id)], self.proved)
        self.frames += frames
        return bool(answered)

    def written(self) -> bytes:
        """The frames so far; what was proved must be proved again from now on."""
        self.proved.settle(self.context, 0)
        frames, self.frames = self.frames, b""
        return frames

    def answer(self) -> list[Any]:
        """What the client's h2 makes of the frames of the lane."""
        return list(self.client.receive_data(self.written()))


@pytest.fixture
def wire() -> Wire:
    """A warm connection."""
    wire = Wire()
    wire.warm()
    return wire


def test_block_is_remembered_only_when_it_added_nothing() -> None:
    """The first block of a client adds entries, so it is not the one to be repeated."""
    wire = Wire()
    first, block = wire.ask()
    wire.give_to_h2(first, block)
    assert wire.server.decoder.header_table.dynamic_entries
    assert not wire.is_answered(block, first + 2)
    second, repeated = wire.ask()
    assert repeated != block
    assert not wire.is_answered(repeated, second)
    wire.give_to_h2(second, repeated)
    third, same = wire.ask()
    assert same == repeated
    assert wire.is_answered(same, third)


def test_answer_is_whole_and_h2_knows_of_it(wire: Wire) -> None:
    """A client's h2 finds head and content exact; ours has moved window, stream and counters."""
    window = wire.server.outbound_flow_control_window
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id)
    response, *rest = wire.answer()
    assert isinstance(response, ResponseReceived)
    fields = {bytes(name): bytes(value) for name, value in response.headers}
    assert fields[b":status"] == b"200"
    assert fields[b"content-length"] == b"%d" % len(CONTENT)
    assert fields[b"date"] == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert b"".join(bytes(e.data or b"") for e in rest if isinstance(e, DataReceived)) == CONTENT
    assert isinstance(rest[-1], StreamEnded)
    assert wire.server.outbound_flow_control_window == window - len(CONTENT)
    assert wire.server.highest_inbound_stream_id == stream_id
    assert wire.counters[requests_slot(TLS, DATA, 200)] == 1
    assert wire.counters[SENT_BYTES_COPY] == len(CONTENT)
    late = b"\0\0\4\x08\0" + stream_id.to_bytes(4, "big") + b"\0\0\0\1"
    assert not wire.server.receive_data(late)  # WINDOW_UPDATE of a closed stream: no error
    wire.give_to_h2(*wire.ask())  # and h2 goes on with the next


def test_equal_requests_are_proved_once_and_all_counted(wire: Wire) -> None:
    """Three of one batch cost one question; what was proved is not believed in the next batch."""
    for _ in range(2):
        asked = wire.handler.asked
        for _ in range(3):
            stream_id, block = wire.ask()
            assert wire.is_answered(block, stream_id)
        assert sum(isinstance(event, StreamEnded) for event in wire.answer()) == 3
        assert wire.handler.asked == asked + 1
    assert wire.handler.reused == 6


def test_entry_added_makes_all_blocks_forgotten(wire: Wire) -> None:
    """After another field came into the table the same bytes may mean something else."""
    _, block = wire.ask()
    stream_id, adding = wire.ask(("x-new", "1"))
    assert not wire.is_answered(adding, stream_id)
    wire.give_to_h2(stream_id, adding)
    assert not wire.is_answered(block, stream_id + 2)
    wire.warm()
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id)


def test_table_size_changed_by_the_client_makes_all_forgotten(wire: Wire) -> None:
    """A block that begins with a size update evicts entries; old blocks are not answered."""
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id)
    wire.answer()
    wire.client.encoder.header_table_size = 0
    wire.client.encoder.header_table_size = 4_096
    stream_id, updating = wire.ask()
    assert not wire.is_answered(updating, stream_id)
    wire.give_to_h2(stream_id, updating)
    assert not wire.is_answered(block, stream_id + 2)


def test_table_size_wanted_by_the_client_is_told_first(wire: Wire) -> None:
    """SETTINGS_HEADER_TABLE_SIZE: the next block must begin with the new size; h2 writes that."""
    wire.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: 1_024})
    wire.server.receive_data(wire.client.data_to_send())
    wire.client.receive_data(wire.server.data_to_send())
    stream_id, block = wire.ask()
    assert not wire.is_answered(block, stream_id)
    wire.give_to_h2(stream_id, block)
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id)


@pytest.mark.parametrize("stream_id", [0, 1, 3, 6, 100])
def test_stream_that_may_not_be_opened_is_left_to_h2(wire: Wire, stream_id: int) -> None:
    """Zero, used and even ones are errors that h2 knows how to tell."""
    _, block = wire.ask()
    assert not wire.is_answered(block, stream_id)
    assert not wire.frames


def test_stream_answered_cannot_be_opened_again(wire: Wire) -> None:
    """The lane's own answers count as used streams, and so do lower ones that were skipped."""
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id + 4)
    for used in (stream_id, stream_id + 2, stream_id + 4):
        assert not wire.is_answered(block, used)


def test_too_many_streams_are_left_to_h2(wire: Wire) -> None:
    """With as many open as are allowed h2 refuses the next."""
    for _ in range(4):
        stream_id = wire.client.get_next_available_stream_id()
        wire.client.send_headers(stream_id, HEAD, end_stream=True)
        wire.server.receive_data(wire.client.data_to_send())
    stream_id, block = wire.ask()
    assert not wire.is_answered(block, stream_id)


def test_block_amid_an_unfinished_one_is_left_to_h2(wire: Wire) -> None:
    """RFC 9113 section 6.10: nothing but CONTINUATION may come then."""
    stream_id, block = wire.ask()
    raw = b"\0\0\1\x01\x01" + stream_id.to_bytes(4, "big") + block[:1]
    wire.server.receive_data(raw)
    assert not wire.is_answered(block, stream_id + 2)


@pytest.mark.parametrize("which", ["connection", "stream"])
@pytest.mark.parametrize("missing", [0, 1])
def test_answer_must_fit_the_windows(wire: Wire, which: str, missing: int) -> None:
    """To the byte; one that does not fit moves no window and leaves no frame."""
    room = len(CONTENT) - missing
    if which == "connection":
        wire.server.outbound_flow_control_window = room
    else:
        wire.lane.initial_window = room
    before = wire.server.outbound_flow_control_window
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id) == (not missing)
    if missing:
        assert not wire.frames
        assert wire.server.outbound_flow_control_window == before
        assert wire.server.highest_inbound_stream_id < stream_id


def test_window_of_the_clients_settings_is_known() -> None:
    """A lane begun after SETTINGS with a tiny window answers nothing that has content."""
    wire = Wire(initial_window=10)
    wire.warm()
    stream_id, block = wire.ask()
    assert not wire.is_answered(block, stream_id)


def test_plans_to_be_made_are_left_to_the_streams(wire: Wire) -> None:
    """No answer at once, no answer from the lane."""
    wire.handler.response = None
    stream_id, block = wire.ask()
    assert not wire.is_answered(block, stream_id)


def test_long_answers_are_cut_into_frames(wire: Wire) -> None:
    """Content above the frame size goes in several frames, the last of which ends the stream."""
    wire.handler.response = Response(200, (), CONTENT * 12)
    stream_id, block = wire.ask()
    assert wire.is_answered(block, stream_id)
    events = wire.answer()
    pieces = [bytes(e.data or b"") for e in events if isinstance(e, DataReceived)]
    assert [len(piece) for piece in pieces] == [16_384] * 3
    assert b"".join(pieces) == CONTENT * 12
    assert isinstance(events[-1], StreamEnded)


def test_memory_of_blocks_is_bounded(wire: Wire) -> None:
    """The oldest of too many is forgotten, and a long one is never remembered."""
    request = Request(b"GET", b"/api/data?x", ())
    for index in range(BLOCKS_MAX + 1):
        wire.lane.learn(b"block %d" % index, request)
    wire.lane.learn(bytes(BLOCK_BYTES_MAX + 1), request)
    assert not wire.is_answered(b"block 0", 99)
    assert not wire.is_answered(bytes(BLOCK_BYTES_MAX + 1), 99)
    assert wire.is_answered(b"block %d" % BLOCKS_MAX, 99)


def counting(wire: Wire, left: int) -> tuple[Lane, bytes, list[Waiting]]:
    """A lane whose handler has so many left; the block of a request it knows, six times asked."""
    wire.handler.is_counting, wire.handler.left = True, left
    lane = Lane(wire.server, wire.context)
    stream_id, block = wire.ask()
    lane.requests[block] = wire.lane.requests[block]
    return lane, block, [(0, block, stream_id + 2 * n) for n in range(6)]


def test_what_was_proved_for_one_is_not_given_to_who_has_none_left(wire: Wire) -> None:
    """Each request that has the same response is counted, and asked about, before it has it."""
    lane, _, waiting = counting(wire, 2)
    assert lane.answer(waiting, wire.proved)[0] == 2
    assert (wire.handler.asked, wire.handler.left) == (1, -1)


def test_who_has_no_limits_is_asked_about_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the proof; others on the same server may have limits."""
    monkeypatch.setattr(wire.handler, "counts", lambda _request: False)
    lane, _, waiting = counting(wire, 0)
    assert lane.answer(waiting, wire.proved)[0] == 6
    assert (wire.handler.asked, wire.handler.left) == (1, 0)


def test_whether_it_counts_is_asked_again_for_another_grant(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a head without limits may have some in the next reading of the file."""
    free, limited = Grant("free"), Grant("limited")
    monkeypatch.setattr(wire.handler, "counts", lambda request: request.grant is limited)
    lane, block, waiting = counting(wire, 1)
    request = lane.requests[block]
    for grant, answered in ((free, 3), (limited, 1)):
        request.be_granted(grant)
        assert lane.answer(waiting[:3], wire.proved)[0] == answered
        wire.proved.settle(wire.context, 0)
        del waiting[:3]


def test_bytes_count_at_once_and_not_when_the_turn_is_settled(wire: Wire) -> None:
    """Whoever is judged later in the same turn, on whatever connection, has had them already."""
    spent: list[int] = []
    metrics = MeteredMetrics(TLS, wire.counters, None, lambda _grant, _nbytes, _times: None)
    wire.context.metrics = metrics
    lane, block, waiting = counting(wire, 100)
    request = lane.requests[block]
    grant = Grant("desk")
    grant.usage = cast("Usage", SimpleNamespace(spend=spent.append))
    request.be_granted(grant)
    assert lane.answer(waiting[:3], wire.proved)[0] == 3
    assert spent == 3 * [len(CONTENT)]
    wire.proved.settle(wire.context, 0)
    assert spent == 3 * [len(CONTENT)]


@pytest.mark.parametrize("is_counting", [False, True])
def test_a_response_that_does_not_fit_is_not_counted(*, is_counting: bool) -> None:
    """h2 has it asked for once more, and there it counts: as a request, and as a plan reused."""
    wire = Wire(initial_window=len(CONTENT) - 1)
    wire.warm()
    lane, _, waiting = counting(wire, 100)
    wire.handler.is_counting = lane._is_counting = is_counting
    for _ in range(2):
        assert lane.answer(waiting[:1], wire.proved)[0] == 0
    wire.proved.settle(wire.context, 0)
    assert (wire.handler.asked, wire.handler.left, wire.handler.reused) == (1, 100, 0)


def test_a_response_with_segments_is_not_counted(wire: Wire) -> None:
    """It is opened as a stream, and asked for there."""
    segment = cast("Segment", SimpleNamespace(count=9))
    wire.handler.response = Response(200, (), b"", (segment,))
    lane, block, waiting = counting(wire, 100)
    assert lane.answer(waiting[:1], wire.proved)[0] == 0
    wire.proved.settle(wire.context, 0)
    assert (wire.handler.asked, wire.handler.left, wire.handler.reused) == (1, 100, 0)
    assert lane.open(block, waiting[0][2]) is not None
