"""Admission and Acceptor: bounds on open connections, and a system that has no room for more."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.descriptors import held
from zerocopy.core.counters import (
    CONNECTIONS,
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_REFUSED,
    SLOTS,
)
from zerocopy.transport.admission import REFUSALS_MAX, Admission, Seat
from zerocopy.transport.listener import ACCEPTS_PER_TURN, PATIENCE_TICKS, Acceptor
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def admission_of(total: int, per_address: int = 0) -> tuple[Admission, list[int]]:
    """An empty one, and its counters."""
    counters = [0] * len(SLOTS)
    return Admission(
        connections_max=total, connections_per_address_max=per_address, counters=counters
    ), counters


def served(admission: Admission, host: str) -> Seat:
    """A seat that is not one of a refusal."""
    seat = admission.enter(host)
    assert seat is not None
    assert not seat.is_refused
    return seat


def refused(admission: Admission, host: str) -> Seat:
    """A seat that is one of a refusal."""
    seat = admission.enter(host)
    assert seat is not None
    assert seat.is_refused
    return seat


# ---- the bounds


def test_bound_refuses_then_closes_without_a_word() -> None:
    """Up to the bound all are served, `REFUSALS_MAX` more are told so, and then nobody is."""
    admission, counters = admission_of(3)
    inside = [served(admission, ONE) for _ in range(3)]
    told = [refused(admission, OTHER) for _ in range(REFUSALS_MAX)]
    assert admission.enter(OTHER) is None
    assert counters[CONNECTIONS] == 3 + REFUSALS_MAX
    assert counters[CONNECTIONS_ACCEPTED] == 4 + REFUSALS_MAX
    assert counters[CONNECTIONS_REFUSED] == 1 + REFUSALS_MAX
    admission.leave(inside.pop())
    inside.append(served(admission, OTHER))
    for seat in inside + told:
        admission.leave(seat)
    assert counters[CONNECTIONS] == 0


def test_refused_connections_take_no_place_of_one_that_is_served() -> None:
    """With every refusal still open, a place that is free is given to the next client."""
    admission, _ = admission_of(1)
    inside = served(admission, ONE)
    for _ in range(REFUSALS_MAX):
        refused(admission, OTHER)
    admission.leave(inside)
    served(admission, OTHER)


def test_bound_of_an_address_leaves_the_others_alone() -> None:
    """One more of the same address is refused, one of another is served, and so after leaving."""
    admission, counters = admission_of(10, per_address=2)
    first = served(admission, ONE)
    served(admission, f"::ffff:{ONE}")
    told = refused(admission, ONE)
    served(admission, OTHER)
    admission.leave(told)
    assert counters[CONNECTIONS] == 3
    refused(admission, ONE)
    admission.leave(first)
    served(admission, ONE)


def test_crowd_of_one_address_leaves_room_for_the_others() -> None:
    """However many come from one address, the rest of the places stays for other addresses."""
    admission, _ = admission_of(4, per_address=2)
    for _ in range(1_000):
        admission.enter(ONE)
    served(admission, OTHER)
    served(admission, OTHER)
    assert admission.enter("192.0.2.3") is None, "all places are taken, and those of refusals too"


def test_address_is_forgotten_with_its_last_connection() -> None:
    """Memory grows with the connections that are open, not with the addresses ever seen."""
    admission, _ = admission_of(100, per_address=2)
    for number in range(10_000):
        admission.leave(served(admission, f"10.0.{number // 256}.{number % 256}"))
    assert admission._by_network == {}


def test_addresses_are_not_kept_without_a_bound_of_theirs() -> None:
    """With 0 all come from wherever they like, a name that is no address included."""
    admission, _ = admission_of(100)
    for _ in range(100):
        served(admission, "")
    assert admission._by_network == {}


@given(
    moves=st.lists(
        st.one_of(st.sampled_from([ONE, OTHER, "::1", "::2"]), st.integers(0, 9)), max_size=60
    )
)
def test_bounds_and_gauge_hold_in_any_order(moves: list[str | int]) -> None:
    """Whoever comes and goes: no bound is passed, and the gauge is what is open."""
    admission, counters = admission_of(5, per_address=2)
    seats: list[Seat] = []
    for move in moves:
        if isinstance(move, int):
            if move < len(seats):
                admission.leave(seats.pop(move))
        elif (seat := admission.enter(move)) is not None:
            seats.append(seat)
        inside = [seat.network for seat in seats if not seat.is_refused]
        assert counters[CONNECTIONS] == len(seats)
        assert len(inside) <= 5
        assert all(inside.count(network) <= 2 for network in inside)
        assert admission._by_network == {network: inside.count(network) for network in inside}


# ---- accepting


class Bench:
    """An acceptor on a listener of this machine, and the connections it gave away."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.admission, self.counters = admission_of(10_000)
        self.accepted: list[socket.socket] = []
        self.clients: list[socket.socket] = []
        self.acceptor = Acceptor(loop, self.admission, self._on_accepted)
        self.listener = Listener()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(1_024)
        self.acceptor.start([self.listener])

    def _on_accepted(self, sock: socket.socket, _seat: Seat) -> None:
        self.accepted.append(sock)

    def connect(self, count: int) -> None:
        """As many clients, in the kernel's queue."""
        for _ in range(count):
            self.clients.append(socket.create_connection(self.listener.getsockname(), 10))

    def scheduler(self, count: int = 3) -> None:
        """Let the loop go around, which looks for readable sockets each time."""

        async def go_around() -> None:
            for _ in range(count):
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)

        self.loop.run_until_complete(go_around())

    def close(self) -> None:
        """Stop, and close everything."""
        self.acceptor.stop()
        for sock in self.accepted + self.clients:
            sock.close()


