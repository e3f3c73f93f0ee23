"""Accepting: from the listening sockets of a server to its connections, in bounded steps.

Owns the listeners, and what happens if the system has no descriptor or memory for another
connection:

- Accepting pauses until the next tick. The listener stays readable, so without a pause the loop
  would spin. Meanwhile the descriptors may come back: a plan that is being made holds more than a
  hundred. Waiting connections stay in the kernel's queue and are served late.
- If the shortage lasts, clients would hang until they give up. So waiting connections are accepted
  and closed one after the other, by means of a descriptor that is kept for this.

Several processes may share a listener (systemd opens one for all). Each of them is woken for each
new connection and takes one at a time: while it is busy with that one, another is awake.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from zerocopy.core.counters import PLAIN
from zerocopy.transport.timers import TICK_S

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from zerocopy.transport.admission import Admission, Seat

ACCEPTS_PER_TURN = 64
"""Connections accepted before the ones that are open get their turn."""

ACCEPTS_PER_TURN_SHARED = 1
"""The same for a listener that other workers share, as in nginx without multi_accept."""

ACCEPTS_AT_END_MAX = 1_024
"""Connections that are taken from a listener's queue before it is closed: a default backlog."""

PATIENCE_TICKS = int(5.0 / TICK_S)
"""How long a shortage may last before waiting connections are closed."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Acceptor:
    """Accepts for one server; `on_accepted` owns each socket that it is given, and its seat."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        admission: Admission,
        on_accepted: Callable[[socket.socket, Seat], None],
        transport: int = PLAIN,
    ) -> None:
        self._accepts_per_turn = ACCEPTS_PER_TURN
        self._loop = loop
        self._admission = admission
        self._on_accepted = on_accepted
        self._transport = transport
        self._listeners: list[socket.socket] = []
        self._spare: socket.socket | None = None
        self._is_paused = False
        self._short_ticks = 0

    def start(self, listeners: Sequence[socket.socket], *, is_shared: bool = False) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this acceptor's."""
        if is_shared:
            self._accepts_per_turn = ACCEPTS_PER_TURN_SHARED
        self._listeners = list(listeners)
        self._spare = _unused_descriptor()
        for listener in self._listeners:
            listener.setblocking(False)
            # Accepted sockets inherit it (tcp(7)), so it costs no call for each.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._resume()

    def stop(self) -> None:
        """Accept only what waits in the queue already, because closing would reset it."""
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            self._accept(listener, ACCEPTS_AT_END_MAX)
            listener.close()
        self._listeners = []
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def tick(self) -> None:
        """Try again after a shortage; called every `TICK_S`."""
        if self._is_paused:
            self._short_ticks += 1
            self._resume()
        else:
            self._short_ticks = 0

    def _on_acceptable(self, listener: socket.socket) -> None:
        self._accept(listener, self._accepts_per_turn)

    def _accept(self, listener: socket.socket, most: int) -> None:
        for _ in range(most):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    if self._short_ticks >= PATIENCE_TICKS:
                        self._turn_away(listener)
                    self._pause()
                    return
                continue  # a fault of that connection alone (accept(2), Error handling)
            seat = None
            try:
                sock.setblocking(False)
                seat = self._admission.enter(address[0], self._transport)
                if seat is None:
                    sock.close()
                else:
                    self._on_accepted(sock, seat)
            except Exception as error:  # noqa: BLE001 - the next connection is served
                if seat is not None:
                    self._admission.leave(seat)
                sock.close()
                message = "a connection could not be served"
                self._loop.call_exception_handler({"message": message, "exception": error})

    def _turn_away(self, listener: socket.socket) -> None:
        """Close waiting connections: the spare descriptor gives room for one at a time."""
        if self._spare is not None:
            self._spare.close()
        try:
            for _ in range(ACCEPTS_PER_TURN):
                listener.accept()[0].close()
                self._admission.turn_away()
        except OSError:
            pass  # no connection waits any more, or the shortage is not one of descriptors
        self._spare = _unused_descriptor()

    def _pause(self) -> None:
        self._is_paused = True
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())

    def _resume(self) -> None:
        self._is_paused = False
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._on_acceptable, listener)


def _unused_descriptor() -> socket.socket | None:
    """Something that holds a descriptor and nothing else; None where there is none left."""
    try:
        return socket.socket()
    except OSError:
        return None
