"""The service: routes, and the response to each request.

Owns the composition of query, planner, format, validators and kept responses. It is the `Handler`
of every transport. `respond_now` gives what needs no waiting: a kept response that a few lstat(2)
prove to be still true. Everything that may touch the disk runs in threads.
"""

from __future__ import annotations

import math
import secrets
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from zerocopy.core import counters as slots
from zerocopy.core.bars import parse_bars_query
from zerocopy.core.errors import (
    DataError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadError,
    RequestError,
)
from zerocopy.core.http.messages import Response, Unlimited
from zerocopy.core.http.pending import CURRENT
from zerocopy.core.http.semantics import select
from zerocopy.core.query import (
    check_name,
    parse_catalog_query,
    parse_live_query,
    parse_parameters,
    parse_query,
)
from zerocopy.core.timeindex import UnsortedError
from zerocopy.observe.access_log import naming
from zerocopy.observe.log import get_logger
from zerocopy.service.answers import Answers
from zerocopy.service.bars import BarsWork
from zerocopy.service.coalesce import Coalescer
from zerocopy.service.documents import Documents, description
from zerocopy.service.planned import PlannedResponses
from zerocopy.service.prefetch import Prefetcher
from zerocopy.service.problems import (
    CORS_FIELDS,
    EVENT_FIELDS,
    document_response,
    json_response,
    preflight_response,
    problem_response,
    written_response,
)
from zerocopy.service.representations import represent_by
from zerocopy.service.thread_work import in_thread
from zerocopy.storage.contents import Contents
from zerocopy.storage.planner import Planned
from zerocopy.storage.tree import open_root

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import AnswerKey, Request
    from zerocopy.core.query import Query
    from zerocopy.core.window import Window
    from zerocopy.service.computed import ComputedWork
    from zerocopy.service.live.live import Live
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.planner import QueryPlanner
    from zerocopy.storage.store.contents import StoreContents, StoreSymbols
    from zerocopy.storage.symbols.index import SymbolIndex

INLINE_STAMPS_MAX = 16
"""Stamps proved on the event loop: about 20 µs of lstat(2); longer proofs go to a thread."""

FAULT_LOG_S = 1.0
FAULTS_REMEMBERED_MAX = 256
"""Seconds between two log lines of the same fault of the data, and how many are told apart."""

_OK = 200
_DATA = b"/api/data"
_READS = frozenset({b"GET", b"HEAD"})

_log = get_logger(__name__)


class _Endpoint(Protocol):
    async def __call__(self, query_string: bytes, request: Request, /) -> Response: ...


