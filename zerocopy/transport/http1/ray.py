"""CF-Ray: the field line by which two requests for the same differ behind a Cloudflare Tunnel.

Owns the rule by which that line is cut out of a request head, so that the rest can be one that was
seen before. The server answers nothing by CF-Ray: only its log reads it, and has to be given the
one of each request.

`remembered` keeps rests, `cut` makes one of bytes that came. That their rest is known proves that
the bytes are one request, and which:

- The strict reader has taken the head that was remembered, and nothing else, for one request: a
  request line, field lines and an empty line, each ended by CRLF and none with a CR or LF in it. It
  found one field of the name, so that is what was cut, and the rest is the other lines.
- What came is this rest with the line put in somewhere before a CRLF. Any CRLF of the rest ends a
  line of it. That is not the empty one, for then two CRLF would stand before the name, which `cut`
  refuses: the field would be content, or a request of its own. So a field line was put in between
  two lines of the head section. The next begins with neither a blank, which would fold them into
  one, nor a LF: it is a line that the reader took.
- Among fields of other names it matters not where one stands (RFC 9110 section 5.3), and framing
  hangs on this one in no way. The line is always as long as the one that was cut, so the number of
  fields and their bytes are those that the reader found within the bounds.

Everything else is unknown and goes to the reader: two such lines, another spelling of the name or
form of the value, content, half a request or two.
"""

from __future__ import annotations

import re

from zerocopy.core.http.messages import Request
from zerocopy.transport.http1.parser import Message

FIELD = b"cf-ray"

BEGINNING = b"\r\nCf-Ray:"
"""As cloudflared writes the name, for Go does. Looking for it in 430 bytes takes 0.2 µs."""

_LINE = re.compile(rb"(?<!\r\n)\r\nCf-Ray: ([0-9a-f]{16}-[A-Z]{3})(?=\r\n)")
"""The value has the form that Cloudflare documents: 16 digits and the code of an airport."""

_LINE_BYTES = len(b"\r\nCf-Ray: 0123456789abcdef-FRA")
_END_OF_HEAD = b"\r\n\r\n"


class RaylessMessage(Message):
    """A request without its CF-Ray, for all who send it but for that.

    Whoever answers one of them alone, or names it in the log, does so `with_ray`.
    """

    __slots__ = ()

    def with_ray(self, ray: bytes) -> Message:
        """The message of the one who sent this value."""
        request = self.request
        fields = (*request.fields, (FIELD, ray))
        return Message(Request(request.method, request.target, fields), self.persistence)


def cut(data: bytes, at: int) -> tuple[bytes, bytes] | None:
    """What is left of `data` without the line that begins `at`, and the value in that line."""
    line = _LINE.match(data, at)
    return None if line is None else (data[:at] + data[at + _LINE_BYTES :], line[1])


def remembered(head: bytes, message: Message) -> tuple[bytes, RaylessMessage] | None:
    """The rest of a head and what it means; None where a head may not be known by its rest.

    `head` is all that was read between two messages, and the reader has taken it for `message`.
    """
    at = head.find(BEGINNING)
    if (
        at < 0
        or head.startswith(b"\r")  # an empty line, which is ignored, and the line would be next
        or head.find(_END_OF_HEAD) != len(head) - len(_END_OF_HEAD)
        or (parts := cut(head, at)) is None
    ):
        return None
    rest, ray = parts
    request = message.request
    if request.values(FIELD) != [ray]:
        return None
    fields = tuple(field for field in request.fields if field[0] != FIELD)
    request = Request(request.method, request.target, fields)
    return rest, RaylessMessage(request, message.persistence)
