"""What a listener counts of its requests: how many, how long they took, how many are under way.

Owns the slots of one transport and the moments at which they change: a request counts when its
status line was sent, its duration when its last byte was. The clock is read once for all requests
that one turn answers. It knows nothing of sockets, and of the access log only whom to tell.
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from zerocopy.core import counters as slots
from zerocopy.core import endpoints
from zerocopy.core.http.messages import REASONS
from zerocopy.core.http.pending import Exchange
from zerocopy.transport.timers import TICK_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Request, Response

_TICK_NS = round(TICK_S * 1e9)
_BOUNDS_NS = slots.duration_of(slots.PLAIN, endpoints.DATA).bounds_ns
_SUM = len(_BOUNDS_NS) + 1
"""What all histograms of durations have in common; `slots.observe` costs twice as much."""


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
        self._durations = [slots.duration_of(transport, endpoint).first for endpoint in kinds]
        self._due_ns = 0
        self.access = access
        self.slots = [
            {status: slots.requests_slot(transport, endpoint, status) for status in REASONS}
            for endpoint in kinds
        ]

    # ---- requests that are answered at once

    def count(self, request: Request, response: Response, times: int = 1) -> None:
        """The status line of `response` was sent to so many equal requests."""
        self._counters[self.slots[request.endpoint][response.status]] += times

    def time(self, endpoint: int, begun_ns: int, times: int = 1) -> None:
        """So many requests, read at `begun_ns` and counted, have their last byte."""
        counters, first = self._counters, self._durations[endpoint]
        duration_ns = monotonic_ns() - begun_ns
        counters[first + bisect_left(_BOUNDS_NS, duration_ns)] += times
        counters[first + _SUM] += duration_ns * times

    def note(self, requests: Iterable[Request], response: Response, begun_ns: int) -> None:
        """Tell the access log, where there is one, of requests that have their last byte."""
        if self.access is not None:
            duration_ns = monotonic_ns() - begun_ns
            for request in requests:
                exchange = Exchange(request, begun_ns)
                exchange.response = response
                self.access(self._transport, exchange, duration_ns)

    def answered(self, request: Request, response: Response, begun_ns: int) -> None:
        """One request, read at `begun_ns`, has the whole response."""
        self.count(request, response)
        self.time(request.endpoint, begun_ns)
        self.note((request,), response, begun_ns)

    # ---- requests under way

    def begin(self, request: Request, begun_ns: int) -> Exchange:
        """A request is under way: it waits for a thread, the disk or its client."""
        self._counters[slots.REQUESTS_IN_FLIGHT] += 1
        return Exchange(request, begun_ns)

    def promise(self, exchange: Exchange, response: Response) -> None:
        """The status line of a request under way was sent."""
        exchange.response = response
        self.count(exchange.request, response)

    def end(self, exchange: Exchange) -> None:
        """A request is no longer under way; it has its last byte, or was cut off."""
        self._counters[slots.REQUESTS_IN_FLIGHT] -= 1
        if exchange.response is not None and not exchange.left_bytes:
            self.time(exchange.request.endpoint, exchange.begun_ns)
        if self.access is not None:
            self.access(self._transport, exchange, monotonic_ns() - exchange.begun_ns)

    def tick(self) -> None:
        """Called by a timer every `TICK_S`: note how late the loop has run it."""
        now_ns = monotonic_ns()
        if self._due_ns:
            slots.observe(self._counters, slots.LOOP_LAG, max(0, now_ns - self._due_ns))
        self._due_ns = now_ns + _TICK_NS
