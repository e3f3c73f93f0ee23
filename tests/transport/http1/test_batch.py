"""Requests of one turn of the loop that share a proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transport.http1.bench import LARGE, OTHER_200, Bench, FileSource, answer, request, run
from zerocopy.core.http.messages import Response
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    from zerocopy.transport.http1.connection import Connection

PEERS = 8


async def make_known(bench: Bench, *targets: str) -> None:
    """Have heads remembered, then forget that anybody asked."""
    peer, _ = bench.connect()
    for target in targets:
        peer.send(request(target))
        await answer(peer)
    bench.handler.asked.clear()
    bench.handler.times.clear()


def test_equal_requests_of_one_turn_are_answered_by_one_question(source: FileSource) -> None:
    """Eight connections, two targets, one turn: the handler is asked twice, all are answered."""

    async def scenario(bench: Bench) -> None:
        await make_known(bench, "/a", "/b")
        before = bench.counters[OTHER_200]
        peers = [bench.connect()[0] for _ in range(PEERS)]
        for index, peer in enumerate(peers):
            peer.send(request(f"/{'ab'[index % 2]}"))
        for index, peer in enumerate(peers):
            head, content = await answer(peer)
            assert f"X-Target: /{'ab'[index % 2]}".encode() in head
            assert content == b"now"
        assert sorted(zip(bench.handler.asked, bench.handler.times, strict=True)) == [
            (b"/a", PEERS // 2),
            (b"/b", PEERS // 2),
        ]
        assert bench.counters[OTHER_200] - before == PEERS

    run(source, scenario)


def test_one_that_leaves_before_its_turn_ends_harms_no_other(source: FileSource) -> None:
    """A connection closed while it is pending is passed over."""

    async def scenario(bench: Bench) -> None:
        await make_known(bench, "/a")
        (gone, closed), (peer, stays) = bench.connect(), bench.connect()
        for each, connection in ((gone, closed), (peer, stays)):
            each.send(request("/a"))
            connection.on_readable()
            assert connection.state is State.PENDING
        closed.close()
        assert (await answer(peer))[1] == b"now"
        assert await gone.recv() == b""
        assert bench.handler.asked == [b"/a"]

    run(source, scenario)


def test_large_answers_of_one_turn_are_sent_each_alone(source: FileSource) -> None:
    """Segments do not fit into a loop of sends: each connection gets a transfer of its own."""

    async def scenario(bench: Bench) -> None:
        await make_known(bench, "/large")
        peers = [bench.connect()[0] for _ in range(2)]
        for peer in peers:
            peer.send(request("/large"))
        for peer in peers:
            assert (await answer(peer))[1] == b"header\n" + LARGE
        assert bench.handler.times == [2]

    run(source, scenario)


def test_small_answers_do_not_wait_for_a_turn_of_sendfile(source: FileSource) -> None:
    """What is pending is answered before a large transfer goes on."""

    async def scenario(bench: Bench) -> None:
        await make_known(bench, "/a")
        (_, large), (small, pending) = bench.connect(), bench.connect()
        small.send(request("/a"))
        pending.on_readable()
        assert pending.state is State.PENDING
        large._sender.queue_turn()
        assert pending.state is State.PENDING
        bench.server.context.scheduler._run()
        assert is_answered(pending)
        assert (await answer(small))[1] == b"now"

    run(source, scenario)


def is_answered(connection: Connection) -> bool:
    """Whether nothing of it is left to do."""
    return connection.state is State.READY


@pytest.mark.parametrize("status", [206, 412, 416])
def test_answers_made_for_one_request_are_not_kept(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """They would drive out what is rendered for requests that come again and again."""

    async def scenario(bench: Bench) -> None:
        await make_known(bench, "/hot", "/made")
        peer, _ = bench.connect()
        peer.send(request("/hot"))
        await answer(peer)
        kept = dict(bench.server.context.batch._rendered)
        assert kept
        monkeypatch.setattr(bench.handler, "respond_now", lambda *_: Response(status, (), b"made"))
        for _ in range(3):
            peer.send(request("/made"))
            head, content = await answer(peer)
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert content == b"made"
        assert bench.server.context.batch._rendered == kept

    run(source, scenario)
