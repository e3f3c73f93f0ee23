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

import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import orjson

from zerocopy.access.credentials import without_ticket
from zerocopy.core import counters as slots
from zerocopy.core import endpoints
from zerocopy.core.access import REFUSALS
from zerocopy.core.bars import parse_bars_query
from zerocopy.core.errors import (
    ConfigError,
    LimitedError,
    MethodNotAllowedError,
    NotFoundError,
    ZerocopyError,
)
from zerocopy.core.http.messages import Response, content_bytes
from zerocopy.core.http.pending import CURRENT
from zerocopy.core.query import parse_catalog_query, parse_live_query, parse_query
from zerocopy.observe.log import get_logger
from zerocopy.service.guard.granted_feed import GrantedFeed
from zerocopy.service.guard.limited_feed import LimitedFeed
from zerocopy.service.guard.scoped import Scoped
from zerocopy.service.problems import CORS_FIELDS, preflight_response
from zerocopy.service.thread_work import in_thread
from zerocopy.storage.symbols.names import LocalNames

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.access.authenticator import Authenticator
    from zerocopy.access.keys import Change
    from zerocopy.access.limits import Limits, NameUsage
    from zerocopy.core.access import Grant, Scope
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Fields, Request
    from zerocopy.core.window import Window
    from zerocopy.observe.named_counters import NamedCounters
    from zerocopy.service.service import Service
    from zerocopy.storage.symbols.names import Names

_UNSCOPED = frozenset({endpoints.SYMBOLS, endpoints.CATALOG})
"""Endpoints whose document is cut to a scope; it is compared with the request after that."""

_PLANNED = frozenset({endpoints.DATA, endpoints.BARS})
"""Endpoints whose responses come of plans, which are counted when they are used again."""

_FOR_EVER = math.inf
"""A global of ours costs half of one of another module, and the clock twenty times as much."""

NAMES_LOGGED_MAX = 10
"""Names of keys in one line of the log, which always has their number."""

Asked = tuple[str, str, str | None]
"""Exchange, symbol and type of a query; the catalog's may have no type."""

_TICKET_METHODS = b"POST, OPTIONS"
_TICKET_FIELDS: Fields = (
    (b"Content-Type", b"application/json"),
    (b"Cache-Control", b"no-store"),
    *CORS_FIELDS,
)

_log = get_logger(__name__)


