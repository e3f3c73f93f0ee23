"""TLS clients that read slowly, not at all, or leave: bounded memory, and nothing stays behind."""

from __future__ import annotations

import errno
import select
import shutil
import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.client import (
    LARGE,
    LARGE_BYTES,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    body_of,
    is_still,
    make_root,
    poll,
    request_of,
    seal,
)
from tests.faults.tls_client import (
    CANCEL,
    HELLO,
    TlsClient,
    anonymous_bytes,
    client_hello,
    connect_raw,
    read_to_end,
    request_frame,
    reset,
    threads,
    wide_client,
)
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer, connect_to, open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STALLED = 60
STREAMS = 4
STALLED_BYTES_MAX = 400_000
"""Anonymous memory of one connection that does not read, however much it asked for: frames of
256 KiB and what their buffer has grown ahead, one TLS record, and what an idle one takes."""

TURN_BYTES_MIN = 65_536
"""What leaves at least when something leaves to one of them."""

LEFT_AGAIN_BYTES_MAX = 4_000_000
"""What a second crowd may leave beyond the first: half of what it held. So a leak would show."""

SLACK_BYTES = 56_000_000
"""What malloc(3) may keep once all have left: TRIM_THRESHOLD_BYTES of the worker, and a margin."""

PLANNERS = 4
DISCONNECTS = 32
PACES = [(8_192, 1_024, 0.02), (8_192, 8_192, 0.2), (16_384, 16_384, 0.1), (65_536, 65_536, 0.25)]
"""Receive buffer, bytes of one read, seconds between two."""
DRIBBLE_S = 6.0
PATIENCE_S = "4"
"""With the smallest of these buffers TCP itself stops for a second or two: the client's window
opens by less than a segment, so nothing moves before the next probe of the server's kernel, and
those come later and later (the persist timer, RFC 9293 section 3.8.6.1)."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Closed days, so all of it is mapped: 4 KB, 800 KB and 16 MB an answer."""
    path = tmp_path_factory.mktemp("slow-tls")
    make_root(path)
    for series in ("SMALL", "MEDIUM", "LARGE"):
        seal(path, series)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options, on TLS."""
    with ForkedServer(root, USE_TLS="true", ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2") as running:
        yield running


@pytest.fixture(scope="module")
def impatient(root: Path) -> Iterator[RunningServer]:
    """A server whose clients have to take a byte a second."""
    with ForkedServer(
        root,
        USE_TLS="true",
        ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S="1",
        ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def patient(root: Path) -> Iterator[RunningServer]:
    """A server whose clients have to take a byte in `PATIENCE_S`."""
    with ForkedServer(
        root,
        USE_TLS="true",
        ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S=PATIENCE_S,
        ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2",
    ) as running:
        yield running


class Held(NamedTuple):
    """What a worker holds while nobody is connected."""

    descriptors: int
    threads: int
    anonymous: int
    mapped: float


def held(server: RunningServer) -> Held:
    """Wait until nobody is connected, and look."""
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections")
    (worker,) = server.worker_pids()
    mapped = server.metric("zerocopy_mapped_bytes")
    return Held(open_descriptors(worker), threads(worker), anonymous_bytes(worker), mapped)


def assert_given_back(server: RunningServer, before: Held, slack_bytes: int = SLACK_BYTES) -> None:
    """What a worker held before is what it holds now, but for memory that malloc(3) keeps."""
    poll(lambda: held(server).descriptors <= before.descriptors, "descriptors given back")
    now = held(server)
    assert now.threads <= before.threads + PLANNERS, "threads beyond the planners"
    assert now.anonymous <= before.anonymous + slack_bytes
    assert now.mapped == before.mapped


@pytest.fixture
def before(server: RunningServer, root: Path) -> Held:
    """What the worker holds once every file is mapped."""
    with H2Client(server) as client:
        assert client.ask(SMALL).content == body_of(root, "SMALL")
        assert client.ask(MEDIUM).content == body_of(root, "MEDIUM")
    with wide_client(server, window=10_000, auto_window=False) as client:
        content = client.streams[client.request(LARGE)].content
        client.pump(lambda: len(content) == 10_000, "bytes of the file")
    return held(server)


def test_connections_that_never_read_cost_bounded_memory(
    server: RunningServer, root: Path, before: Held
) -> None:
    """60 connections ask for 3 GB with open windows and read none; twice, so a leak would show."""
    (worker,) = server.worker_pids()
    start, slack_bytes = before, SLACK_BYTES
    for _ in range(2):
        with ExitStack() as stack:
            for _ in range(STALLED):
                client = wide_client(server, receive_buffer_bytes=TINY_BUFFER_BYTES)
                stack.enter_context(client)
                requests = [client.request_bytes(LARGE)[1] for _ in range(STREAMS)]
                client.send_bytes(b"".join(requests))
            poll(lambda: is_still(server, TURN_BYTES_MIN), "all to stall", 20)
            assert server.metric('zerocopy_connections{transport="tls"}') == STALLED
            assert server.metric("zerocopy_streams") == STALLED * STREAMS
            assert server.metric("zerocopy_requests_in_flight") == STALLED * STREAMS
            grown = anonymous_bytes(worker) - before.anonymous
            assert grown < STALLED * STALLED_BYTES_MAX, f"{grown / STALLED} bytes a connection"
            with H2Client(server) as honest:
                assert honest.ask(MEDIUM).content == body_of(root, "MEDIUM")
            assert server.get(SMALL).content == body_of(root, "SMALL")
        assert_given_back(server, start, slack_bytes)
        assert server.metric("zerocopy_streams") == 0
        assert server.metric("zerocopy_requests_in_flight") == 0
        start, slack_bytes = held(server), LEFT_AGAIN_BYTES_MAX


def test_streams_whose_window_stays_at_one_byte_cost_bounded_memory(
    server: RunningServer, root: Path, before: Held
) -> None:
    """A thousand streams get the one byte that their window allows, and keep next to nothing."""
    (worker,) = server.worker_pids()
    with ExitStack() as stack:
        for _ in range(10):
            client = stack.enter_context(wide_client(server, window=1, auto_window=False))
            client.ping()
            streams = [client.streams[client.request(LARGE)] for _ in range(100)]
            client.pump(lambda: all(s.content for s in streams), "a byte of each")  # noqa: B023
            client.ping()
            assert {len(stream.content) for stream in streams} == {1}
        assert anonymous_bytes(worker) - before.anonymous < 10 * STALLED_BYTES_MAX
        with H2Client(server) as honest:
            assert honest.ask(MEDIUM).content == body_of(root, "MEDIUM")
    assert_given_back(server, before)


# ---- the write-progress deadline


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_client_that_takes_no_byte_is_disconnected(impatient: RunningServer, protocol: str) -> None:
    """Its answer is cut off without a clean end, and nothing of it is kept."""
    sock = connect_raw(impatient, protocol, TINY_BUFFER_BYTES)
    with sock:
        if protocol == "h2":
            wide = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x3f\xff\xff\xff"
            open_all = b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x3f\xff\x00\x00"
            sock.sendall(HELLO + wide + open_all + request_frame(LARGE))
        else:
            sock.sendall(request_of(LARGE))
        poll(lambda: impatient.metric("zerocopy_connections") == 1, "the connection")
        poll(lambda: impatient.metric("zerocopy_connections") == 0, "its end", 20)
        received, is_aborted = read_to_end(sock)
        assert is_aborted
        assert len(received) < LARGE_BYTES


def test_client_that_takes_no_byte_is_told_at_once(impatient: RunningServer) -> None:
    """By RST, which needs nobody to read: the kernel keeps nothing of the answer for it either."""
    with wide_client(impatient, receive_buffer_bytes=TINY_BUFFER_BYTES) as client:
        client.request(LARGE)
        watch = select.poll()
        watch.register(client.sock, 0)
        poll(lambda: watch.poll(0) != [], "a reset", 20)
        error = client.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert error == errno.ECONNRESET


def test_shut_stream_is_cancelled_and_the_others_of_its_connection_go_on(
    impatient: RunningServer, root: Path
) -> None:
    """One window stays shut: CANCEL; another opens by 4 KB a time and is never cut."""
    body = body_of(root, "MEDIUM")
    with wide_client(impatient, window=4_096, auto_window=False) as client:
        shut, slow = (client.streams[client.request(MEDIUM)] for _ in range(2))
        client.pump(lambda: len(shut.content) == len(slow.content) == 4_096, "both to stall")
        seen = 0
        while shut.reset_code is None:
            client.window(3, 4_096)
            seen = len(slow.content)
            client.pump(lambda: len(slow.content) > seen, "bytes of the open stream")  # noqa: B023
            time.sleep(0.05)  # the pace of a slow client
        assert shut.reset_code == CANCEL
        assert shut.content == body[:4_096]
        client.window(3, len(body))
        assert client.answer(3).content == body
        assert client.ask("/healthz").status == 200
    assert impatient.metric("zerocopy_transfers_aborted_total") >= 1


def dribble(client: H2Client | TlsClient, nbytes: int, pause_s: float) -> int:
    """Read `nbytes` at a time for some seconds, past TLS; how many bytes came."""
    end_s = time.monotonic() + DRIBBLE_S
    total = 0
    while time.monotonic() < end_s:
        data = client.sock.recv(nbytes)
        assert data, "the connection was closed"
        total += len(data)
        time.sleep(pause_s)
    return total


def test_slow_but_honest_readers_are_never_cut(patient: RunningServer) -> None:
    """Several steady paces over both protocols, for longer than the deadline: bytes go on."""
    totals: list[int] = []
    errors: list[BaseException] = []

    def read(protocol: str, receive_buffer_bytes: int, nbytes: int, pause_s: float) -> None:
        try:
            client: H2Client | TlsClient
            if protocol == "h2":
                client = wide_client(patient, receive_buffer_bytes=receive_buffer_bytes)
                client.request(LARGE)
            else:
                client = TlsClient(patient, receive_buffer_bytes)
                client.send(request_of(LARGE))
            with client:
                totals.append(dribble(client, nbytes, pause_s))
        except BaseException as error:  # noqa: BLE001 - told by the test, in its own thread
            errors.append(error)

    readers = [
        threading.Thread(target=read, args=(protocol, *pace))
        for protocol in ("h2", "http/1.1")
        for pace in PACES
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(30)
    assert errors == []
    assert len(totals) == 2 * len(PACES)


# ---- clients that leave


def leave_by_reset(server: RunningServer, index: int) -> None:
    """RST before the answer, or amid it."""
    sock = connect_raw(server)
    sock.sendall(HELLO + request_frame(LARGE if index % 2 else "/healthz"))
    if index % 3:
        sock.recv(100)
    reset(sock)


def leave_without_close_notify(server: RunningServer, index: int) -> None:
    """FIN alone, which to TLS is a truncation."""
    sock = connect_raw(server, "h2" if index % 2 else "http/1.1")
    if index % 2:
        sock.sendall(HELLO + request_frame("/healthz")[: index % 30])
    elif index % 3:
        sock.sendall(request_of("/healthz"))
        sock.recv(4_096)
    sock.close()


def leave_by_halves(server: RunningServer, index: int) -> None:
    """FIN, and read on until the server has closed its half too."""
    sock = connect_raw(server)
    sock.sendall(HELLO + request_frame(SMALL if index % 2 else LARGE))
    raw = socket.socket(fileno=sock.detach())
    raw.settimeout(20)
    raw.shutdown(socket.SHUT_WR)
    read_to_end(raw)
    raw.close()


def leave_amid_the_handshake(server: RunningServer, index: int) -> None:
    """After nothing, after a part of the first flight, or after all of it."""
    hello = client_hello()
    sock = connect_to(server.tls_port)
    sock.sendall(hello[: [0, 3, len(hello) // 2, len(hello)][index % 4]])
    if index % 8 < 4:
        sock.close()
    else:
        reset(sock)


def leave_amid_the_body(server: RunningServer, index: int) -> None:
    """Close with most of the answer unread, in the kernel's buffers and in the server's."""
    sock = connect_raw(server, "h2" if index % 2 else "http/1.1", TINY_BUFFER_BYTES)
    sock.sendall(HELLO + request_frame(LARGE) if index % 2 else request_of(LARGE))
    total = 0
    while total < 20_000:
        total += len(sock.recv(4_096))
    sock.close()


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_reset,
        leave_without_close_notify,
        leave_by_halves,
        leave_amid_the_handshake,
        leave_amid_the_body,
    ],
)
def test_clients_that_leave_leak_nothing(
    server: RunningServer, before: Held, leave: Callable[[RunningServer, int], None]
) -> None:
    """Thirty-two of each kind; descriptors, threads, memory and the gauge are as before."""
    for index in range(DISCONNECTS):
        leave(server, index)
    assert_given_back(server, before)
    with H2Client(server) as client:
        assert client.ask("/healthz").status == 200
    assert server.event("loop_error") is None
    assert server.event("connection_failed") is None
