"""The table of states, and that a connection moves by it and by nothing else."""

from __future__ import annotations

import pytest

from tests.transport.feeds import message
from tests.transport.http1.bench import (
    LARGE,
    Bench,
    FileSource,
    answer,
    receive,
    request,
    run,
    until,
)
from zerocopy.core import counters as slots
from zerocopy.core.http.stream import End
from zerocopy.transport.http1.connection import Connection
from zerocopy.transport.http1.state import MEANINGS, MOVES, State


def test_each_state_has_a_meaning_and_leads_to_closed() -> None:
    """And closed leads nowhere."""
    assert list(MEANINGS) == list(State)
    for state in State:
        assert (State.CLOSED in state.follows) == (state is not State.CLOSED)
    assert not State.CLOSED.follows


def test_table_is_what_the_states_know() -> None:
    """Each move once, between two states; each state is reached from the first one."""
    known = {(state, after) for state in State for after in state.follows}
    assert known == {*MOVES, *((state, State.CLOSED) for state in State if state.follows)}
    assert sum(len(state.follows) for state in State) == len(known)
    reached = {State.READY}
    while more := {after for before, after in known if before in reached} - reached:
        reached |= more
    assert reached == set(State)


@pytest.mark.parametrize("before", State, ids=lambda state: state.value)
def test_illegal_move_is_a_fault_and_changes_nothing(source: FileSource, before: State) -> None:
    """Whatever the connection, it stays where it stood."""

    async def scenario(bench: Bench) -> None:
        for after in State:
            _, connection = bench.connect()
            connection.state = before
            if after in before.follows:
                connection.move(after)
                assert connection.state is after
            else:
                with pytest.raises(AssertionError, match="does not lead"):
                    connection.move(after)
                assert connection.state is before
            connection.state = State.READY
            connection.close()

    run(source, scenario, connections_max=20)


class Watched(Connection):
    """A connection that writes its moves down."""

    __slots__ = ("_at",)

    seen: set[tuple[State, State]]

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._at

    @state.setter
    def state(self, after: State) -> None:
        before = getattr(self, "_at", None)
        self._at = after
        if before is not None:
            self.seen.add((before, after))


@pytest.fixture(name="seen")
def fixture_seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[State, State]]:
    """The moves of all connections from now on."""
    seen = set[tuple[State, State]]()
    monkeypatch.setattr("zerocopy.transport.http1.connections.Connection", Watched)
    monkeypatch.setattr(Watched, "seen", seen, raising=False)
    return seen


def test_every_move_of_the_table_is_made_and_no_other(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, seen: set[tuple[State, State]]
) -> None:
    """By small responses, large ones, planned ones, from the disk, and by full sockets."""

    async def make_moves(bench: Bench) -> None:
        scheduler = bench.server.context.scheduler
        peer, connection = bench.connect()
        bench.handler.gate.set()
        for target in ("/now", "/now", "/later", "/large"):
            peer.send(request(target))
            await answer(peer)
        # More than a turn of small responses; they wait for the next.
        peer.send(40 * request("/now"))
        for _ in range(40):
            await answer(peer)
        # A response of the batch that the socket takes a part of, with turns left and without.
        whole = connection.send
        for spent in (0, 1 << 40):
            await until(lambda: scheduler.has_room)
            peer.send(request("/now"))
            connection.on_readable()
            monkeypatch.setattr(connection, "send", lambda data: whole(data[:10]))
            if spent:
                scheduler.spend(spent)
            bench.server.context.batch.answer()
            monkeypatch.setattr(connection, "send", whole)
            await answer(peer)
        # From the disk.
        monkeypatch.setattr(source, "ready", lambda *_, **__: 0)
        peer.send(request("/large"))
        await answer(peer)
        # The last one.
        peer.send(request("/now", "Connection: close"))
        await answer(peer)
        await until(lambda: connection.state is State.LINGERING)
        peer.sock.close()
        await until(lambda: connection.state is State.CLOSED)
        # An endless one: small messages, a full socket, a large message, more than a turn, the end.
        peer, connection = bench.connect()
        peer.send(request("/live"))
        await until(lambda: connection.state is State.STREAMING)
        (feed,) = bench.handler.feeds
        feed.say(message(b"small"), *[message(LARGE[:60_000])] * 20)
        feed.say(*[message(b"small")] * 40)
        await receive(peer, 60_000 * 20)
        await until(lambda: connection.state is State.STREAMING and not feed.items)
        feed.say(End(1000, ""))
        await until(lambda: connection.state is State.LINGERING)
        peer.sock.close()
        await until(lambda: connection.state is State.CLOSED)

    async def scenario(bench: Bench) -> None:
        await make_moves(bench)
        assert not MOVES.keys() - seen
        assert seen <= {*MOVES, *((state, State.CLOSED) for state in State)}

    run(source, scenario)


async def bring(bench: Bench, state: State, patch: pytest.MonkeyPatch) -> Connection:
    """A connection that stands there."""
    peer, connection = bench.connect()
    if state is State.PENDING:
        peer.send(request("/now"))
        await answer(peer)
    if state is State.QUEUED:
        bench.server.context.scheduler.spend(1 << 40)
    if state is State.FETCHING:
        patch.setattr(bench.handler.source, "ready", lambda *_, **__: 0)
    asked = {
        State.PENDING: request("/now"),
        State.WAITING: request("/later"),
        State.QUEUED: request("/large"),
        State.SENDING: request("/large"),
        State.FETCHING: request("/large"),
        State.STREAMING: request("/live"),
        State.LINGERING: request("/now", "Connection: close"),
    }
    if state in asked:
        peer.send(asked[state])
        connection.on_readable()
    if state is State.STREAMING:
        bench.handler.gate.set()
    if state in (State.SENDING, State.STREAMING):
        await until(lambda: connection.state is state)
    assert connection.state is state
    return connection


@pytest.mark.parametrize(
    "state", [state for state in State if state is not State.CLOSED], ids=lambda state: state.value
)
@pytest.mark.parametrize("end", ["abort", "close"])
def test_connection_can_be_closed_in_every_state(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, state: State, end: str
) -> None:
    """It gives everything back, and what was under way for it finds it closed."""

    async def scenario(bench: Bench) -> None:
        connection = await bring(bench, state, monkeypatch)
        getattr(connection, end)()
        assert connection.state is State.CLOSED
        assert bench.counters[slots.CONNECTIONS] == bench.counters[slots.REQUESTS_IN_FLIGHT] == 0
        assert bench.server.context.bodies.count == 0
        bench.handler.gate.set()
        await until(lambda: not bench.server.connections._tasks)
        await until(lambda: not len(bench.server.context.scheduler))
        assert connection.state is State.CLOSED
        assert not bench.faults
        assert not bench.failures

    run(source, scenario)
