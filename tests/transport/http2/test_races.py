"""HTTP/2 requests that cross each other: what one connection asks never changes another answer."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from h2.settings import SettingCodes
from hpack.hpack import encode_integer

from tests.faults.client import (
    LARGE,
    SMALL,
    body_of,
    poll,
    target_of,
)
from tests.h2client import HEADERS, WINDOW_BYTES_MAX, H2Client
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import OPEN_DAY, OPEN_START_S, put, u32
from tests.transport.http2.frames import WHOLE, frame
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALIVE = "/healthz"
METHOD_AND_SCHEME = b"\x82\x87"  # GET, https: indexed fields of the static table
NEWEST_ENTRY = b"\xbe"  # the first entry of the dynamic table


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with deadlines of some seconds, on TLS."""
    with ForkedServer(
        root,
        USE_TLS="true",
        ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S="1",
        ZEROCOPY_TIMEOUTS_IDLE_S="60",
    ) as running:
        yield running


def wide_open(server: RunningServer) -> H2Client:
    """A client whose windows never end, and whose socket takes little."""
    return H2Client(
        server,
        initial_window=WINDOW_BYTES_MAX,
        connection_window=WINDOW_BYTES_MAX,
        receive_buffer_bytes=8_192,
    )


def literal(index: int, value: str, *, indexing: bool = False) -> bytes:
    """A literal field with a name of the static table, RFC 7541 sections 6.2.1 and 6.2.2."""
    prefix = encode_integer(index, 6 if indexing else 4)
    prefix[0] |= 0x40 if indexing else 0
    return bytes(prefix) + bytes(encode_integer(len(value), 7)) + value.encode()


def test_same_block_means_what_its_dynamic_table_says(server: RunningServer, root: Path) -> None:
    """The same bytes name another target after an entry was added between them, in one write."""
    targets = [SMALL, target_of("SMALL", "price")]
    with H2Client(server) as warming:
        for target in targets:  # so that their plans are there to be used again
            assert warming.ask(target).status == 200
    with H2Client(server) as client:
        raw, streams = b"", []
        authority = literal(1, client.authority)
        by_reference = METHOD_AND_SCHEME + authority + NEWEST_ENTRY
        for target in targets * 3:
            adds = METHOD_AND_SCHEME + authority + literal(4, target, indexing=True)
            for block in (adds, by_reference, by_reference, by_reference):
                stream_id, _ = client.request_bytes(target)
                raw += frame(HEADERS, WHOLE, stream_id, block)
                streams.append((stream_id, target))
        client.send_bytes(raw)
        contents = {client.answer(stream_id).content for stream_id, t in streams if t == SMALL}
        others = {client.answer(stream_id).content for stream_id, t in streams if t != SMALL}
    assert contents == {body_of(root, "SMALL")}
    assert len(others) == 1
    assert others.isdisjoint(contents)


def test_download_given_up_while_nothing_was_read_leaves_the_others(server: RunningServer) -> None:
    """RST_STREAM and a new request arrive while the server waits for room to write."""
    with wide_open(server) as client:
        large = client.request(LARGE)
        poll(lambda: server.metric("zerocopy_connections") >= 1, "the connection")
        time.sleep(0.3)  # the socket's buffers fill; no event tells
        client.h2.ping(b"12345678")
        client.h2.reset_stream(large, 8)
        client.streams[large].is_given_up = True
        raw = client.h2.data_to_send()
        stream_id, wanted = client.request_bytes(ALIVE)
        client.send_bytes(raw + wanted)
        assert client.answer(stream_id).status == 200
        assert not client.goaways
    assert not [event for event in server.events() if event["event"] == "connection_failed"]


def test_method_that_is_not_ascii_is_refused_alone(server: RunningServer) -> None:
    """A stream error or 405; the connection and its other requests go on."""
    with H2Client(server) as client:
        method = bytes(encode_integer(2, 4)) + b"\x03G\xc9T"
        rest = literal(1, client.authority) + literal(4, ALIVE)
        refused, _ = client.request_bytes(ALIVE)
        client.send_bytes(frame(HEADERS, WHOLE, refused, method + b"\x87" + rest))
        stream = client.streams[refused]
        client.pump(lambda: stream.is_over, "a refusal")
        assert stream.reset_code is not None or stream.status == 405
        honest, _ = client.request_bytes(ALIVE)
        client.send_bytes(frame(HEADERS, WHOLE, honest, METHOD_AND_SCHEME + rest))
        assert client.answer(honest).status == 200


def test_new_settings_are_acknowledged_before_they_are_used(server: RunningServer) -> None:
    """A larger MAX_FRAME_SIZE beside a known request: no frame above 16 KiB precedes the ACK."""
    target = target_of("HALF")
    with H2Client(server, connection_window=1 << 20, initial_window=1 << 20) as client:
        for _ in range(3):
            assert 17_000 < len(client.ask(target).content) <= 65_536  # one answer of the lane
        client.h2.update_settings({SettingCodes.MAX_FRAME_SIZE: 1 << 20})
        client._settings_sent += 1
        change = client.h2.data_to_send()
        stream_id, raw = client.request_bytes(target)
        client.send_bytes(change + raw)  # h2 holds the server to the order
        assert client.answer(stream_id).status == 200


def test_answer_that_waited_for_its_window_is_not_believed_later(tmp_path: Path) -> None:
    """A known request that did not fit; the next one like it has what was appended meanwhile."""
    start_s = OPEN_START_S
    series = Series("coinbase", "A", "MD")
    path = put(str(tmp_path), {"time": u32(*[start_s] * 2_000)}, OPEN_DAY, series)["time"]
    os.utime(path, (start_s, start_s))
    target = f"/api/data?symbol=A&type=MD&start={start_s}&end={2**32 - 1}&columns=time"
    time.sleep(0.2)  # a stamp younger than RACY_NS is never used again
    with (
        ForkedServer(tmp_path, USE_TLS="true") as server,
        H2Client(server, auto_window=False) as client,
    ):
        size = len(client.ask(target).content)
        for _ in range(65_535 // size - 1):
            assert len(client.ask(target).content) == size
        waiting = client.request(target)
        client.ping()  # answered after it
        with open(path, "ab") as file:
            file.write(u32(start_s + 1))
        client.window(0, 1 << 20)
        client.answer(waiting)
        assert client.ask(target).content.endswith(u32(start_s + 1))


def test_window_that_stays_shut_ends_any_route(server: RunningServer) -> None:
    """/api/symbols is Hypercorn's to send, and has the write deadline all the same."""
    with H2Client(server, initial_window=0) as client:
        stream_id = client.request("/api/symbols")
        stream = client.streams[stream_id]
        client.pump(lambda: stream.is_over, "the deadline", 15)
        assert stream.reset_code == 8


def test_drain_deadline_ends_clients_that_never_read(root: Path) -> None:
    """SIGTERM, a drain deadline of 1 s, a client that never reads: no worker has to be killed."""
    with (
        ForkedServer(root, USE_TLS="true", ZEROCOPY_SERVER_DRAIN_DEADLINE_S="1") as server,
        wide_open(server) as client,
    ):
        stream_id = client.request(LARGE)
        client.pump(lambda: bool(client.lengths(stream_id)), "the answer to begin")
        assert server.stop() == 0
        assert server.event("worker_not_drained") is None