class GuardedService:
    """Answers those who may ask. Used in the event loop's thread only."""

    is_counting = True
    asks_network = False

    def __init__(
        self,
        service: Service,
        authenticator: Authenticator,
        executor: Executor,
        *,
        root: str,
        columns_max: int,
        counters: Counters,
        named: NamedCounters,
        limits: Limits | None = None,
        names: Names | None = None,
    ) -> None:
        self._service = service
        self._limits = limits
        self._authenticator = authenticator
        self._executor = executor
        # Its own: plans that wait for a disk must not hold up a revocation.
        self._looker = ThreadPoolExecutor(1, "keys")
        self._names = names or LocalNames(root)
        self._scoped = Scoped(executor, self._names)
        self._columns_max = columns_max
        self._counters = counters
        self._named = named
        self.tally = named.tally
        """Counts requests that have ended, by name."""
        self._told = ""

    # ---- the Handler of the transports

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """See `Handler`: what was granted to this very head before, while that holds."""
        grant = request.grant
        if grant is None:
            return self._service.respond_now(request, times) if request.is_open else None
        if grant.until_s < _FOR_EVER and grant.until_s <= time.time():
            return None
        usage = grant.usage
        if usage is None:
            return self._service.respond_now(request, times)
        response = self._service.respond_now(request, 0)
        if response is None or not times:
            return response
        if not usage.admits(content_bytes(request, response), times, time.time()):
            return None  # each is judged by itself, and counted there
        if request.endpoint in _PLANNED:
            self._service.count_reused(times)
        return response

    def counts(self, request: Request) -> bool:
        """See `Handler`."""
        return request.grant is not None and request.grant.usage is not None

    def admits(self, request: Request, response: Response) -> bool:
        """See `Handler`."""
        grant, now_s = request.grant, time.time()
        if grant is None:
            return request.is_open
        if grant.until_s <= now_s:
            return False
        nbytes = content_bytes(request, response)
        return grant.usage is None or grant.usage.admits(nbytes, 1, now_s)

    async def respond(self, request: Request) -> Response:
        """See `Handler`."""
        if request.endpoint == endpoints.TICKET:
            return await self._ticket(request)
        if request.is_open:
            return await self._service.respond(request)
        try:
            # What is granted is the target without its ticket: a head that has one is asked for
            # its grant each time.
            request, ticket = without_ticket(request)
            grant = await self._who(request, ticket)
            usage = self._count_request(grant)
            await self._check(request, grant)
        except Exception as error:  # noqa: BLE001 - a status, as the service makes of its own
            return self._service.refuse(error)
        response = await self._respond(request, grant)
        return response if usage is None else self._limited(request, response, usage, grant)

    async def _who(self, request: Request, ticket: bytes | None = None) -> Grant:
        """Who asks; logs and metrics have the name from now on.

        Raises:
            UnauthorizedError: nobody knows.
            OverloadError: that cannot be found out now.
        """
        grant = await self._authenticator.grant(request, ticket)
        pending = CURRENT.get()
        if pending is not None:
            pending.grant = grant
        return grant

    async def _respond(self, request: Request, grant: Grant) -> Response:
        if request.endpoint in _UNSCOPED:
            return await self._cut(request, grant.scope)
        request.be_granted(grant)
        response = await self._service.respond(request)
        if response.feed is not None:
            response.feed = GrantedFeed(response.feed, grant)
        return response

    def _count_request(self, grant: Grant) -> NameUsage | None:
        """Count a request of who was found to ask; None where nothing of it is limited.

        Raises:
            LimitedError: it has no request left.
            OverloadError: nobody knows how many it has left.
        """
        usage = None if self._limits is None else self._limits.usage_of(grant)
        if usage is not None:
            try:
                usage.check_request()
            except LimitedError:
                self._named.count(grant.name, REFUSALS, 1)
                raise
        return usage

    def _limited(
        self, request: Request, response: Response, usage: NameUsage, grant: Grant
    ) -> Response:
        """`response`, if its bytes, or one more stream, are within the limits.

        Nothing waits from here until the transport promises it, and so counts its bytes.
        """
        try:
            if response.feed is None:
                usage.check_bytes(content_bytes(request, response))
                return response
            usage.open_stream()
        except LimitedError as error:
            self._named.count(grant.name, REFUSALS, 1)
            if response.feed is not None:
                response.feed.close()
            return self._service.refuse(error)
        response.feed = LimitedFeed(response.feed, usage)
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

    # ---- the keys

    def load(self) -> None:
        """Read the keys; blocks. Where they cannot be read nobody may ask until they can."""
        try:
            self._authenticator.load()
        except ConfigError as error:
            self._tell_of(error.detail)
        self._count()

    def close(self) -> None:
        """End the thread that looks at the key file."""
        self._looker.shutdown()

    async def look(self) -> None:
        """Called about once a second: read the key file again if it has changed."""
        try:
            change = await self._authenticator.look(self._looker)
        except ConfigError as error:
            self._tell_of(error.detail)
        else:
            self._told = ""
            if change is not None:
                _tell_change(change, len(self._authenticator))
        self._count()

    def _tell_of(self, reason: str) -> None:
        """Log what keeps the key file from being read, once; the keys of the last time hold."""
        if reason != self._told:
            self._told = reason
            _log.error("keys_not_read", reason=reason, keys=len(self._authenticator))

    def _count(self) -> None:
        self._counters[slots.KEYS] = len(self._authenticator)
        self._counters[slots.KEYS_UNREADABLE] = bool(self._told)

    # ---- what may be seen

    async def _check(self, request: Request, grant: Grant) -> None:
        """Whether what is asked for may be seen; what is wrong with it otherwise, is said first.

        Raises:
            NotFoundError: it is hidden, in the words for what does not exist.
            BadRequestError: the query is none.
            DataError: the data root cannot be read.
        """
        scope = grant.scope
        if scope.is_everything or request.method not in _READS:
            return
        asked = self._asked(request)
        if asked is None:
            return
        hidden = hidden_part(scope, *asked)
        if hidden is not None:
            self._named.count(grant.name, REFUSALS, 1)
            await in_thread(self._executor, lambda: refuse_hidden(self._names, hidden, *asked))

    def _asked(self, request: Request) -> Asked | None:
        """The series that is asked for, None for what names none."""
        query_string = request.target.partition(b"?")[2]
        endpoint, columns_max = request.endpoint, self._columns_max
        if endpoint == endpoints.DATA:
            query = parse_query(query_string, columns_max=columns_max)
        elif endpoint == endpoints.BARS:
            query = parse_bars_query(query_string, columns_max=columns_max).records
        elif endpoint == endpoints.LIVE:
            last = None if request.is_websocket else b",".join(request.values(b"last-event-id"))
            live = parse_live_query(query_string, columns_max=columns_max, last_event_id=last)
            return live.exchange, live.symbol, live.type
        elif endpoint == endpoints.CATALOG:
            return parse_catalog_query(query_string)
        else:
            return None
        return query.exchange, query.symbol, query.type

    async def _ticket(self, request: Request) -> Response:
        """A new ticket for who asks, who alone may have it."""
        if request.method == b"OPTIONS":
            return preflight_response(request, _TICKET_METHODS)
        try:
            grant = await self._who(request)
            self._count_request(grant)
            if request.method != b"POST":
                raise MethodNotAllowedError("the method must be POST or OPTIONS", _TICKET_METHODS)
            ticket, life_s = self._authenticator.ticket(grant)
        except ZerocopyError as error:
            return self._service.refuse(error)
        content = orjson.dumps({"ticket": ticket.decode("ascii"), "expires_s": life_s})
        return Response(200, _TICKET_FIELDS, content)

    async def _cut(self, request: Request, scope: Scope) -> Response:
        """A document that lists names, without those that are hidden."""
        whole = await self._service.respond(request.unconditional())
        try:
            cut = await self._scoped.cut(request, whole, scope)
            return await self._service.represent(request, cut)
        except Exception as error:  # noqa: BLE001 - as above
            return self._service.refuse(error)


