"""HTTP/2 on the wire: flow control, settings, many streams; each body is compared byte for byte."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from h2.settings import SettingCodes

from tests.faults.client import (
    LARGE,
    LARGE_BYTES,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    body_of,
    target_of,
)
from tests.h2client import (
    DATA,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    WINDOW_BYTES,
    WINDOW_BYTES_MAX,
    H2Client,
)
from tests.naive import naive_answer
from tests.storage.trees import OPEN_DAY, OPEN_START_S, append, marks, put, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server import RunningServer

WIDE = 1 << 20
GOAWAY_FRAME = b"\0\0\x08\x07\0" + bytes(12)
"""NO_ERROR, no stream of the server processed."""


def pump_to(client: H2Client, stream_id: int, count: int) -> None:
    """Read until a stream has `count` bytes of content; a PING later there are no more."""
    stream = client.streams[stream_id]
    client.pump(lambda: len(stream.content) >= count, f"{count} bytes, {len(stream.content)} came")
    client.ping()
    assert len(stream.content) == count


def total_of(client: H2Client) -> int:
    """Bytes of DATA on the whole connection."""
    return sum(frame.length for frame in client.frames if frame.kind == DATA)


def test_window_of_one_byte_is_filled_each_time(server: RunningServer, root: Path) -> None:
    """With SETTINGS_INITIAL_WINDOW_SIZE 1 a body comes byte by byte, all of it."""
    with H2Client(server, initial_window=1) as client:
        stream_id = client.request(SMALL)
        assert client.answer(stream_id).content == body_of(root, "SMALL")
        assert max(client.lengths(stream_id)) == 1
        assert not client.goaways, "two WINDOW_UPDATEs for each byte are no flood"


def test_window_of_none_holds_the_body_until_it_is_opened(
    server: RunningServer, root: Path
) -> None:
    """The head comes at once, then exactly as many bytes as the window was opened by."""
    body = body_of(root, "SMALL")
    with H2Client(server, initial_window=0, auto_window=False) as client:
        stream_id = client.request(SMALL)
        stream = client.streams[stream_id]
        client.pump(lambda: stream.status == 200, "the head")
        pump_to(client, stream_id, 0)
        for opened in (1, 9, 500):
            count = len(stream.content) + opened
            client.window(stream_id, opened)
            pump_to(client, stream_id, count)
        client.window(stream_id, len(body) - len(stream.content))
        assert client.answer(stream_id).content == body


def test_windows_as_wide_as_they_can_be(server: RunningServer, root: Path) -> None:
    """16 MB without one WINDOW_UPDATE after the start."""
    windows = {"initial_window": WINDOW_BYTES_MAX, "connection_window": WINDOW_BYTES_MAX}
    with H2Client(server, auto_window=False, **windows) as client:
        assert client.ask(LARGE).content == body_of(root, "LARGE", ["price"])


def test_what_a_client_says_amid_a_body_is_heard_although_much_came_before(
    server: RunningServer,
) -> None:
    """A WINDOW_UPDATE for each record received leaves no backlog behind which a PING would wait."""
    with H2Client(
        server,
        initial_window=WINDOW_BYTES_MAX,
        connection_window=WINDOW_BYTES_MAX >> 1,
        receive_buffer_bytes=TINY_BUFFER_BYTES,
    ) as client:
        stream_id = client.request(LARGE)
        stream = client.streams[stream_id]
        client.pump(lambda: len(stream.content) >= LARGE_BYTES // 3, "a third of the body")
        client.ping()
        assert len(stream.content) < LARGE_BYTES * 5 // 6


def test_connection_window_exhausted_and_opened_in_odd_sizes(
    server: RunningServer, root: Path
) -> None:
    """Two streams with room share what the connection opens, exactly, to the last byte."""
    body = body_of(root, "MEDIUM")
    with H2Client(server, initial_window=WIDE, auto_window=False) as client:
        streams = [client.request(MEDIUM), client.request(MEDIUM)]
        allowed = WINDOW_BYTES
        for opened in (0, 1, 2, 7, 1_023, 16_383, 16_384, 16_385, 65_537, 99_991):
            if opened:
                client.window(0, opened)
            allowed += opened
            client.pump(lambda: total_of(client) >= allowed, "what was opened")  # noqa: B023
            client.ping()
            assert total_of(client) == allowed
        client.window(0, 2 * len(body) - allowed)
        for stream_id in streams:
            assert client.answer(stream_id).content == body


def test_initial_window_raised_amid_a_body_opens_its_stream(
    server: RunningServer, root: Path
) -> None:
    """RFC 9113, 6.9.2: the difference is added to the windows of open streams."""
    with H2Client(
        server, initial_window=1_000, connection_window=WIDE, auto_window=False
    ) as client:
        stream_id = client.request(MEDIUM)
        pump_to(client, stream_id, 1_000)
        for window in (1_001, 5_000, 70_000):
            client.set(initial_window_size=window)
            pump_to(client, stream_id, window)
        client.set(initial_window_size=WIDE)
        assert client.answer(stream_id).content == body_of(root, "MEDIUM")


def test_initial_window_lowered_amid_a_body_makes_windows_negative(
    server: RunningServer, root: Path
) -> None:
    """RFC 9113, 6.9.2: nothing more comes until updates have made the window positive again."""
    with H2Client(
        server, initial_window=10_000, connection_window=WIDE, auto_window=False
    ) as client:
        stream_id = client.request(MEDIUM)
        pump_to(client, stream_id, 10_000)
        client.set(initial_window_size=2_000)
        client.window(stream_id, 7_999)
        pump_to(client, stream_id, 10_000)
        client.window(stream_id, 1)
        pump_to(client, stream_id, 10_000)
        client.window(stream_id, 1)
        pump_to(client, stream_id, 10_001)
        client.set(initial_window_size=0)
        client.set(initial_window_size=2_000)
        pump_to(client, stream_id, 10_001)
        client.window(stream_id, WIDE)
        assert client.answer(stream_id).content == body_of(root, "MEDIUM")


def test_initial_window_flapping_under_many_streams(server: RunningServer, root: Path) -> None:
    """Up and down while eight bodies come, and each is whole."""
    with H2Client(server) as client:
        streams = [client.request(MEDIUM) for _ in range(8)]
        for window in (1, 100_000, 0, 33_333, 65_535, 7, 200_000):
            client.set(initial_window_size=window)
        for stream_id in streams:
            assert client.answer(stream_id).content == body_of(root, "MEDIUM")


@pytest.mark.parametrize(
    "size",
    [FRAME_BYTES, FRAME_BYTES + 1, pytest.param(100_000, marks=pytest.mark.slow), (1 << 24) - 1],
)
def test_frames_are_no_larger_than_allowed(server: RunningServer, root: Path, size: int) -> None:
    """SETTINGS_MAX_FRAME_SIZE from the start; raised and lowered again amid a body."""
    windows = {"initial_window": WINDOW_BYTES_MAX, "connection_window": WINDOW_BYTES_MAX}
    with H2Client(server, max_frame_size=size, auto_window=False, **windows) as client:
        stream_id = client.request(LARGE)
        client.pump(lambda: bool(client.lengths(stream_id)), "the first DATA")
        client.set(max_frame_size=FRAME_BYTES)
        before = len(client.lengths(stream_id))
        client.set(max_frame_size=size)
        assert client.answer(stream_id).content == body_of(root, "LARGE", ["price"])
        assert max(client.lengths(stream_id)) <= size
        assert before > 0


def test_header_table_of_any_size_keeps_fields_right(server: RunningServer) -> None:
    """SETTINGS_HEADER_TABLE_SIZE 0 from the start, then changed between requests."""
    with H2Client(server, header_table_size=0) as client, H2Client(server) as other:
        expected = [
            {name: value for name, value in other.ask(target).fields.items() if name != "date"}
            for target in (SMALL, MEDIUM, "/nowhere")
        ]
        for size in (None, 4_096, 0, 64, 65_536, 1, 4_096):
            if size is not None:
                client.set(header_table_size=size)
            for _ in range(3):
                answers = [client.ask(target) for target in (SMALL, MEDIUM, "/nowhere")]
                for answer, fields in zip(answers, expected, strict=True):
                    assert {n: v for n, v in answer.fields.items() if n != "date"} == fields


def test_reset_amid_a_body_leaves_the_other_streams_alone(
    server: RunningServer, root: Path
) -> None:
    """One stream is given up, two others end whole, and no byte more is sent on the first."""
    with H2Client(server) as client:
        given_up, *others = [client.request(target) for target in (LARGE, MEDIUM, MEDIUM)]
        client.pump(lambda: bool(client.lengths(given_up)), "the first DATA")
        client.reset(given_up)
        client.ping()
        count = len(client.lengths(given_up))
        for stream_id in others:
            assert client.answer(stream_id).content == body_of(root, "MEDIUM")
        assert len(client.lengths(given_up)) == count


def test_reset_streams_are_free_again(server: RunningServer, root: Path) -> None:
    """More streams than may be open at once, each given up amid its body."""
    with H2Client(server) as client:
        for _ in range(120):
            stream_id = client.request(LARGE)
            client.pump(lambda: bool(client.lengths(stream_id)), "DATA")  # noqa: B023
            client.reset(stream_id)
        assert client.ask(MEDIUM).content == body_of(root, "MEDIUM")


def test_hundred_streams_at_once_are_each_exact(server: RunningServer, root: Path) -> None:
    """Different ranges and orders of columns at the same time; none gets another's bytes."""
    with H2Client(server, connection_window=WIDE) as client:
        client.ping()
        expected = {}
        for index in range(100):
            columns = ["time", "price"] if index % 2 else ["price", "time"]
            target = target_of("SMALL", ",".join(columns), 5 * index)
            if index % 10 == 0:
                expected[client.request(MEDIUM)] = body_of(root, "MEDIUM")
                continue
            series = ("coinbase", "BTC-USD", "SMALL")
            body = naive_answer(str(root), *series, 0, 5 * index, columns)
            expected[client.request(target)] = body
        for stream_id, body in expected.items():
            assert client.answer(stream_id).content == body