class Listener(socket.socket):
    """A listening socket that fails as it is told to, and counts how often it was asked."""

    failure = 0
    calls = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept, or fail as told."""
        self.calls += 1
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure))
        return super().accept()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench that leaves no descriptor open."""
    first = new_event_loop()  # libuv keeps a pipe of its own for the whole process
    first.run_until_complete(asyncio.sleep(0))
    first.close()
    before = held()
    loop = new_event_loop()
    opened = Bench(loop)
    yield opened
    opened.close()
    opened.scheduler()
    loop.close()
    assert not held() - before


def test_accepted_sockets_wait_for_nothing(bench: Bench) -> None:
    """They do not block, and small writes leave at once (TCP_NODELAY), as the listener was told."""
    bench.connect(1)
    bench.scheduler()
    (sock,) = bench.accepted
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert sock.gettimeout() == 0
    assert not sock.get_inheritable()


def test_crowd_is_accepted_in_bounded_turns(bench: Bench) -> None:
    """Between two of them those who are inside get theirs."""
    bench.connect(2 * ACCEPTS_PER_TURN + 5)
    bench.acceptor._on_acceptable(bench.listener)
    assert len(bench.accepted) == ACCEPTS_PER_TURN
    bench.scheduler()
    assert len(bench.accepted) == len(bench.clients)


def test_connection_beyond_every_bound_is_closed_at_once(bench: Bench) -> None:
    """No seat, no connection: the client sees the end, and nothing keeps the socket."""
    bench.admission._connections_max = 0
    bench.connect(REFUSALS_MAX + 1)
    bench.scheduler(10)
    assert len(bench.accepted) == REFUSALS_MAX
    assert bench.clients[-1].recv(1) == b""


