"""Heads with a CF-Ray, what a reader makes of them, and what a server that knows their rests."""

from __future__ import annotations

from tests.transport.http1.bench import PARSER_LIMITS
from zerocopy.transport.http1.parser import Message, RequestParser
from zerocopy.transport.http1.ray import BEGINNING, RaylessMessage, cut, remembered

RAY = b"8a1b2c3d4e5f6789-FRA"
OTHER_RAY = b"0123456789abcdef-AMS"
LINE = b"\r\nCf-Ray: " + RAY
OTHER_LINE = b"\r\nCf-Ray: " + OTHER_RAY
REST = b"GET /a?b HTTP/1.1\r\nHost: t\r\nA: b\r\nX: y\r\n\r\n"
HEAD = REST.replace(b"\r\nA:", LINE + b"\r\nA:")
OTHER = HEAD.replace(RAY, OTHER_RAY)
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: t\r\n\r\n"
HOSTILE = {
    "line before the request line": OTHER_LINE + b"\r\n" + REST,
    "line as request line behind an empty one": b"\r\n" + OTHER_LINE + b"\r\n" + REST,
    "line behind the empty line": REST[:-2] + OTHER_LINE + b"\r\n",
    "line behind the head": REST + OTHER_LINE[2:] + b"\r\n\r\n",
    "line behind the head, after an empty one": REST + OTHER_LINE + b"\r\n\r\n",
    "line in the content": REST.replace(b"A: b", b"Content-Length: 30") + OTHER_LINE,
    "line in the request line": OTHER.replace(b"/a?b", b"/a" + OTHER_LINE + b"?b"),
    "two lines": OTHER.replace(b"\r\nX", OTHER_LINE + b"\r\nX"),
    "two lines, one in lower case": OTHER.replace(b"A: b", b"cf-ray: " + RAY),
    "two lines, one of another form": OTHER.replace(b"A: b", b"Cf-Ray: x"),
    "two lines, one of another form before": OTHER.replace(b"Host", b"Cf-Ray: x\r\nHost"),
    "folded behind it": OTHER.replace(OTHER_RAY, OTHER_RAY + b"\r\n Transfer-Encoding: chunked"),
    "folded behind it by a tab": OTHER.replace(OTHER_RAY, OTHER_RAY + b"\r\n\tx"),
    "folded to nothing": OTHER.replace(OTHER_RAY, OTHER_RAY + b"\r\n "),
    "folded into it": OTHER.replace(b"Cf-Ray: ", b"Cf-Ray:\r\n "),
    "next line without a name": OTHER.replace(b"A: b", b": b"),
    "blank before the colon": OTHER.replace(b"Cf-Ray:", b"Cf-Ray :"),
    "no blank after the colon": OTHER.replace(b"Cf-Ray: ", b"Cf-Ray:"),
    "two blanks after the colon": OTHER.replace(b"Cf-Ray: ", b"Cf-Ray:  "),
    "tab after the colon": OTHER.replace(b"Cf-Ray: ", b"Cf-Ray:\t"),
    "blank behind the value": OTHER.replace(OTHER_RAY, OTHER_RAY + b" "),
    "lower-case name": OTHER.replace(b"Cf-Ray", b"cf-ray"),
    "upper-case name": OTHER.replace(b"Cf-Ray", b"CF-RAY"),
    "longer name": OTHER.replace(b"Cf-Ray", b"Cf-Ray-Id"),
    "name behind another": OTHER.replace(b"Cf-Ray", b"X-Cf-Ray"),
    "bare LF before it": OTHER.replace(b"\r\nCf-Ray", b"\nCf-Ray"),
    "bare LF behind it": OTHER.replace(OTHER_RAY + b"\r\n", OTHER_RAY + b"\n"),
    "bare CR behind it": OTHER.replace(OTHER_RAY + b"\r\n", OTHER_RAY + b"\r"),
    "bare LF and the line": OTHER.replace(b"\r\nCf-Ray", b"\n\r\nCf-Ray"),
    "CR, CRLF and the line": OTHER.replace(b"\r\nCf-Ray", b"\r\r\nCf-Ray"),
    "CRLF, LF behind it": OTHER.replace(OTHER_RAY + b"\r\n", OTHER_RAY + b"\r\n\n"),
    "NUL in the value": OTHER.replace(OTHER_RAY, OTHER_RAY[:-1] + b"\0"),
    "15 digits": OTHER.replace(OTHER_RAY, OTHER_RAY[1:]),
    "17 digits": OTHER.replace(OTHER_RAY, b"0" + OTHER_RAY),
    "digits in upper case": OTHER.replace(OTHER_RAY, b"0123456789ABCDEF-AMS"),
    "no digits": OTHER.replace(OTHER_RAY, b"0123456789abcdeg-AMS"),
    "no airport": OTHER.replace(OTHER_RAY, OTHER_RAY[:16]),
    "airport of two letters": OTHER.replace(OTHER_RAY, OTHER_RAY[:-1]),
    "airport of four letters": OTHER.replace(OTHER_RAY, OTHER_RAY + b"S"),
    "airport in lower case": OTHER.replace(b"-AMS", b"-ams"),
    "digits of another script": OTHER.replace(OTHER_RAY, b"\xd9\xa0" * 8 + b"-AMS"),
    "empty value": OTHER.replace(OTHER_RAY, b""),
    "empty line behind it": OTHER.replace(OTHER_RAY, OTHER_RAY + b"\r\n"),
    "another method": OTHER.replace(b"GET", b"POST"),
    "another version": OTHER.replace(b"1.1", b"1.0"),
    "a length more": OTHER.replace(b"A: b", b"A: b\r\nContent-Length: 5"),
    "chunks": OTHER.replace(b"A: b", b"Transfer-Encoding: chunked"),
    "content": OTHER + b"hello",
    "a second request": OTHER + HIDDEN,
    "the same request twice": OTHER + OTHER,
    "an empty line behind it all": OTHER + b"\r\n",
    "an empty line before it all": b"\r\n" + OTHER,
    "half a head": OTHER[:-2],
    "half a head, to the line": OTHER[: OTHER.index(b"A:")],
    "the end of a head": OTHER[10:],
    "the line alone": OTHER_LINE,
    "the line alone, as a head": OTHER_LINE + b"\r\n\r\n",
    "nothing but the rest": REST,
    "nothing": b"",
}
"""What comes near to HEAD with another ray, and is not that."""