def test_more_streams_than_allowed_are_refused(server: RunningServer, root: Path) -> None:
    """RFC 9113, 5.1.2: an error of the stream or the connection; the next connection is served."""
    with H2Client(server, initial_window=0) as client:
        client.ping()
        allowed = client.h2.remote_settings.max_concurrent_streams
        assert allowed <= 1_024
        client.h2.remote_settings._settings[SettingCodes.MAX_CONCURRENT_STREAMS] = deque([9_999])
        streams = [client.request(SMALL) for _ in range(allowed + 1)]
        extra = client.streams[streams[-1]]
        client.pump(lambda: extra.is_over or bool(client.goaways), "a refusal")
        if client.goaways:
            assert client.goaways[0][0] in {1, 7, 11}
        else:
            assert extra.reset_code in {1, 7}
            client.window(streams[0], WIDE)
            assert client.answer(streams[0]).content == body_of(root, "SMALL")
    with H2Client(server) as other:
        assert other.ask(SMALL).content == body_of(root, "SMALL")


def test_goaway_of_the_client_lets_its_streams_end(server: RunningServer, root: Path) -> None:
    """RFC 9113, 6.8: streams that are open when GOAWAY comes are finished."""
    with H2Client(server) as client:
        stream_id = client.request(MEDIUM)
        client.pump(lambda: bool(client.lengths(stream_id)), "the first DATA")
        client.send_bytes(GOAWAY_FRAME)
        assert client.answer(stream_id).content == body_of(root, "MEDIUM")
        assert GOAWAY_FRAME[3] == GOAWAY


