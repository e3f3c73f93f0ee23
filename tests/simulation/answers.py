"""What one answer may look like, given what its query found and the fields that came with it.

Owns the reading of 200, 206, 304, 412 and 416; which of them is due says tests/fuzz/reference.py.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from tests.fuzz.reference import Representation, expected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.fuzz.reference import Span

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MULTIPART = re.compile(r"multipart/byteranges; boundary=([0-9a-f]{32})")


class Found(NamedTuple):
    """What a query finds: the whole body, and its strong entity tag; None where any will do."""

    body: bytes
    etag: str | None


class Reply(NamedTuple):
    """One answer, or as much of it as came."""

    status: int
    fields: Mapping[str, str]
    body: bytes
    promised: int
    whole: bool

    @property
    def closes(self) -> bool:
        """Whether it is the last on its connection."""
        return self.fields.get("connection") == "close"


def is_answer(
    reply: Reply, found: Found, method: str, fields: Sequence[tuple[str, str]] = ()
) -> bool:
    """Whether this is the answer, or the beginning of it; the content of errors is not judged."""
    body, told = found.body, reply.fields
    etag = found.etag or told.get("etag") or '"none"'
    outcome = expected(method, fields, Representation(etag, _LONG_AGO, len(body)))
    if reply.status != outcome.status or told.get("content-range") != outcome.content_range(
        len(body)
    ):
        return False
    if told.get("etag") != (None if reply.status in {412, 416} else etag):
        return False
    if reply.status == 304:
        return "content-length" not in told and not reply.body
    return reply.status in {412, 416} or _is_content(reply, body, outcome.spans, method)


def _is_content(reply: Reply, body: bytes, spans: Sequence[Span], method: str) -> bool:
    content = body if reply.status == 200 else _part_of(body, spans, reply.fields)
    if content is None or reply.promised != len(content):
        return False
    if method == "HEAD":
        return not reply.body
    return reply.body == content if reply.whole else content.startswith(reply.body)


def _part_of(body: bytes, spans: Sequence[Span], told: Mapping[str, str]) -> bytes | None:
    """The content of a 206: bytes of `body`, several parts of it between boundaries."""
    if len(spans) == 1:
        return body[spans[0][0] : spans[0][1] + 1]
    boundary = _MULTIPART.fullmatch(told.get("content-type", ""))
    if boundary is None:
        return None
    parts = [
        f"--{boundary[1]}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Range: bytes {first}-{last}/{len(body)}\r\n\r\n".encode()
        + body[first : last + 1]
        + b"\r\n"
        for first, last in spans
    ]
    return b"".join(parts) + f"--{boundary[1]}--\r\n".encode()
