"""The service behind a limit of requests an address: counted before it is known who asks.

Owns which address a request has. It is a `Handler` around a `Handler`, made only where there is
such a limit, so that a server without one never asks for an address.

The network of a request is what the proxy has told in a field, else that of its peer, which the
transports have put into the request. Both are part of what makes two requests equal, so requests
that were seen before are known with their network, and nothing is slower than the counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.errors import LimitedError, OverloadError
from zerocopy.core.network import network_of

if TYPE_CHECKING:
    from zerocopy.access.limits import Limits
    from zerocopy.core.http.messages import Handler, Request, Response
    from zerocopy.core.window import Window

FIELDS_KNOWN_MAX = 4_096
"""Values of the field whose network is known without parsing."""


class LimitedService:
    """Answers while the address has requests left. Used in the event loop's thread only."""

    is_counting = True
    asks_network = True

    def __init__(self, handler: Handler, limits: Limits, address_field: str | None = None) -> None:
        self._handler = handler
        self._limits = limits
        self._field = None if address_field is None else address_field.lower().encode("ascii")
        self._networks: dict[bytes, bytes] = {}

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """See `Handler`."""
        if request.is_open:
            return self._handler.respond_now(request, times)
        network = self._network(request)
        if not self._limits.admits_address(network, times):
            return None
        response = self._handler.respond_now(request, times)
        if response is not None and times:
            self._limits.take_address(network, times)
        return response

    async def respond(self, request: Request) -> Response:
        """See `Handler`."""
        if not request.is_open:
            try:
                self._limits.check_address(self._network(request))
            except (LimitedError, OverloadError) as error:
                return self._handler.refuse(error)
        return await self._handler.respond(request)

    def counts(self, request: Request) -> bool:
        """See `Handler`."""
        return not request.is_open

    def admits(self, request: Request, response: Response) -> bool:
        """See `Handler`."""
        if request.is_open:
            return self._handler.admits(request, response)
        network = self._network(request)
        if not self._limits.admits_address(network):
            return False
        if not self._handler.admits(request, response):
            return False
        self._limits.take_address(network)
        return True

    def count_reused(self, times: int) -> None:
        """See `Handler`."""
        self._handler.count_reused(times)

    async def prepare(self, window: Window) -> None:
        """See `Handler`."""
        await self._handler.prepare(window)

    def refuse(self, error: Exception) -> Response:
        """See `Handler`."""
        return self._handler.refuse(error)

    # ----

    def _network(self, request: Request) -> bytes:
        """Who asks: what the proxy has told, else the peer of the connection.

        Those whose address cannot be told, because they have left, count together.
        """
        values = [] if self._field is None else request.values(self._field)
        if len(values) != 1:
            return request.network
        known = self._networks.get(values[0])
        if known is None:
            try:
                known = network_of(values[0].decode("ascii"))
            except ValueError:  # UnicodeDecodeError is one
                return request.network
            if len(self._networks) >= FIELDS_KNOWN_MAX:
                self._networks.clear()
            self._networks[values[0]] = known
        return known