@pytest.mark.parametrize("target", [SMALL, MEDIUM, "/healthz"])
def test_goaway_behind_a_request_does_not_refuse_it(server: RunningServer, target: str) -> None:
    """The same where both arrive at once: what came before the GOAWAY is answered."""
    with H2Client(server) as client:
        stream_id, raw = client.request_bytes(target)
        client.send_bytes(raw + GOAWAY_FRAME)
        assert client.answer(stream_id).status == 200


def test_same_request_is_exact_and_fresh_every_time(server: RunningServer, root: Path) -> None:
    """Fifty times on one connection, and after each append to the open day once more."""
    series = Series("coinbase", "FRESH", "MD")
    start_s = OPEN_START_S
    paths = put(str(root), {"time": u32(*[start_s] * 9), "price": marks(9)}, OPEN_DAY, series)
    target = (
        f"/api/data?symbol=FRESH&type=MD&start={start_s}&end={start_s + 86_399}&columns=time,price"
    )
    with H2Client(server) as client:
        for index in range(50):
            expected = naive_answer(
                str(root), *series, start_s, start_s + 86_399, ["time", "price"]
            )
            for _ in range(2 + index % 3):
                assert client.ask(target).content == expected
            append(paths["price"], u32(index))
            append(paths["time"], u32(start_s + index))
        assert b'"num_records":59' not in expected
        assert b'"num_records":59' in client.ask(target).content


