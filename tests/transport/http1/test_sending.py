"""How long a connection waits for a client that takes nothing, whatever it has for it."""

from __future__ import annotations

import asyncio
import select
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.transport.http1.bench import Bench, FileSource, Peer, request, run, until
from zerocopy.core import counters as slots
from zerocopy.transport.http1.state import RESPONSE_COST_BYTES, STALL_SAMPLES, State
from zerocopy.transport.transfer import queued_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zerocopy.transport.http1.connection import Connection

ONE_ANSWER_A_TURN = RESPONSE_COST_BYTES


def waits_for_its_client(connection: Connection) -> bool:
    """Whether nothing happens on a connection until its client reads."""
    writable = select.poll()
    writable.register(connection._fd, select.POLLOUT)
    return connection._writing and not writable.poll(0)


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
            wheel = bench.server.wheel
            for _ in range(1 + STALL_SAMPLES):
                assert connection.state is State.SENDING
                assert connection.deadline <= wheel.now + bench.server.stall_ticks
                wheel.now = connection.deadline
                connection.on_deadline()
        assert connection.state is State.CLOSED
        assert bench.counters[slots.CONNECTIONS] == 0
        assert bench.counters[slots.REQUESTS_IN_FLIGHT] == 0
        assert bench.counters[slots.TRANSFERS_ABORTED] == 1
        assert bench.server.transfers_held == 0

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
                lengths.append(queued_bytes(connection._fd))
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
        bench.server.idle_ticks = 1_000
        peer, connection = bench.connect()
        bench.server.turns.spend(1 << 40)
        peer.send(request("/large"))
        connection.on_readable()
        connection.on_deadline()
        await until(lambda: waits_for_its_client(connection))
        assert connection.deadline <= bench.server.wheel.now + bench.server.stall_ticks

    run(source, scenario)
