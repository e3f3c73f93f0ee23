"""Large answers of HTTP/1.1 that wait for their turn."""

from __future__ import annotations

from tests.transport.http1_bench import LARGE, Bench, FileSource, answer, request, run
from zerocopy.core.counters import SENT_BYTES_SENDFILE
from zerocopy.transport.http1_state import State

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
