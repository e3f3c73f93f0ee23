"""Accepting: how many at once, and who is still served when it ends."""

from __future__ import annotations

import asyncio
import socket
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from zerocopy.core import counters as slots
from zerocopy.transport.admission import Admission, Seat
from zerocopy.transport.listener import ACCEPTS_PER_TURN, Acceptor

if TYPE_CHECKING:
    from collections.abc import Callable

WAITING = 5


class Sockets:
    """A listener with `WAITING` clients in its queue, and whom the acceptor took."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=WAITING)
        self.clients = [
            socket.create_connection(self.listener.getsockname()) for _ in range(WAITING)
        ]
        self.taken: list[socket.socket] = []
        self.more = asyncio.Event()

    def take(self, sock: socket.socket, _seat: Seat) -> None:
        """Own a socket."""
        self.taken.append(sock)
        self.more.set()

    def close(self) -> None:
        """Close everything."""
        for sock in (self.listener, *self.clients, *self.taken):
            sock.close()


def acceptor_of(
    sockets: Sockets, take: Callable[[socket.socket, Seat], None] | None = None
) -> Acceptor:
    """An acceptor in the running loop."""
    admission = Admission(
        connections_max=100,
        connections_per_address_max=0,
        counters=defaultdict(int, {slots.CONNECTIONS: 0}),
    )
    return Acceptor(asyncio.get_running_loop(), admission, take or sockets.take)


@pytest.mark.parametrize(("is_shared", "first"), [(False, WAITING), (True, 1)])
def test_shared_listener_is_left_to_others_after_each_newcomer(
    *, is_shared: bool, first: int
) -> None:
    """A listener of its own is emptied in one turn, of a shared one each turn takes one."""
    assert first <= ACCEPTS_PER_TURN
    sockets = Sockets()

    async def run() -> None:
        acceptor = acceptor_of(sockets)
        acceptor.start([sockets.listener], is_shared=is_shared)
        while len(sockets.taken) < WAITING:
            before = len(sockets.taken)
            await sockets.more.wait()
            sockets.more.clear()
            assert len(sockets.taken) == before + first
        acceptor.stop()

    asyncio.run(run())
    sockets.close()


@pytest.mark.parametrize("is_shared", [False, True])
def test_who_waits_when_accepting_ends_is_taken(*, is_shared: bool) -> None:
    """Closing a listener resets what is in its queue, so the queue is emptied first."""
    sockets = Sockets()

    async def run() -> None:
        acceptor = acceptor_of(sockets)
        acceptor.start([sockets.listener], is_shared=is_shared)
        acceptor.stop()
        assert len(sockets.taken) == WAITING
        assert sockets.listener.fileno() == -1

    asyncio.run(run())
    sockets.close()


@pytest.mark.parametrize("is_stopped", [False, True])
def test_newcomer_who_fails_keeps_no_other_out(*, is_stopped: bool) -> None:
    """It is closed and leaves its seat, and the loop is told; also when accepting ends."""
    sockets = Sockets()
    failed: list[socket.socket] = []

    def take(sock: socket.socket, seat: Seat) -> None:
        if len(sockets.taken) == 1 and not failed:
            failed.append(sock)
            raise ZeroDivisionError
        sockets.take(sock, seat)

    async def run() -> None:
        told: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: told.append(context["exception"])
        )
        acceptor = acceptor_of(sockets, take)
        acceptor.start([sockets.listener])
        if not is_stopped:
            await sockets.more.wait()
            assert len(sockets.taken) == WAITING - 1, "in one turn of the loop"
        acceptor.stop()
        assert len(sockets.taken) == WAITING - 1
        assert sockets.listener.fileno() == -1
        assert [type(error) for error in told] == [ZeroDivisionError]
        assert [sock.fileno() for sock in failed] == [-1]
        assert acceptor._admission._served == WAITING - 1

    asyncio.run(run())
    sockets.close()
