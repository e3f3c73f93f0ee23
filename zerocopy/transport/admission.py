"""Which connections are admitted: all those of a worker are counted here, together and by network.

Owns the two bounds on open connections, `connections_max` and `connections_per_address_max`, and
their counters. Both listeners of a worker share one `Admission`, so the bounds hold for what they
carry together. A TLS connection has its seat before its handshake.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.network import network_of

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters

REFUSALS_MAX = 64
"""Connections above a bound that may get a 503 at once; more are closed without a response."""


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one connection among those of its worker, until it ends."""

    network: bytes
    is_refused: bool
    transport: int


class Admission:
    """The seats of one worker. Used in the event loop's thread only.

    A refused connection still gets a seat, so that it can be told, but one of the `REFUSALS_MAX`
    for refusals: it never keeps out a client that would be served.
    """

    def __init__(
        self, *, connections_max: int, connections_per_address_max: int, counters: Counters
    ) -> None:
        self._connections_max = connections_max
        self._per_network_max = connections_per_address_max
        self._counters = counters
        self._served = 0
        self._refused = 0
        self._by_network: dict[bytes, int] = {}

    def enter(self, host: str, transport: int = slots.PLAIN) -> Seat | None:
        """A seat for a connection from `host`, or None: close it without a response."""
        self._counters[slots.CONNECTIONS_ACCEPTED] += 1
        network = network_of(host) if self._per_network_max else b""
        here = self._by_network.get(network, 0)
        is_full = self._served >= self._connections_max or 0 < self._per_network_max <= here
        if is_full:
            self._counters[slots.CONNECTIONS_REFUSED] += 1
            if self._refused >= REFUSALS_MAX:
                return None
            self._refused += 1
        else:
            self._served += 1
            if network:
                self._by_network[network] = here + 1
        self._counters[slots.CONNECTIONS + transport] += 1
        return Seat(network, is_full, transport)

    def leave(self, seat: Seat) -> None:
        """The connection of `seat` has ended; a network is forgotten with its last one."""
        if seat.is_refused:
            self._refused -= 1
        else:
            self._served -= 1
            if seat.network:
                here = self._by_network.pop(seat.network)
                if here > 1:
                    self._by_network[seat.network] = here - 1
        self._counters[slots.CONNECTIONS + seat.transport] -= 1

    def turn_away(self) -> None:
        """Count a connection that was closed because no descriptor was left to serve it."""
        self._counters[slots.CONNECTIONS_ACCEPTED] += 1
        self._counters[slots.CONNECTIONS_REFUSED] += 1
