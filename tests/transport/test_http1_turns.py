"""Large answers of HTTP/1.1 that wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.http1_bench import LARGE, Bench, FileSource, answer, request, run
from zerocopy.core.counters import SENT_BYTES_SENDFILE
from zerocopy.transport.http1_server import TURNS_AT_ONCE
from zerocopy.transport.http1_state import State
from zerocopy.transport.turns import COLD_TURN_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from zerocopy.core.window import Window

    Prepare = Callable[[Window], Coroutine[Any, Any, None]]

TURN_BYTES = 8 * COLD_TURN_BYTES
CONTENT = b"header\n" + LARGE


def test_client_is_not_blamed_for_the_time_its_answer_waits_for_its_turn(
    source: FileSource,
) -> None:
    """However often the deadline passes while it is queued, the connection stays."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        bench.server.turns.spend(1 << 40)
        peer.send(request("/large"))
        connection.on_readable()
        assert connection.state is State.SENDING
        for _ in range(10):
            connection.on_deadline()
            assert connection.state is State.SENDING
        assert (await answer(peer))[1] == CONTENT

    run(source, scenario)


def test_new_large_answers_wait_for_their_turn_too(source: FileSource) -> None:
    """Once an iteration's bytes are spent, nothing of a file leaves for who asks then."""

    async def scenario(bench: Bench) -> None:
        (first, one), (second, other) = bench.connect(), bench.connect()
        bench.server.turns.spend(1 << 40)
        for peer, connection in ((first, one), (second, other)):
            peer.send(request("/large"))
            connection.on_readable()
        assert bench.counters[SENT_BYTES_SENDFILE] == 0
        for peer in (first, second):
            assert (await answer(peer))[1] == CONTENT

    run(source, scenario)


class ColdSource(FileSource):
    """Nothing of it is in memory until it was read."""

    def ready(self, _offset: int, _count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """None of it is."""
        return 0


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    """A file of the large answer's bytes."""
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    return path


async def read_in(window: Window) -> None:
    """Tell that all of a window came from the disk."""
    window.has_waited = True
    window.missing_bytes = sum(piece.count for piece in window.slices)


async def open_only(window: Window) -> None:
    """Tell that a window was in memory, though not open."""
    window.has_waited = True


@pytest.mark.parametrize(
    ("kind", "prepare", "most"),
    [
        (ColdSource, read_in, COLD_TURN_BYTES),
        (ColdSource, open_only, TURN_BYTES),
        (FileSource, read_in, TURN_BYTES),
    ],
)
def test_answer_from_the_disk_sends_less_in_a_turn_while_small_ones_are_asked_for(
    path: Path, kind: type[FileSource], prepare: Prepare, most: int
) -> None:
    """A cold turn's bytes where others send a whole one, and all of it in the end."""

    async def scenario(bench: Bench) -> None:
        bench.handler.prepare = prepare  # type: ignore[method-assign,assignment]
        peer, connection = bench.connect()
        peer.send(request("/large"))
        connection.on_readable()
        received, sent = bytearray(), [0]
        while not received.endswith(LARGE[-100:]):
            before = bench.counters[SENT_BYTES_SENDFILE]
            bench.server.turns.hurry(1)
            await asyncio.sleep(0)
            sent.append(bench.counters[SENT_BYTES_SENDFILE] - before)
            if sent[-1]:
                received += peer.sock.recv(1 << 20)
        assert received.endswith(CONTENT)
        assert max(sent) == most

    run(kind(path), scenario, turn_bytes_max=TURN_BYTES)


def test_turns_of_answers_from_the_disk_are_as_many_as_others(path: Path) -> None:
    """With five of them an iteration has two turns still, each of a cold turn's bytes."""

    async def scenario(bench: Bench) -> None:
        bench.handler.prepare = read_in  # type: ignore[method-assign]
        pairs = [bench.connect() for _ in range(5)]
        for peer, connection in pairs:
            peer.send(request("/large"))
            connection.on_readable()
        sent = []
        for _ in range(30):
            before = bench.counters[SENT_BYTES_SENDFILE]
            bench.server.turns.hurry(1)
            await asyncio.sleep(0)
            sent.append(bench.counters[SENT_BYTES_SENDFILE] - before)
        assert max(sent) == TURNS_AT_ONCE * COLD_TURN_BYTES

    run(ColdSource(path), scenario, turn_bytes_max=TURN_BYTES)


@pytest.mark.parametrize("target", ["/now", "/nowhere"])
@pytest.mark.parametrize("count", [1, 4])
def test_each_small_answer_of_an_iteration_buys_bytes_from_the_disk(
    path: Path, count: int, target: str
) -> None:
    """Answered together or alone, from as many connections: so many times the bytes."""

    async def scenario(bench: Bench) -> None:
        bench.handler.prepare = read_in  # type: ignore[method-assign]
        (large, streaming), *pairs = [bench.connect() for _ in range(1 + count)]
        large.send(request("/large"))
        streaming.on_readable()
        sent = []
        for _ in range(12):
            before = bench.counters[SENT_BYTES_SENDFILE]
            for peer, connection in pairs:
                peer.send(request(target, "Connection: keep-alive"))
                connection.on_readable()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            sent.append(bench.counters[SENT_BYTES_SENDFILE] - before)
            with contextlib.suppress(BlockingIOError):
                large.sock.recv(1 << 20)
        assert sent.count(2 * count * COLD_TURN_BYTES) > 6, "in two iterations of the loop"

    run(ColdSource(path), scenario, turn_bytes_max=4 * TURN_BYTES)
