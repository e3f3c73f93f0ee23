"""What a listener counts of its requests: how many, how long they took, how many are under way.

Owns the slots of one transport and the moments at which they change: a request counts when its
status line was sent, its duration when its last byte was. The clock is read once for all requests
that one turn answers. It knows nothing of sockets, and of the access log only whom to tell.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from zerocopy.core import counters as slots
from zerocopy.core import endpoints
from zerocopy.core.messages import REASONS
from zerocopy.transport.deadlines import TICK_S
from zerocopy.transport.exchange import Exchange

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters
    from zerocopy.core.messages import Request, Response

_TICK_NS = round(TICK_S * 1e9)


class Access(Protocol):
    """Who writes down requests that ended."""

    def __call__(self, transport: str, exchange: Exchange, duration_ns: int, /) -> None:
        """A request has ended, answered in full or not."""


class Account:
    """The requests of one transport in a worker; `slots` has by endpoint and status what counts."""

    __slots__ = ("_counters", "_due_ns", "_durations", "_transport", "access", "slots")

    def __init__(self, transport: int, counters: Counters, access: Access | None = None) -> None:
        kinds = range(len(endpoints.NAMES))
        self._counters = counters
        self._transport = slots.TRANSPORTS[transport]
        self._durations = [slots.duration_of(transport, endpoint) for endpoint in kinds]
        self._due_ns = 0
        self.access = access
        self.slots = [
            {status: slots.requests_slot(transport, endpoint, status) for status in REASONS}
            for endpoint in kinds
        ]

    # ---- requests that are answered at once

    def answered(self, request: Request, response: Response, begun_ns: int, times: int = 1) -> None:
        """So many equal requests, read at `begun_ns`, have the whole response."""
        self._counters[self.slots[request.endpoint][response.status]] += times
        duration_ns = self.time(request.endpoint, begun_ns, times)
        if self.access is not None:
            for _ in range(times):
                self.note(request, response, begun_ns, duration_ns)

    def time(self, endpoint: int, begun_ns: int, times: int) -> int:
        """So many requests, counted already, have their last byte; how long that took."""
        duration_ns = monotonic_ns() - begun_ns
        slots.observe(self._counters, self._durations[endpoint], duration_ns, times)
        return duration_ns

    def note(self, request: Request, response: Response, begun_ns: int, duration_ns: int) -> None:
        """Tell the access log, where there is one, of a request that has its last byte."""
        if self.access is not None:
            exchange = Exchange(request, begun_ns)
            exchange.response = response
            self.access(self._transport, exchange, duration_ns)

    # ---- requests under way

    def begin(self, request: Request, begun_ns: int) -> Exchange:
        """A request is under way: it waits for a thread, the disk or its client."""
        self._counters[slots.REQUESTS_IN_FLIGHT] += 1
        return Exchange(request, begun_ns)

    def promise(self, exchange: Exchange, response: Response) -> None:
        """The status line of a request under way was sent."""
        exchange.response = response
        self._counters[self.slots[exchange.request.endpoint][response.status]] += 1

    def end(self, exchange: Exchange) -> None:
        """A request is no longer under way; it has its last byte, or was cut off."""
        self._counters[slots.REQUESTS_IN_FLIGHT] -= 1
        duration_ns = monotonic_ns() - exchange.begun_ns
        if exchange.response is not None and not exchange.left_bytes:
            histogram = self._durations[exchange.request.endpoint]
            slots.observe(self._counters, histogram, duration_ns)
        if self.access is not None:
            self.access(self._transport, exchange, duration_ns)

    def tick(self) -> None:
        """Called by a timer every `TICK_S`: note how late the loop has run it."""
        now_ns = monotonic_ns()
        if self._due_ns:
            slots.observe(self._counters, slots.LOOP_LAG, max(0, now_ns - self._due_ns))
        self._due_ns = now_ns + _TICK_NS