class Service(Unlimited):
    """Answers requests from one data root. Used in the event loop's thread only."""

    def __init__(
        self,
        *,
        root: str,
        planner: QueryPlanner,
        files: OpenFiles,
        symbols: SymbolIndex | StoreSymbols,
        executor: Executor,
        readers: Executor,
        readers_max: int,
        counters: Counters,
        requests_in_flight_max: int,
        plan_cache_bytes_max: int,
        columns_max: int,
        closed_max_age_s: int,
        computed: ComputedWork,
        live: Live,
        page: Mapping[bytes, Response] = MappingProxyType({}),
        is_private: bool = False,
        contents: Contents | StoreContents | None = None,
    ) -> None:
        self._root = root
        self._planner = planner
        self._files = files
        self._symbol_index = symbols
        self._symbol_calls = Coalescer(executor, self._list_symbols)
        self._listed: Response | None = None
        self._documents = Documents(executor)
        self._executor = executor
        self._prefetcher = Prefetcher(files, executor, readers, readers_max, counters)
        self._counters = counters
        self._symbol_walks = 0
        self._requests_in_flight = 0
        self._requests_in_flight_max = requests_in_flight_max
        self._answers = answers = Answers(plan_cache_bytes_max, counters)
        self._columns_max = columns_max
        self._planned = PlannedResponses(answers, counters, closed_max_age_s, is_private=is_private)
        self._bars_work = BarsWork(planner, files)
        self._computed = computed
        self._answers_computed = 0
        self.live_streams = live
        self._contents = contents or Contents(root, planner.dtypes)
        self._endpoints: dict[bytes, _Endpoint] = {
            _DATA: self._data,
            b"/api/bars": self._bars,
            b"/api/catalog": self._catalog,
            b"/api/live": self._live,
            b"/api/symbols": self._symbols,
            b"/healthz": self._fixed,
            b"/readyz": self._readiness,
            b"/openapi.json": self._fixed,
        }
        self._page = page
        self._endpoints.update(dict.fromkeys(page, self._page_document))
        self._constant = {
            b"/healthz": json_response({"status": "alive"}),
            b"/openapi.json": description(is_private=is_private),
        }
        self._ready = json_response({"status": "ready"})
        # No writer of data can know it, so no data holds it: RFC 2046 section 5.1.1.
        self._boundary = secrets.token_hex(16).encode()
        self._told: dict[tuple[str, str], float] = {}
        self.draining = False

    # ---- the Handler of the transports

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """A kept response, if its proof is short and holds."""
        key = request.answer_key
        answer = self._answers.get(key)
        if answer is None:
            # Whether the process lives must be told even when requests for plans are refused.
            constant = self._constant.get(request.target) if request.method in _READS else None
            coded = constant and self._documents.now(request, constant)
            return coded and self.select(request, coded)
        if len(answer.proof.stamps) > INLINE_STAMPS_MAX or request.method not in _READS:
            return None
        if answer.begins_s <= time.time() < answer.expires_s and answer.proof.holds():
            self._counters[slots.PLANS_REUSED] += times
            if request.is_conditional:
                return self.select(request, answer.response)
            return answer.response
        self._answers.drop(key)
        return None

    async def respond(self, request: Request) -> Response:
        """The response to any request; faults become problem documents."""
        if self._requests_in_flight >= self._requests_in_flight_max:
            return problem_response(OverloadError("too many requests in flight; try again"))
        self._requests_in_flight += 1
        try:
            return await self.represent(request, await self._route(request))
        except Exception as error:  # noqa: BLE001 - the one place where errors become statuses
            return self.refuse(error)
        finally:
            self._requests_in_flight -= 1

    def count_reused(self, times: int) -> None:
        """Equal requests that a transport answered together; see `Handler`."""
        self._counters[slots.PLANS_REUSED] += times

    async def prepare(self, window: Window) -> None:
        """Open, map and read in what is not ready; see `Handler`."""
        try:
            await self._prefetcher.prepare(window)
        finally:
            self._count_files()

    def refuse(self, error: Exception) -> Response:
        """The response that tells a client of `error`; what is not its fault is logged."""
        if isinstance(error, DataError):
            self._tell_of(error)
        elif isinstance(error, OverloadError) and error.__cause__ is not None:
            cause = str(error.__cause__)
            _log.warning(
                "resources_exhausted", detail=error.detail, cause=cause, **naming(CURRENT.get())
            )
        elif not isinstance(error, (RequestError, OverloadError)):
            _log.error("internal_error", exc_info=error, **naming(CURRENT.get()))
        return problem_response(error)

    def _tell_of(self, error: DataError) -> None:
        """Log a fault of the data, at most once a second, because each request meets it again."""
        self._counters[slots.DAYS_UNSORTED] += isinstance(error.__cause__, UnsortedError)
        cause, now_s = str(error.__cause__), time.monotonic()
        if len(self._told) >= FAULTS_REMEMBERED_MAX:
            self._told.clear()
        if now_s - self._told.get((error.detail, cause), -math.inf) >= FAULT_LOG_S:
            self._told[error.detail, cause] = now_s
            _log.error("data_error", detail=error.detail, cause=cause, **naming(CURRENT.get()))

    def sweep(self) -> None:
        """Called now and then: close day files that are no longer read."""
        self._files.sweep()
        self._count_files()

    def tend(self) -> None:
        """Called about once a second: keep the kernel's queue of symbol events in bounds."""
        if self._symbol_index.watched_directories:
            self._symbol_calls.spare(self._symbol_index.maintain)
        self._count_symbols()
        self.live_streams.tend()
        if self._computed.spool.has_dropped:
            self._executor.submit(self._computed.spool.close_dropped)
        self._count_computed()

    def _count_computed(self) -> None:
        computed, counters = self._computed, self._counters
        counters[slots.SPOOL_BYTES] = computed.spool.nbytes
        encoded = computed.encoded
        counters[slots.ANSWERS_COMPUTED] += encoded - self._answers_computed
        self._answers_computed = encoded

    def _count_symbols(self) -> None:
        index, counters = self._symbol_index, self._counters
        counters[slots.WATCHED_DIRECTORIES] = index.watched_directories
        counters[slots.SYMBOL_WALKS] += index.walks - self._symbol_walks
        self._symbol_walks = index.walks

    async def represent(self, request: Request, whole: Response) -> Response:
        """What the content codings, preconditions and ranges of `request` make of its response."""
        return self.select(request, await self._documents.coded(request, whole))

    def select(self, request: Request, response: Response) -> Response:
        """What the request's preconditions and ranges make of its response."""
        if not request.is_conditional or response.status != _OK or response.feed is not None:
            return response
        try:
            return select(request, response, now_s=time.time(), boundary=self._boundary)
        except RequestError as error:
            return self.refuse(error)

    def _count_files(self) -> None:
        mapped, counters = self._files.mapped, self._counters
        counters[slots.OPEN_FILES] = len(self._files)
        if mapped is not None:
            counters[slots.MAPPED_BYTES] = mapped.mapped_bytes
            counters[slots.LOCKED_BYTES] = mapped.locked_bytes

    # ---- routes

    async def _route(self, request: Request) -> Response:
        path, _, query_string = request.target.partition(b"?")
        endpoint = self._endpoints.get(path)
        if request.method == b"OPTIONS" and (endpoint is not None or path == b"*"):
            return preflight_response(request)
        if endpoint is None:
            raise NotFoundError("the path must be one of those in /openapi.json")
        if request.method not in _READS:
            raise MethodNotAllowedError("the method must be GET, HEAD or OPTIONS")
        return await endpoint(query_string, request)

    async def _kept(self, key: AnswerKey) -> Response | None:
        """A kept response whose proof is too long for the event loop, if it holds."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        fresh = answer.begins_s <= time.time() < answer.expires_s
        if fresh and await in_thread(self._executor, answer.proof.holds):
            self._counters[slots.PLANS_REUSED] += 1
            return answer.response
        self._answers.drop(key)
        return None

    async def _bars(self, query_string: bytes, request: Request) -> Response:
        key = request.answer_key
        kept = await self._kept(key)
        if kept is not None:
            return kept
        query = parse_bars_query(
            query_string, columns_max=self._columns_max, accepts=request.accepts
        )
        planned = await self._bars_work.ask(query)
        self._counters[slots.PLANS_MADE] += 1
        self._planned.note(query.records, planned)
        return self._planned.response(key, query.records, planned)

    async def _data(self, query_string: bytes, request: Request) -> Response:
        key = request.answer_key
        kept = await self._kept(key)
        if kept is not None:
            return kept
        query = parse_query(query_string, columns_max=self._columns_max, accepts=request.accepts)
        if query.is_computed:
            return await self._computed_data(key, query, request)
        planned = await in_thread(
            self._executor,
            lambda: self._planner.plan(query, represent_by(query.format)),
            drop=Planned.close,
        )
        for day_file, fd in planned.held:
            self._files.adopt(day_file, fd)
        self._count_files()
        self._counters[slots.PLANS_MADE] += 1
        self._planned.note(query, planned)
        return self._planned.response(key, query, planned)

    async def _computed_data(self, key: AnswerKey, query: Query, request: Request) -> Response:
        found = await in_thread(self._executor, lambda: self._computed.begin(query))
        if not found.is_complete:
            unchanged = self._planned.unchanged(request, query, found.planned)
            if unchanged is not None:
                return unchanged
            found = await self._computed.ask(query)
        self._count_computed()
        self._counters[slots.PLANS_REUSED if found.is_kept else slots.PLANS_MADE] += 1
        if not found.is_kept:
            self._planned.note(query, found.planned)
        return self._planned.response(key, query, found.planned)

    async def _symbols(self, query_string: bytes, _request: Request) -> Response:
        exchange = parse_parameters(query_string, frozenset({"exchange"})).get("exchange")
        if exchange is not None:
            check_name("exchange", exchange)
        try:
            return await self._symbol_calls.ask(exchange)
        finally:
            self._count_symbols()

    def _list_symbols(self, exchanges: list[str | None]) -> dict[str | None, Response | Exception]:
        """The responses to all keys of one round; blocks, for one thread at a time."""
        answers: dict[str | None, Response | Exception] = {}
        for exchange, document in self._symbol_index.documents(exchanges).items():
            if not isinstance(document, bytes):
                answers[exchange] = document
            elif self._listed is not None and self._listed.content is document:
                answers[exchange] = self._listed  # unchanged: it has its tag already
            else:
                answers[exchange] = response = written_response(document)
                self._listed = response if exchange is None else self._listed
        return answers

    async def _catalog(self, query_string: bytes, _request: Request) -> Response:
        asked = parse_catalog_query(query_string)
        return await in_thread(self._executor, lambda: document_response(self._contents.of(*asked)))

    async def _live(self, query_string: bytes, request: Request) -> Response:
        is_websocket = request.is_websocket
        last = None if is_websocket else b",".join(request.values(b"last-event-id"))
        query = parse_live_query(query_string, columns_max=self._columns_max, last_event_id=last)
        feed = await self.live_streams.subscribe(query, is_websocket=is_websocket)
        return Response(_OK, CORS_FIELDS if is_websocket else EVENT_FIELDS, feed=feed)

    async def _fixed(self, _query_string: bytes, request: Request) -> Response:
        return self._constant[request.target.partition(b"?")[0]]

    async def _readiness(self, _query_string: bytes, _request: Request) -> Response:
        if self.draining:
            raise OverloadError("the server is stopping")
        try:
            await in_thread(self._executor, self._probe_root)
        except DataError as error:
            raise OverloadError("the data directory cannot be read") from error
        return self._ready

    def _probe_root(self) -> None:
        with open_root(self._root):
            pass

    async def _page_document(self, _query_string: bytes, request: Request) -> Response:
        return self._page[request.target.partition(b"?")[0]]
