"""Clients that read slowly, or not at all, cost the others nothing."""

from __future__ import annotations

import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    LARGE_BYTES,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    cpu_s,
    get_many,
    poll,
    request_of,
)
from tests.server import ForkedServer, RunningServer, open_descriptors, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STALLED = 200
STALLED_RESIDENT_BYTES_MAX = 8_000_000
"""For 200 connections: each may cost 40 KB and no more, whatever its answer's size."""

TIMEOUT_S = "1"
SHORT = {
    "ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S": TIMEOUT_S,
    "ZEROCOPY_TIMEOUTS_HEADER_READ_S": TIMEOUT_S,
    "ZEROCOPY_TIMEOUTS_IDLE_S": TIMEOUT_S,
}
PIPELINED = 20_000
"""Requests whose answers no socket takes: those of /healthz are some 250 bytes each."""

CLOSED_WITHIN_S = 4.0
"""A deadline of 1 s, sampled in quarters of it on ticks of 0.25 s, on a busy machine."""


def test_fast_requests_beside_one_that_reads_a_byte_a_second(
    server: RunningServer, root: Path
) -> None:
    """A thousand requests by fifty clients all succeed; the slow one has right bytes so far."""
    small, medium = body_of(root, "SMALL"), body_of(root, "MEDIUM")
    targets = [SMALL] * 18 + [MEDIUM] * 2
    read = bytearray()
    done = threading.Event()
    with Client(server, TINY_BUFFER_BYTES) as slow, ThreadPoolExecutor(50) as executor:
        slow.send(request_of(LARGE))
        slow.head()

        def read_slowly() -> None:
            read.extend(slow.read_some(1))
            while not done.wait(1):
                read.extend(slow.read_some(1))

        reading = threading.Thread(target=read_slowly)
        reading.start()
        for answers in executor.map(lambda _: get_many(server, targets), range(50)):
            assert [status for status, _ in answers] == [200] * 20
            assert {body for _, body in answers[:18]} == {small}
            assert {body for _, body in answers[18:]} == {medium}
        done.set()
        reading.join()
        read += slow.read(1 << 20)
        assert read == body_of(root, "LARGE", ["price"])[: len(read)]
        slow.reset()


def used_in_half_a_second(pid: int) -> float:
    """Seconds of processor time that a process uses in the next half of a second."""
    begun_s = cpu_s(pid)
    time.sleep(0.5)  # the span over which it is measured
    return cpu_s(pid) - begun_s


def test_stalled_readers_hold_no_descriptor_but_their_own_and_little_memory(
    server: RunningServer,
) -> None:
    """200 clients that never read a large answer: one descriptor each, memory bounded, no work."""
    (worker,) = server.worker_pids()
    server.get(LARGE)  # the day file is open from now on
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections")
    descriptors, resident = open_descriptors(worker), resident_bytes(worker)
    open_files = server.metric("zerocopy_open_files")
    clients = [Client(server, TINY_BUFFER_BYTES) for _ in range(STALLED)]
    for client in clients:
        client.send(request_of(LARGE))
    for client in clients:
        assert client.head()[0] == 200
    poll(lambda: server.metric("zerocopy_connections") == STALLED, "all to be connected")
    poll(lambda: server.metric("zerocopy_requests_in_flight") == STALLED, "all to be in flight")
    assert open_descriptors(worker) <= descriptors + STALLED + 3
    assert server.get("/healthz").status == 200
    # What was under way when the last one connected may take its time on a busy machine.
    poll(lambda: used_in_half_a_second(worker) < 0.2, "a worker that does not spin")
    assert resident_bytes(worker) - resident < STALLED_RESIDENT_BYTES_MAX
    assert server.metric("zerocopy_open_files") == open_files
    for client in clients:
        client.reset()
    poll(lambda: server.metric("zerocopy_connections") == 0, "all to be gone")
    poll(lambda: server.metric("zerocopy_requests_in_flight") == 0, "no request in flight")
    poll(lambda: open_descriptors(worker) <= descriptors, "descriptors given back")


