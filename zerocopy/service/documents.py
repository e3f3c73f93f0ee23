"""Documents in the content coding that their clients like: symbols, catalog, description, page.

Owns which of them are coded, and the rounds in which a thread codes them. A coded document lies
beside its own, so it lives as long, and an unchanged one is coded once. Used in the event loop's
thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.codings import DOCUMENTS
from zerocopy.core.http.messages import Response
from zerocopy.core.http.validators import document_validators
from zerocopy.service.coalesce import Coalescer
from zerocopy.service.openapi.access import with_access
from zerocopy.service.openapi.document import OPENAPI
from zerocopy.service.problems import document_response, private_fields
from zerocopy.service.representations import compressed

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.core.http.messages import Request

CODED_BYTES_MIN = 256
"""A shorter document leaves as it is: a coding saves less than the field that tells of it costs."""

_OK = 200

_Wanted = tuple[Response, bytes]
"""A document, by its identity, and the coding it is wanted in."""


class Documents:
    """Codes documents, each once in each coding, for all that ask for it meanwhile."""

    def __init__(self, executor: Executor) -> None:
        self._calls: Coalescer[_Wanted, Response] = Coalescer(
            executor, lambda wanted: {each: _coded(*each) for each in wanted}
        )

    def now(self, request: Request, whole: Response) -> Response | None:
        """`whole` as `request` likes it, where that needs no thread; else None."""
        if not _is_coded(request, whole):
            return whole
        return None if whole.coded is None else whole.coded.get(request.accepts.coding)

    async def coded(self, request: Request, whole: Response) -> Response:
        """`whole`, the response to `request` without preconditions, as that likes it.

        Raises:
            OverloadError: no thread can be started now.
        """
        found = self.now(request, whole)
        return found or await self._calls.ask((whole, request.accepts.coding))


def _is_coded(request: Request, whole: Response) -> bool:
    return (
        request.accepts.coding != b""
        and request.endpoint in DOCUMENTS
        and whole.status == _OK
        and len(whole.content) >= CODED_BYTES_MIN
    )


def _coded(whole: Response, coding: bytes) -> Response:
    """The same document in `coding`, with a tag of the bytes that leave; blocks."""
    if whole.coded is None:
        whole.coded = {}
    known = whole.coded.get(coding)
    if known is not None:  # by the round before
        return known
    content = compressed(coding, whole.content)
    validators = document_validators(content)
    fields = [(name, validators.etag if name == b"ETag" else value) for name, value in whole.fields]
    fields.insert(1, (b"Content-Encoding", coding))
    found = whole.coded[coding] = Response(200, tuple(fields), content, validators=validators)
    return found


def description(*, is_private: bool) -> Response:
    """The response to /openapi.json; where `is_private`, `[auth]` is on."""
    if not is_private:
        return document_response(OPENAPI)
    whole = document_response(with_access(OPENAPI))
    fields, content = private_fields(whole.fields), whole.content
    return Response(whole.status, fields, content, validators=whole.validators)