def test_same_closed_request_fifty_times(server: RunningServer, root: Path) -> None:
    """An answer that may be kept is the same each time, and HEAD in between takes nothing away."""
    with H2Client(server) as client:
        for _ in range(50):
            head = client.ask(SMALL, "HEAD")
            answer = client.ask(SMALL)
            assert answer.content == body_of(root, "SMALL")
            assert {**head.fields, "date": ""} == {**answer.fields, "date": ""}


def test_head_ends_its_stream_without_data(server: RunningServer) -> None:
    """The length is told and no byte of content is sent."""
    with H2Client(server) as client:
        for target in (SMALL, LARGE, "/healthz", "/nowhere"):
            stream_id = client.request(target, "HEAD")
            assert int(client.answer(stream_id).fields["content-length"]) > 0
            assert sum(client.lengths(stream_id)) == 0


def test_small_answer_does_not_wait_for_a_huge_one(server: RunningServer, root: Path) -> None:
    """With windows wide open, what is asked later and is small ends long before 16 MB do."""
    windows = {"initial_window": WINDOW_BYTES_MAX, "connection_window": WINDOW_BYTES_MAX}
    with H2Client(server, auto_window=False, **windows) as client:
        huge = client.request(LARGE)
        client.pump(lambda: bool(client.lengths(huge)), "the first DATA")
        small = client.request(SMALL)
        assert client.answer(small).content == body_of(root, "SMALL")
        assert len(client.streams[huge].content) < LARGE_BYTES * 3 // 4
        assert client.answer(huge).content == body_of(root, "LARGE", ["price"])


def test_huge_answers_share_the_connection(server: RunningServer, root: Path) -> None:
    """Of two, neither is finished before the other has got a good part."""
    windows = {"initial_window": WINDOW_BYTES_MAX, "connection_window": WINDOW_BYTES_MAX}
    with H2Client(server, auto_window=False, **windows) as client:
        streams = [client.request(LARGE), client.request(LARGE)]
        over = [client.streams[stream_id] for stream_id in streams]
        client.pump(lambda: any(stream.is_over for stream in over), "the first to end")
        assert min(len(stream.content) for stream in over) > LARGE_BYTES // 3
        for stream_id in streams:
            assert client.answer(stream_id).content == body_of(root, "LARGE", ["price"])


def test_stalled_streams_do_not_hold_up_the_others(server: RunningServer, root: Path) -> None:
    """Fifty bodies wait for their windows; on the same connection others pass them."""
    body = body_of(root, "SMALL")
    with H2Client(server, initial_window=0, connection_window=WIDE, auto_window=False) as client:
        stalled = [client.request(LARGE) for _ in range(50)]
        passing = client.request(SMALL)
        client.window(passing, len(body))
        assert client.answer(passing).content == body  # waited for no longer than 20 s

        def answered() -> set[int]:
            return {frame.stream_id for frame in client.frames if frame.kind == HEADERS}

        client.pump(lambda: answered() == {*stalled, passing}, "the heads of those that wait")
        client.ping()
        assert total_of(client) == len(body)


def test_http1_is_chosen_by_alpn_and_without_it(server: RunningServer, root: Path) -> None:
    """The same listener answers HTTP/1.1 to who offers only that."""
    for alpn in (["http/1.1"], ["h2", "http/1.1"]):
        with server.connect_tls(alpn) as sock:
            assert sock.selected_alpn_protocol() == alpn[0]
    assert server.get(SMALL).content == body_of(root, "SMALL")