@pytest.mark.parametrize("failure", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_shortage_pauses_until_the_next_tick(bench: Bench, failure: int) -> None:
    """One failed call a tick, whatever the number of turns; who waited is served afterwards."""
    bench.listener.failure = failure
    bench.connect(3)
    bench.scheduler(50)
    assert bench.listener.calls == 1
    for count in range(2, 5):
        bench.acceptor.tick()
        bench.scheduler(50)
        assert bench.listener.calls == count
    bench.listener.failure = 0
    bench.acceptor.tick()
    bench.scheduler()
    assert len(bench.accepted) == 3
    assert bench.counters[CONNECTIONS_ACCEPTED] == 3


def test_fault_of_one_connection_is_no_shortage(bench: Bench) -> None:
    """ECONNABORTED is that client's affair: the others are accepted in the same turn."""
    bench.listener.failure = errno.ECONNABORTED
    bench.connect(1)
    bench.scheduler(1)
    assert bench.listener.calls >= ACCEPTS_PER_TURN
    bench.listener.failure = 0
    bench.scheduler()
    assert len(bench.accepted) == 1


def starve(bench: Bench) -> None:
    """Be readable and tick until patience with a shortage is at its end; without the loop."""
    for _ in range(PATIENCE_TICKS):
        bench.acceptor._on_acceptable(bench.listener)
        bench.acceptor.tick()


def test_lasting_shortage_closes_who_waits(bench: Bench) -> None:
    """With no descriptor left at all each of them is closed, by means of the spare one."""
    with ExitStack() as stack:
        bench.connect(5)
        for client in bench.clients:
            client.settimeout(10)
        resource_hog(stack)
        bench.listener.calls = 0
        starve(bench)
        assert bench.counters[CONNECTIONS_ACCEPTED] == 0, "they get the time to be served late"
        bench.acceptor._on_acceptable(bench.listener)
        assert bench.accepted == []
        assert [client.recv(1) for client in bench.clients] == [b""] * 5
        assert bench.counters[CONNECTIONS_ACCEPTED] == bench.counters[CONNECTIONS_REFUSED] == 5
        assert bench.counters[CONNECTIONS] == 0
        assert bench.acceptor._spare is not None
    bench.acceptor.tick()
    bench.connect(1)
    bench.scheduler()
    assert len(bench.accepted) == 1


def resource_hog(stack: ExitStack) -> None:
    """Leave this process no descriptor until `stack` is closed."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(int(fd) for fd, _ in held()) + 8, limits[1]))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
    while True:
        try:
            stack.callback(os.close, os.dup(0))
        except OSError:
            return


def test_shortage_of_memory_that_lasts_neither_spins_nor_fails(bench: Bench) -> None:
    """There the spare descriptor is of no help: who waits goes on waiting, and is served later."""
    bench.listener.failure = errno.ENOMEM
    bench.connect(2)
    starve(bench)
    calls = bench.listener.calls
    bench.scheduler(50)
    assert bench.listener.calls <= calls + 2
    bench.listener.failure = 0
    bench.acceptor.tick()
    bench.scheduler()
    assert len(bench.accepted) == 2


def test_patience_begins_anew_with_each_shortage(bench: Bench) -> None:
    """What was waited out is forgotten: a short one later closes nobody."""
    bench.listener.failure = errno.EMFILE
    bench.connect(1)
    starve(bench)
    bench.listener.failure = 0
    bench.scheduler()
    for _ in range(2):
        bench.acceptor.tick()
    bench.listener.failure = errno.EMFILE
    bench.connect(1)
    bench.acceptor._on_acceptable(bench.listener)
    assert bench.counters[CONNECTIONS_REFUSED] == 0
    bench.listener.failure = 0
    bench.acceptor.tick()
    bench.scheduler()
    assert len(bench.accepted) == 2


def test_connection_that_cannot_be_begun_gives_its_seat_back(bench: Bench) -> None:
    """A server that fails with it leaves no place taken, no descriptor open, and is heard of."""
    told: list[BaseException] = []
    bench.loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def fail(_sock: socket.socket, _seat: Seat) -> None:
        raise MemoryError

    bench.acceptor._on_accepted = fail
    bench.connect(1)
    bench.acceptor._on_acceptable(bench.listener)
    assert [type(error) for error in told] == [MemoryError]
    assert bench.counters[CONNECTIONS] == 0
    assert bench.clients[0].recv(1) == b""


def test_stop_gives_the_descriptors_back_and_ticks_no_more(bench: Bench) -> None:
    """Listener and spare are closed, also amid a shortage; a late tick does nothing."""
    bench.listener.failure = errno.EMFILE
    bench.connect(1)
    bench.scheduler()
    bench.acceptor.stop()
    assert bench.listener.fileno() == -1
    assert bench.acceptor._spare is None
    bench.acceptor.tick()
    bench.scheduler()
    assert bench.accepted == []
