"""Documents that list names, cut to a scope: what is hidden is as if it were not there.

Owns the documents that were cut last, by scope. A listing of a hundred thousand symbols is cut in a
thread, and once for all who have the same scope. Where types are hidden, the document does not say
enough: a symbol may have only hidden types, and its last update may be theirs. Then the directories
that may be seen are walked, once for all who ask meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import orjson

from zerocopy.core import endpoints
from zerocopy.core.access import EVERYTHING
from zerocopy.core.errors import ZerocopyError
from zerocopy.core.http.messages import Response
from zerocopy.core.query import parse_parameters
from zerocopy.service.coalesce import Coalescer
from zerocopy.service.problems import private_fields, written_response
from zerocopy.service.thread_work import in_thread
from zerocopy.storage.symbols.walk import symbols_document

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.core.access import Scope
    from zerocopy.core.http.messages import Request
    from zerocopy.storage.symbols.names import Names

CUT_MAX = 64
"""Listings of symbols that are kept, one for each scope that asks."""

_Listing = tuple[str | None, "Scope"]
"""The exchange that was asked for, None for all, and who may see what of it."""


class Scoped:
    """Cuts responses; used in the event loop's thread."""

    def __init__(self, executor: Executor, names: Names) -> None:
        self._executor = executor
        self._names = names
        self._cut: OrderedDict[_Listing, tuple[bytes, Response]] = OrderedDict()
        self._walks: Coalescer[_Listing, Response] = Coalescer(executor, self._walk)

    async def cut(self, request: Request, whole: Response, scope: Scope) -> Response:
        """`whole`, the response to `request` without its preconditions, as `scope` shows it.

        Raises:
            DataError: the data root cannot be read.
            OverloadError: no thread can be started now.
        """
        if whole.status != 200:  # noqa: PLR2004
            return private(whole)
        content = whole.content
        if request.endpoint == endpoints.CATALOG:
            return private(
                whole if scope.is_everything else written_response(cut_catalog(content, scope))
            )
        query_string = request.target.partition(b"?")[2]
        exchange = parse_parameters(query_string, frozenset({"exchange"})).get("exchange")
        if scope.types != EVERYTHING:
            return await self._walks.ask((exchange, scope))
        known = self._cut.get((exchange, scope))
        if known is not None and known[0] == content:
            self._cut.move_to_end((exchange, scope))
            return known[1]
        if scope.is_everything:
            response = private(whole)
        else:
            response = await in_thread(
                self._executor,
                lambda: private(written_response(cut_symbols(content, scope, exchange))),
            )
        self._cut[exchange, scope] = content, response
        while len(self._cut) > CUT_MAX:
            self._cut.popitem(last=False)
        return response

    def _walk(self, listings: list[_Listing]) -> dict[_Listing, Response | Exception]:
        """The listings of one round; blocks, for one thread at a time."""
        answers: dict[_Listing, Response | Exception] = {}
        for exchange, scope in listings:
            try:
                listed = self._names.listed(exchange, scope.allows)
                document = orjson.dumps(symbols_document(listed))
                answers[exchange, scope] = private(written_response(document))
            except ZerocopyError as error:
                answers[exchange, scope] = error
        return answers


def private(response: Response) -> Response:
    """The same for its client alone: no shared cache keeps it."""
    return Response(
        response.status,
        private_fields(response.fields),
        response.content,
        response.segments,
        ends=response.ends,
        validators=response.validators,
    )


def cut_symbols(content: bytes, scope: Scope, asked: str | None = None) -> bytes:
    """The document of /api/symbols without the exchanges and symbols that are hidden.

    An exchange that was `asked` for and is hidden has no symbols, as one that does not exist.
    """
    exchanges = {
        exchange: [each for each in listed if scope.allows(exchange, each["symbol"])]
        for exchange, listed in orjson.loads(content)["exchanges"].items()
        if scope.allows(exchange) or exchange == asked
    }
    names = {each["symbol"] for listed in exchanges.values() for each in listed}
    return orjson.dumps({"symbols": sorted(names), "exchanges": exchanges})


def cut_catalog(content: bytes, scope: Scope) -> bytes:
    """The document of /api/catalog without the types that are hidden."""
    document = orjson.loads(content)
    exchange, symbol = document["exchange"], document["symbol"]
    document["types"] = {
        type_: found
        for type_, found in document["types"].items()
        if scope.allows(exchange, symbol, type_)
    }
    return orjson.dumps(document)