def test_small_requests_are_served_while_large_answers_stream(server: RunningServer) -> None:
    """Beside four clients that read as fast as they can, a small answer comes in a few turns."""
    done = threading.Event()
    streamed = [0] * 4

    def stream(index: int) -> None:
        with Client(server) as client:
            while not done.is_set():
                client.send(request_of(LARGE))
                left = int(client.head()[1]["content-length"])
                while left and not done.is_set():
                    left -= len(client.read_some(min(left, 1 << 20)))
                    streamed[index] += 1
            client.reset()

    threads = [threading.Thread(target=stream, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    poll(lambda: min(streamed) > 10, "all four to stream")
    begun = list(streamed)
    delays_s = []
    with Client(server) as client:
        for _ in range(100):
            begun_s = time.perf_counter()
            client.send(request_of(SMALL))
            assert client.answer().status == 200
            delays_s.append(time.perf_counter() - begun_s)
    after = list(streamed)
    done.set()
    for thread in threads:
        thread.join()
    delays_s.sort()
    assert delays_s[50] < 0.1, delays_s
    assert delays_s[-1] < 1, delays_s
    assert all(b > a for a, b in zip(begun, after, strict=True)), "all four went on meanwhile"


@pytest.fixture(scope="module")
def impatient(root: Path) -> Iterator[RunningServer]:
    """A server whose deadlines are all one second."""
    with ForkedServer(root, **SHORT) as running:
        yield running


def test_write_deadline_aborts_who_stalls_and_spares_who_is_slow(
    impatient: RunningServer, root: Path
) -> None:
    """After 1 s without a byte taken comes a reset; steady reading goes on."""
    with Client(impatient, TINY_BUFFER_BYTES) as stalled, Client(impatient, 65_536) as steady:
        for client in (stalled, steady):
            client.send(request_of(LARGE))
            _, fields = client.head()
        received = bytearray()
        aborted = "zerocopy_transfers_aborted_total"
        end_s = time.monotonic() + 2
        while time.monotonic() < end_s or impatient.metric(aborted) < 1:
            received += steady.read_some(65_536)
            time.sleep(0.1)
        body, is_reset = stalled.read_until_end(LARGE_BYTES)
        assert is_reset
        assert len(body) < LARGE_BYTES
        assert impatient.metric(aborted) == 1
        rest, is_reset = steady.read_until_end(int(fields["content-length"]) - len(received))
        assert not is_reset
        assert received + rest == body_of(root, "LARGE", ["price"])


@pytest.fixture(scope="module")
def hasty(root: Path) -> Iterator[RunningServer]:
    """The same, with turns of which eight small answers are one."""
    turns = {"ZEROCOPY_LIMITS_TURN_BYTES_MAX": "65536"}
    with ForkedServer(root, **SHORT, **turns) as running:
        yield running


@pytest.mark.parametrize("target", [SMALL, "/healthz"])
def test_write_deadline_resets_who_pipelines_and_never_reads(
    hasty: RunningServer, root: Path, target: str
) -> None:
    """After 1 s without a byte taken, whatever waits; one that reads slowly gets all of it."""
    small, rounds = body_of(root, "SMALL"), 0
    before = hasty.metric("zerocopy_transfers_aborted_total")
    with Client(hasty, TINY_BUFFER_BYTES) as stalled, Client(hasty, 65_536) as slow:
        slow.send(request_of(SMALL) * 3_000)
        stalled.send(request_of(target) * PIPELINED)
        while rounds < 15 or hasty.metric("zerocopy_transfers_aborted_total") == before:
            assert all(slow.answer().content == small for _ in range(25))
            time.sleep(0.1)  # it takes 100 KB, and rests
            rounds += 1
            assert rounds < 100, "the other is reset"
        assert hasty.metric("zerocopy_connections") == 1
        assert stalled.read_until_end(1 << 30)[1]
        assert all(slow.answer().content == small for _ in range(3_000 - 25 * rounds))
    poll(lambda: hasty.metric("zerocopy_connections") == 0, "both to be gone")
    poll(lambda: hasty.metric("zerocopy_requests_in_flight") == 0, "no request in flight")
    assert hasty.metric("zerocopy_transfers_aborted_total") == before + 1


@pytest.mark.parametrize(
    ("answered", "trickled"),
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(request_of("/healthz"), b"", id="idle"),
        pytest.param(b"", request_of("/healthz", "A: " + "b" * 500), id="slow head"),
        pytest.param(b"", request_of("/healthz", "Content-Length: 500"), id="slow content"),
        pytest.param(request_of(MEDIUM), request_of(MEDIUM)[:-1], id="slow second head"),
    ],
)
def test_read_deadline_closes_who_does_not_ask(
    impatient: RunningServer, answered: bytes, trickled: bytes
) -> None:
    """A connection that is silent, idle, or gives its request by drops is closed after 1 s."""
    with Client(impatient) as client:
        if answered:
            client.send(answered)
            assert client.answer().status == 200
        begun_s = time.monotonic()
        head = trickled.partition(b"\r\n\r\n")[0]
        client.send(trickled[: len(head) // 2])
        position = len(head) // 2
        while not select.select([client.sock], [], [], 0.1)[0]:
            client.send(trickled[position : position + 1])
            position += 1
            assert time.monotonic() - begun_s < CLOSED_WITHIN_S
        assert client.is_closed()
        assert time.monotonic() - begun_s > 0.9
