"""The head of an HTTP/1.1 response: what never changes in it, and the lines that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.http.messages import REASONS
from zerocopy.core.http.validators import http_date

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response

_NO_CONTENT_LENGTH = frozenset({204, 304})
"""Statuses without content; RFC 9110 section 8.6 forbids Content-Length in a 204."""


def render_head(response: Response) -> bytes:
    """Status line and fields, all but Date, Connection and the empty line that ends the head.

    Kept in the response, so that one that is sent again is not rendered again.
    """
    lines = [b"HTTP/1.1 %d %s" % (response.status, REASONS[response.status].encode())]
    lines += [b"Server: zerocopy"]
    lines += [b"%s: %s" % field for field in response.fields]
    if response.status not in _NO_CONTENT_LENGTH and response.feed is None:
        lines.append(b"Content-Length: %d" % response.nbytes)
    response.head_h1 = b"\r\n".join(lines) + b"\r\n"
    return response.head_h1


class Tails:
    """The end of a head, by `Persistence`: Date, which changes once a second, and Connection."""

    __slots__ = ("_second", "lines")

    def __init__(self) -> None:
        self._second = 0
        self.lines: tuple[bytes, bytes, bytes] = (b"", b"", b"")

    def set_second(self, second: int) -> None:
        """It is this unix second now."""
        if second != self._second:
            self._second = second
            date = b"Date: " + http_date(second) + b"\r\n"
            self.lines = (
                date + b"\r\n",
                date + b"Connection: keep-alive\r\n\r\n",
                date + b"Connection: close\r\n\r\n",
            )
