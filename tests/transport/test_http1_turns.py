"""Large answers of HTTP/1.1 that wait for their turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.transport.http1_bench import LARGE, Bench, FileSource, answer, request, run
from zerocopy.core.counters import SENT_BYTES_SENDFILE
from zerocopy.transport.http1_state import State
from zerocopy.transport.turns import COLD_TURN_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.core.window import Window

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


@pytest.mark.parametrize(("kind", "most"), [(ColdSource, COLD_TURN_BYTES), (FileSource, 131_072)])
def test_cold_answer_sends_less_in_a_turn_while_small_ones_are_asked_for(
    tmp_path: Path, kind: type[FileSource], most: int
) -> None:
    """A cold turn's bytes where a warm answer sends a whole one, and all of it in the end."""
    path = tmp_path / "large"
    path.write_bytes(LARGE)

    async def scenario(bench: Bench) -> None:
        async def prepare(window: Window) -> None:
            window.has_waited = True

        bench.handler.prepare = prepare  # type: ignore[method-assign]
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

    run(kind(path), scenario, turn_bytes_max=131_072)
