"""One request that is not answered at once: its client, its beginning, and what was promised.

Owns what metrics and logs need to know of it until its last byte. A request that is answered in the
turn that read it has no such object: making one costs more than counting the request.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.core.access import Grant
    from zerocopy.core.http.messages import Request, Response


class PendingRequest:
    """A request, the moment its head was read, and its response once that has begun.

    `left_bytes` of the response had gone neither to the kernel nor to TLS when it ended: more than
    0 if it was cut off. `id` names it in the log, which makes one if the client gave none. `grant`
    is who asks, once that is known, and whatever comes of it.
    """

    __slots__ = ("begun_ns", "grant", "id", "left_bytes", "request", "response")

    def __init__(self, request: Request, begun_ns: int) -> None:
        self.request = request
        self.begun_ns = begun_ns
        self.response: Response | None = None
        self.left_bytes = 0
        self.id: str | None = None
        self.grant: Grant | None = request.grant


CURRENT: ContextVar[PendingRequest | None] = ContextVar("pending", default=None)
"""What the present task answers: a line of the log may name it."""