def parse(data: bytes) -> Message | None:
    """What a fresh reader makes of all of `data`; None unless it is one request and no more."""
    parser = RequestParser(PARSER_LIMITS)
    parser.feed(data)
    if len(parser.messages) != 1 or not parser.at_boundary or parser.ended:
        return None
    return parser.messages[0]


def known(*heads: bytes) -> dict[bytes, RaylessMessage]:
    """What a server remembers of these heads without their CF-Ray."""
    kept = {}
    for head in heads:
        message = parse(head)
        if message is not None and (parts := remembered(head, message)) is not None:
            kept[parts[0]] = parts[1]
    return kept


def recognize(kept: dict[bytes, RaylessMessage], data: bytes) -> Message | None:
    """The message of these bytes, as a connection makes it; None where they go to the reader."""
    at = data.find(BEGINNING)
    parts = cut(data, at) if at >= 0 else None
    message = kept.get(parts[0]) if parts is not None else None
    return message.with_ray(parts[1]) if message is not None and parts is not None else None


def meaning(message: Message) -> tuple[object, ...]:
    """What a message says; among fields of other names the place of CF-Ray says nothing."""
    request = message.request
    others = tuple(field for field in request.fields if field[0] != b"cf-ray")
    return (
        *(request.method, request.target, others, request.values(b"cf-ray")),
        *(request.is_conditional, request.endpoint),
        *(message.persistence, message.is_head, message.error),
    )
