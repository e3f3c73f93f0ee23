"""The service behind `[auth]`: every request says who asks, and sees what that may see.

Owns the order: who asks, what is asked for, how much was had; then the service answers as it
answers anybody. It is a `Handler` around a `Handler`, made only where `[auth]` is on, so that a
server without it does nothing of this. A head that was seen before has its grant in its `Request`:
a comparison of times, and the way is that of a server without keys.

    endpoint             what a grant hides
    data, bars, live     404, word for word that of a name that does not exist
    symbols, catalog     left out of the document
    healthz, readyz, page, OPTIONS    nothing: they need no grant
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zerocopy.core import endpoints
from zerocopy.core.bars import parse_bars_query
from zerocopy.core.errors import ConfigError, NotFoundError, ZerocopyError
from zerocopy.core.query import parse_catalog_query, parse_live_query, parse_query
from zerocopy.observe.log import get_logger
from zerocopy.service.granted_feed import GrantedFeed
from zerocopy.service.scoped import Scoped

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.access.authenticator import Authenticator
    from zerocopy.core.access import Scope
    from zerocopy.core.http.messages import Request, Response
    from zerocopy.core.window import Window
    from zerocopy.service.service import Service

_UNSCOPED = frozenset({endpoints.SYMBOLS, endpoints.CATALOG})
"""Endpoints whose document is cut to a scope; it is compared with the request after that."""


_log = get_logger(__name__)


class GuardedService:
    """Answers those who may ask. Used in the event loop's thread only."""

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        executor: Executor,
        *,
        columns_max: int,
    ) -> None:
        self._service = service
        self._authenticator = authenticator
        self._executor = executor
        self._scoped = Scoped(executor)
        self._told = ""
        self._columns_max = columns_max

    # ---- the Handler of the transports

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """See `Handler`: what was granted to this very head before, while that holds."""
        grant = request.grant
        if grant is None:
            return self._service.respond_now(request, times) if _is_open(request) else None
        if grant.until_s <= time.time():
            return None
        return self._service.respond_now(request, times)

    async def respond(self, request: Request) -> Response:
        """See `Handler`."""
        if _is_open(request):
            return await self._service.respond(request)
        try:
            grant = await self._authenticator.grant(request)
            self._check(request, grant.scope)
        except ZerocopyError as error:
            return self._service.refuse(error)
        request.be_granted(grant)
        if request.endpoint in _UNSCOPED:
            return await self._cut(request, grant.scope)
        response = await self._service.respond(request)
        if response.feed is not None:
            response.feed = GrantedFeed(response.feed, grant)
        return response

    def count_reused(self, times: int) -> None:
        """See `Handler`."""
        self._service.count_reused(times)

    async def prepare(self, window: Window) -> None:
        """See `Handler`."""
        await self._service.prepare(window)

    def refuse(self, error: Exception) -> Response:
        """See `Handler`."""
        return self._service.refuse(error)

    async def look(self) -> None:
        """Called about once a second: read the key file again if it has changed."""
        try:
            await self._authenticator.look(self._executor)
        except ConfigError as error:
            self._tell_of(error.detail)
        else:
            self._told = ""

    def _tell_of(self, reason: str) -> None:
        """Log what keeps the key file from being read, once; the keys of the last time hold."""
        if reason != self._told:
            self._told = reason
            _log.error("keys_not_read", reason=reason)

    # ----

    def _check(self, request: Request, scope: Scope) -> None:
        """Whether what is asked for may be seen; what is wrong with it otherwise, is said first.

        Raises:
            NotFoundError: it is hidden, in the words for what does not exist.
            BadRequestError: the query is none.
        """
        query_string = request.target.partition(b"?")[2]
        endpoint, columns_max = request.endpoint, self._columns_max
        if scope.is_everything:
            return
        if endpoint == endpoints.DATA:
            query = parse_query(query_string, columns_max=columns_max)
            check_seen(scope, query.exchange, query.symbol, query.type)
        elif endpoint == endpoints.BARS:
            records = parse_bars_query(query_string, columns_max=columns_max).records
            check_seen(scope, records.exchange, records.symbol, records.type)
        elif endpoint == endpoints.LIVE:
            live = parse_live_query(query_string, columns_max=columns_max)
            check_seen(scope, live.exchange, live.symbol, live.type)
        elif endpoint == endpoints.CATALOG:
            check_seen(scope, *parse_catalog_query(query_string))

    async def _cut(self, request: Request, scope: Scope) -> Response:
        """A document that lists names, without those that are hidden."""
        whole = await self._service.respond(request.unconditional())
        try:
            return self._service.select(request, await self._scoped.cut(request, whole, scope))
        except ZerocopyError as error:
            return self._service.refuse(error)


def check_seen(scope: Scope, exchange: str, symbol: str, type_: str | None) -> None:
    """Assure that a series is within `scope`.

    Says what a name that does not exist would be told of the first of its parts that is hidden,
    whether or not there is such a thing: no file was looked at.

    Raises:
        NotFoundError: it is hidden.
    """
    for field, name, is_seen in (
        ("exchange", exchange, scope.allows(exchange)),
        ("symbol", symbol, scope.allows(exchange, symbol)),
        ("type", type_, scope.allows(exchange, symbol, type_)),
    ):
        if not is_seen:
            raise NotFoundError(f"{field} {name}: does not exist")


def _is_open(request: Request) -> bool:
    return request.endpoint in endpoints.OPEN or request.method == b"OPTIONS"
