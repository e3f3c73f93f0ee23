"""Documents that list names, cut to a scope: what is hidden is as if it were not there.

Owns the documents that were cut last, by scope. A listing of a hundred thousand symbols is cut in a
thread, and once for all who have the same scope. Where types are hidden, the document does not say
enough: a symbol may have only hidden types, and its last update may be theirs. Then the directories
that may be seen are walked, once for all who ask meanwhile.
"""

from __future__ import annotations

import re
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

CUT_MAX, CUT_BYTES_MAX = 64, 33_554_432
"""Listings of symbols that are kept, one for each scope that asks, and the bytes of all of them."""

_Listing = tuple[str | None, "Scope"]
"""The exchange that was asked for, None for all, and who may see what of it."""


class Scoped:
    """Cuts responses; used in the event loop's thread."""

    def __init__(self, executor: Executor, names: Names) -> None:
        self._executor = executor
        self._names = names
        self._cut: OrderedDict[_Listing, tuple[bytes, Response]] = OrderedDict()  # by whole's tag
        self._cut_bytes = 0
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
        assert whole.validators is not None, "a document has a tag of its bytes"
        tag = whole.validators.etag
        known = self._cut.get((exchange, scope))
        if known is not None and known[0] == tag:
            self._cut.move_to_end((exchange, scope))
            return known[1]
        if scope.is_everything:
            response = private(whole)
        else:
            response = await in_thread(
                self._executor,
                lambda: private(written_response(cut_symbols(content, scope, exchange))),
            )
        self._keep((exchange, scope), tag, response)
        return response

    def _keep(self, listing: _Listing, tag: bytes, response: Response) -> None:
        """Keep what was cut of the document with `tag`; the least recently used goes at the bounds.

        Not that document itself: it may be some megabytes, and another one each second.
        """
        _, before = self._cut.pop(listing, (b"", None))
        self._cut_bytes += response.nbytes - (0 if before is None else before.nbytes)
        self._cut[listing] = tag, response
        while len(self._cut) > CUT_MAX or self._cut_bytes > CUT_BYTES_MAX:
            _, (_, dropped) = self._cut.popitem(last=False)
            self._cut_bytes -= dropped.nbytes

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

    It cuts the text, which `storage/symbols/` writes and whose names hold no quotes or brackets,
    entry by entry. To parse a hundred thousand would keep the interpreter's lock for 70 ms.
    """
    end_of_symbols = content.index(_EXCHANGES)
    at = end_of_symbols + len(_EXCHANGES)
    exchanges, names = [], set()
    while content[at : at + 1] == b'"':
        end_of_name, end = content.index(b'":[', at), content.index(b"]", at)
        exchange = content[at + 1 : end_of_name].decode("ascii")
        begin = end_of_name + len(b'":[')
        at = end + 1 + (content[end + 1 : end + 2] == b",")
        if not scope.allows(exchange) and exchange != asked:
            continue
        seen = []
        for entry in _ENTRY.finditer(content, begin, end):
            if scope.allows(exchange, entry[1].decode("ascii")):
                seen.append(entry[0])
                names.add(entry[1])
        exchanges.append(b'"%b":[%b]' % (exchange.encode(), b",".join(seen)))
    listed = _NAME.finditer(content, len(_SYMBOLS), end_of_symbols)
    symbols = b",".join([name[0] for name in listed if name[1] in names])
    return _SYMBOLS + symbols + _EXCHANGES + b",".join(exchanges) + b"}}"


_SYMBOLS, _EXCHANGES = b'{"symbols":[', b'],"exchanges":{'
"""How the document of /api/symbols begins, and how its second part does."""
_NAME = re.compile(rb'"([^"]+)"')
_ENTRY = re.compile(rb'\{"symbol":"([^"]+)"[^}]*\}')


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
