"""What a listener counts of its requests: how many, how long they took, how many are under way.

Owns the slots of one transport and the moments at which they change. A request counts when its
status line is sent, its duration when its last byte is. The clock is read once for all requests
that one iteration of the event loop answers. It knows no sockets, and of the access log only a
function to call.
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from zerocopy.core import counters as slots
from zerocopy.core import endpoints
from zerocopy.core.http.messages import REASONS
from zerocopy.core.http.pending import PendingRequest
from zerocopy.transport.timers import TICK_S

if TYPE_CHECKING:
    from zerocopy.core.access import Grant
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Request, Response

_TICK_NS = round(TICK_S * 1e9)
_BOUNDS_NS = slots.duration_of(slots.PLAIN, endpoints.DATA).bounds_ns
_SUM = len(_BOUNDS_NS) + 1
"""What all histograms of durations have in common; `slots.observe` costs twice as much."""


class Access(Protocol):
    """The access log, as seen from a transport."""

    def __call__(self, transport: str, pending: PendingRequest, duration_ns: int, /) -> None:
        """A request has ended, answered in full or not."""


class Tally(Protocol):
    """What is counted by who asks, as seen from a transport; only where `[auth]` is on."""

    def __call__(self, grant: Grant, nbytes: int, times: int, /) -> None:
        """So many requests of `grant` have ended; each was sent `nbytes` of content."""


def write_nothing(_transport: str, _pending: PendingRequest, _duration_ns: int) -> None:
    """The access log of those who have a tally alone: nobody else pays for the question."""


class RequestMetrics:
    """The requests of one transport in a worker; `slots` has counters by endpoint and status."""

    __slots__ = ("_counters", "_due_ns", "_durations", "_tally", "_transport", "access", "slots")

    def __init__(
        self,
        transport: int,
        counters: Counters,
        access: Access | None = None,
        tally: Tally | None = None,
    ) -> None:
        kinds = range(len(endpoints.NAMES))
        self._counters = counters
        self._transport = slots.TRANSPORTS[transport]
        self._durations = [slots.duration_of(transport, endpoint).first for endpoint in kinds]
        self._due_ns = 0
        self._tally = tally
        self.access = write_nothing if access is None and tally is not None else access
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

    def spend(self, request: Request, response: Response) -> None:
        """A response is sent, and `note_spent` later: its bytes count, where those of names do."""

    def note(self, request: Request, response: Response, begun_ns: int, times: int = 1) -> None:
        """Equal requests have the whole of a response that was at hand."""
        self.note_spent(request, response, begun_ns, times)

    def note_spent(self, request: Request, response: Response, begun_ns: int, times: int) -> None:
        """The same, and their bytes were counted: write them to the access log, if there is one."""
        if self.access is not None:
            grant = request.grant
            if self._tally is not None and grant is not None:
                self._tally(grant, 0 if request.is_head else response.nbytes, times)
            if self.access is write_nothing:
                return
            duration_ns = monotonic_ns() - begun_ns
            for _ in range(times):
                pending = PendingRequest(request, begun_ns)
                pending.response = response
                self.access(self._transport, pending, duration_ns)

    def answered(self, request: Request, response: Response, begun_ns: int) -> None:
        """One request, read at `begun_ns`, has the whole response."""
        self.count(request, response)
        self.time(request.endpoint, begun_ns)
        self.note(request, response, begun_ns)

    # ---- requests under way

    def begin(self, request: Request, begun_ns: int) -> PendingRequest:
        """A request is under way: it waits for a thread, the disk or its client."""
        self._counters[slots.REQUESTS_IN_FLIGHT] += 1
        return PendingRequest(request, begun_ns)

    def promise(self, pending: PendingRequest, response: Response) -> None:
        """The status line of a request under way was sent.

        To an endless response the request is answered with that, and is under way no longer. Its
        hours would hide the seconds of others.
        """
        pending.response = response
        self.count(pending.request, response)
        if response.feed is not None:
            self._counters[slots.REQUESTS_IN_FLIGHT] -= 1
            self.time(pending.request.endpoint, pending.begun_ns)

    def end(self, pending: PendingRequest) -> None:
        """A request is no longer under way; it has its last byte, or was cut off."""
        response = pending.response
        if response is None or response.feed is None:
            self._counters[slots.REQUESTS_IN_FLIGHT] -= 1
        if response is not None and response.feed is None and not pending.left_bytes:
            self.time(pending.request.endpoint, pending.begun_ns)
        if self.access is not None:
            grant = pending.grant
            if self._tally is not None and grant is not None and response is not None:
                promised = 0 if pending.request.is_head else response.nbytes
                self._tally(grant, max(0, promised - pending.left_bytes), 1)
            self.access(self._transport, pending, monotonic_ns() - pending.begun_ns)

    def tick(self) -> None:
        """Called by a timer every `TICK_S`: note how late the loop has run it."""
        now_ns = monotonic_ns()
        if self._due_ns:
            slots.observe(self._counters, slots.LOOP_LAG, max(0, now_ns - self._due_ns))
        self._due_ns = now_ns + _TICK_NS
