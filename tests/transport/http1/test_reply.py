"""What becomes of a request: whom it is named after, and how long its client is waited for."""

from __future__ import annotations

import asyncio
import select
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.transport.http1.bench import (
    LARGE,
    Bench,
    FileSource,
    Peer,
    answer,
    channel_of,
    receive,
    request,
    run,
    until,
)
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.observe.access_log import request_id
from zerocopy.transport.http1.state import RESPONSE_COST_BYTES, State
from zerocopy.transport.timers import STALL_SAMPLES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.transport.http1.connection import Connection

ONE_ANSWER_A_TURN = RESPONSE_COST_BYTES


def waits_for_its_client(connection: Connection) -> bool:
    """Whether nothing happens on a connection until its client reads."""
    writable = select.poll()
    channel = channel_of(connection)
    writable.register(channel._fd, select.POLLOUT)
    return channel._is_writing and not writable.poll(0)


@asynccontextmanager
async def stalled(bench: Bench, target: str) -> AsyncIterator[tuple[Peer, Connection]]:
    """A client that asks again and again, and a connection that can send it nothing more."""
    assert bench.server._ticking is not None
    bench.server._ticking.cancel()  # the test has the time
    peer, connection = bench.connect()

    async def ask() -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(peer.sock, 100 * request(target))

    asking = asyncio.ensure_future(ask())
    await until(lambda: waits_for_its_client(connection))
    try:
        yield peer, connection
    finally:
        asking.cancel()
        await asyncio.wait([asking])


@pytest.mark.parametrize("turn_bytes_max", [ONE_ANSWER_A_TURN, 1 << 20])
@pytest.mark.parametrize("target", ["/now", "/large"])
def test_client_that_pipelines_and_never_reads_is_reset(
    source: FileSource, target: str, turn_bytes_max: int
) -> None:
    """Whether the rest of an answer waits for room or the next request for its turn."""

    async def scenario(bench: Bench) -> None:
        async with stalled(bench, target) as (_, connection):
            wheel = bench.server.context.wheel
            for _ in range(1 + STALL_SAMPLES):
                assert connection.state is State.SENDING
                assert connection.deadline <= wheel.now + bench.server.context.stall_ticks
                wheel.now = connection.deadline
                connection.on_deadline()
        assert connection.state is State.CLOSED
        assert bench.counters[slots.CONNECTIONS] == 0
        assert bench.counters[slots.REQUESTS_IN_FLIGHT] == 0
        assert bench.counters[slots.TRANSFERS_ABORTED] == 1
        assert bench.server.context.bodies.count == 0

    run(source, scenario, turn_bytes_max=turn_bytes_max)


@pytest.mark.parametrize("target", ["/now", "/large"])
def test_client_that_takes_something_between_two_looks_is_not_reset(
    source: FileSource, target: str
) -> None:
    """Not even where the queue is as long as at the look before, with other bytes."""

    async def scenario(bench: Bench) -> None:
        async with stalled(bench, target) as (peer, connection):
            lengths = []
            for _ in range(4 * STALL_SAMPLES):
                connection.on_deadline()
                assert connection.state is State.SENDING
                lengths.append(channel_of(connection).untaken_bytes())
                while waits_for_its_client(connection):
                    await peer.recv()
                await until(lambda: waits_for_its_client(connection))
            assert len(set(lengths)) < len(lengths)

    run(source, scenario, turn_bytes_max=ONE_ANSWER_A_TURN)


def test_client_has_the_whole_of_its_time(source: FileSource) -> None:
    """It is reset when so many looks in a row found nothing taken, not one earlier."""

    async def scenario(bench: Bench) -> None:
        async with stalled(bench, "/large") as (peer, connection):
            for _ in range(STALL_SAMPLES):
                for _ in range(STALL_SAMPLES):
                    connection.on_deadline()
                    assert connection.state is State.SENDING
                await peer.recv()

    run(source, scenario)


def test_time_in_which_an_answer_waits_for_us_puts_no_stall_off(source: FileSource) -> None:
    """The next look comes a sample later, not after the much longer idle time."""

    async def scenario(bench: Bench) -> None:
        bench.server.context.idle_ticks = 1_000
        peer, connection = bench.connect()
        bench.server.context.scheduler.spend(1 << 40)
        peer.send(request("/large"))
        connection.on_readable()
        connection.on_deadline()
        await until(lambda: waits_for_its_client(connection))
        assert (
            connection.deadline <= bench.server.context.wheel.now + bench.server.context.stall_ticks
        )

    run(source, scenario)


def ray_of(number: int) -> str:
    """One of many."""
    return f"{number:016x}-FRA"


def from_tunnel(number: int, target: str, *fields: str, method: str = "GET") -> bytes:
    """A request that differs from others in its ray alone."""
    return request(target, "A: b", f"Cf-Ray: {ray_of(number)}", *fields, method=method)


