"""What a listener counts where names have a number of bytes a day: those that it promises, besides.

Owns the moments at which bytes count. All of a response does when its status line is sent, or many
at once could exceed any limit. What was not sent is given back when it ends. It takes the place of
`RequestMetrics` only where `[auth]` is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.access import REQUESTS, SENT_BYTES
from zerocopy.core.http.messages import content_bytes
from zerocopy.core.http.pending import PendingRequest
from zerocopy.transport.request_metrics import RequestMetrics, write_nothing

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Request, Response


class MeteredRequest(PendingRequest):
    """A request under way, and the day on which the bytes of its response count."""

    __slots__ = ("day",)

    def __init__(self, request: Request, begun_ns: int) -> None:
        super().__init__(request, begun_ns)
        self.day = 0


class MeteredMetrics(RequestMetrics):
    """As `RequestMetrics`, with a tally: then batches tell what they have sent."""

    __slots__ = ()

    def note(self, request: Request, response: Response, begun_ns: int, times: int = 1) -> None:
        """See `RequestMetrics`. Who has no limits and asks once more costs the two counts alone."""
        grant = request.grant
        if grant is not None:
            usage, counts = grant.usage, grant.tallied
            if usage is None and counts is not None and self.access is write_nothing:
                counts[REQUESTS] += times
                counts[SENT_BYTES] += 0 if request.is_head else response.nbytes * times
                return
            if usage is not None:
                usage.spend(content_bytes(request, response) * times)
        self.note_spent(request, response, begun_ns, times)

    def spend(self, request: Request, response: Response) -> None:
        """See `RequestMetrics`."""
        grant = request.grant
        if grant is not None and grant.usage is not None:
            grant.usage.spend(content_bytes(request, response))

    def begin(self, request: Request, begun_ns: int) -> PendingRequest:
        """See `RequestMetrics`."""
        self._counters[slots.REQUESTS_IN_FLIGHT] += 1
        return MeteredRequest(request, begun_ns)

    def promise(self, pending: PendingRequest, response: Response) -> None:
        """See `RequestMetrics`; the messages of a stream count as they leave."""
        super().promise(pending, response)
        assert isinstance(pending, MeteredRequest), "made by begin"
        grant = pending.grant
        if grant is not None and grant.usage is not None:
            pending.day = grant.usage.spend(content_bytes(pending.request, response))

    def end(self, pending: PendingRequest) -> None:
        """See `RequestMetrics`."""
        assert isinstance(pending, MeteredRequest), "made by begin"
        response, grant = pending.response, pending.grant
        if pending.left_bytes and response is not None and grant is not None and grant.usage:
            promised = content_bytes(pending.request, response)
            grant.usage.give_back(min(pending.left_bytes, promised), pending.day)
        super().end(pending)
