"""Documents that list names, cut to a scope: what is hidden is as if it were not there.

Owns the documents that were cut last, by scope. A listing of a hundred thousand symbols is cut in a
thread, and once for all who have the same scope.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import orjson

from zerocopy.core import endpoints
from zerocopy.core.http.messages import Response
from zerocopy.service.problems import private_fields, written_response
from zerocopy.service.thread_work import in_thread

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.core.access import Scope
    from zerocopy.core.http.messages import Request

CUT_MAX = 64
"""Listings of symbols that are kept, one for each scope that asks."""


class Scoped:
    """Cuts responses; used in the event loop's thread."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._cut: OrderedDict[tuple[bytes, Scope], tuple[bytes, Response]] = OrderedDict()

    async def cut(self, request: Request, whole: Response, scope: Scope) -> Response:
        """`whole`, the response to `request` without its preconditions, as `scope` shows it."""
        if whole.status != 200 or scope.is_everything:  # noqa: PLR2004
            return private(whole)
        content = whole.content
        if request.endpoint == endpoints.CATALOG:
            return private(written_response(cut_catalog(content, scope)))
        key = request.target, scope
        known = self._cut.get(key)
        if known is not None and known[0] == content:
            self._cut.move_to_end(key)
            return known[1]
        response = await in_thread(
            self._executor, lambda: private(written_response(cut_symbols(content, scope)))
        )
        self._cut[key] = content, response
        while len(self._cut) > CUT_MAX:
            self._cut.popitem(last=False)
        return response


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


def cut_symbols(content: bytes, scope: Scope) -> bytes:
    """The document of /api/symbols without the exchanges and symbols that are hidden."""
    exchanges = {
        exchange: [each for each in listed if scope.allows(exchange, each["symbol"])]
        for exchange, listed in orjson.loads(content)["exchanges"].items()
        if scope.allows(exchange)
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