def ask(bench: Bench, *heads: bytes) -> list[Peer]:
    """Send each head on a connection of its own, which has read it."""
    peers = []
    for head in heads:
        peer, connection = bench.connect()
        peer.send(head)
        connection.on_readable()
        peers.append(peer)
    return peers


def note_ids(bench: Bench) -> list[str]:
    """The ids of all requests that end from now on, as the access log would write them."""
    ids: list[str] = []

    def access(_transport: str, pending: PendingRequest, _duration_ns: int) -> None:
        ids.append(request_id(pending))

    bench.server.context.metrics.access = access
    return ids


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/now", "/large", "/later"])
@pytest.mark.parametrize("drains", [False, True])
def test_every_way_to_an_answer_names_the_ray_of_its_own_request(
    source: FileSource, target: str, method: str, *, drains: bool
) -> None:
    """Alike but for the ray: at once, from a file and after a plan, also as the last answer."""

    async def scenario(bench: Bench) -> None:
        ids = note_ids(bench)
        bench.handler.gate.set()
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, target, method=method))
        await answer(peer, is_head=method == "HEAD")
        bench.server.context.draining = drains
        peers = ask(bench, *(from_tunnel(n, target, method=method) for n in (1, 2)))
        for peer in peers:
            await answer(peer, is_head=method == "HEAD")
        await until(lambda: len(ids) == 3)
        assert sorted(ids) == [ray_of(number) for number in range(3)]

    run(source, scenario)


def test_small_answer_that_meets_a_full_socket_names_its_own_ray(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rest leaves later; one beside it has its own, and so has the next."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(from_tunnel(0, "/now"))
        await answer(peer)
        ids = note_ids(bench)
        channel = channel_of(connection)
        monkeypatch.setattr(channel, "sendmsg", lambda parts, *_: channel.send(parts[0][:10]))
        bench.server.context.scheduler.spend(1 << 40)
        peer.send(from_tunnel(1, "/now"))
        connection.on_readable()
        assert connection.state is State.QUEUED
        [other] = ask(bench, from_tunnel(2, "/now"))
        assert [(await answer(each))[1] for each in (peer, other)] == [b"now"] * 2
        peer.send(from_tunnel(3, "/now"))
        await answer(peer)
        await until(lambda: len(ids) == 3)
        assert sorted(ids[:2]) == [ray_of(1), ray_of(2)]
        assert ids[2] == ray_of(3)

    run(source, scenario)


def test_transfer_that_fails_is_reported_with_the_ray_of_its_own_request(
    source: FileSource,
) -> None:
    """One with all of the same answer came before it, and one more has come since."""

    async def scenario(bench: Bench) -> None:
        failed: list[str] = []
        bench.server.context.on_transfer_failed = lambda _error, pending: failed.append(
            request_id(pending) if pending is not None else ""
        )
        ids = note_ids(bench)
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, "/large"))
        assert (await answer(peer))[1] == b"header\n" + LARGE
        [broken] = ask(bench, from_tunnel(1, "/large"))
        await receive(broken, 1_000)
        peer.send(from_tunnel(2, "/now"))
        await answer(peer)
        source.broken = DataChangedError("broken by the test")
        assert len(await receive(broken, len(LARGE))) < len(LARGE)
        assert failed == [ray_of(1)]
        assert ids == [ray_of(0), ray_of(2), ray_of(1)]

    run(source, scenario)


def test_client_that_leaves_before_its_answer_is_named_by_its_own_ray(source: FileSource) -> None:
    """While a plan is made; another request for the same goes on, with its own."""

    async def scenario(bench: Bench) -> None:
        bench.handler.gate.set()
        peer, _ = bench.connect()
        peer.send(from_tunnel(0, "/later"))
        await answer(peer)
        ids = note_ids(bench)
        bench.handler.gate.clear()
        peers = ask(bench, from_tunnel(1, "/later"), from_tunnel(2, "/later"))
        connections = list(bench.server.connections._open)[-2:]
        await until(lambda: all(each.state is State.WAITING for each in connections))
        connections[0].abort()
        assert ids == [ray_of(1)]
        bench.handler.gate.set()
        assert (await answer(peers[1]))[1] == b"later"
        assert ids == [ray_of(1), ray_of(2)]

    run(source, scenario)


def test_request_without_a_ray_is_not_named_by_that_of_another(source: FileSource) -> None:
    """On the same connection, its head known or not, behind one that had a ray."""

    async def scenario(bench: Bench) -> None:
        ids = note_ids(bench)
        peer, _ = bench.connect()
        heads = [from_tunnel(1, "/now"), from_tunnel(2, "/now"), request("/now", "A: b")]
        heads += [heads[-1], request("/now", "Cf-Ray: x"), from_tunnel(3, "/now"), heads[-1]]
        for head in heads:
            peer.send(head)
            await answer(peer)
        assert [ids[0], ids[1], ids[5]] == [ray_of(number) for number in (1, 2, 3)]
        assert not {ray_of(number) for number in (1, 2, 3)} & {ids[2], ids[3], ids[4], ids[6]}
        assert len(set(ids)) == len(heads)

    run(source, scenario)