_READS = frozenset({b"GET", b"HEAD"})


def hidden_part(scope: Scope, exchange: str, symbol: str, type_: str | None) -> str | None:
    """The first part of a series that `scope` hides; None where it hides none."""
    if not scope.allows(exchange):
        return "exchange"
    if not scope.allows(exchange, symbol):
        return "symbol"
    return None if scope.allows(exchange, symbol, type_) else "type"


def refuse_hidden(names: Names, part: str, exchange: str, symbol: str, type_: str | None) -> None:
    """Say what would be said if the hidden `part` did not exist; blocks.

    Only what is above it and may be seen is looked at. So the answer and the time it takes are the
    same whether or not there is such a thing.

    Raises:
        NotFoundError: always, unless the data cannot be read.
        DataError: it cannot.
    """
    if part == "symbol":
        names.check(exchange)
    elif part == "type":
        names.check(exchange, symbol)
    name = {"exchange": exchange, "symbol": symbol, "type": type_}[part]
    raise NotFoundError(f"{part} {name}: does not exist")


def _tell_change(change: Change, keys: int) -> None:
    added, gone = ([grant.name for grant in grants] for grants in change)
    _log.info(
        "keys_changed",
        added=added[:NAMES_LOGGED_MAX],
        added_count=len(added),
        revoked=gone[:NAMES_LOGGED_MAX],
        revoked_count=len(gone),
        keys=keys,
    )
