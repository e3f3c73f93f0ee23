"""RequestParser: the same messages however the bytes come, and limits exact to the byte.

What is a request and what is refused is the table of `strict_cases`.
"""

from __future__ import annotations

import pytest

from tests.table import each
from zerocopy.core.errors import (
    FieldsTooLargeError,
    TargetTooLongError,
)
from zerocopy.transport.http1.parser import Message, Persistence, RequestParser
from zerocopy.transport.limits import RequestLimits

LIMITS = RequestLimits(
    target_bytes_max=40, field_bytes_max=30, head_bytes_max=120, fields_max=5, content_bytes_max=10
)
WIDE = RequestLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)
GET = b"GET /a HTTP/1.1\r\nHost: t\r\n\r\n"

WEBSOCKET = (
    b"GET /w HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
STREAMS = {
    "one": GET,
    "two": GET + GET,
    "blank lines between": b"\r\n" + GET + b"\r\n\r\n" + GET,
    "content": b"POST /a HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc" + GET,
    "chunks": b"PUT / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    + GET,
    "content beyond the bound": b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\n" + GET,
    "close": b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n" + GET,
    "1.0": b"GET / HTTP/1.0\r\n\r\n" + GET,
    "1.0 keep-alive": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET,
    "upgrade": b"GET /u HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + GET,
    "upgrade twice": (
        b"GET /u HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" * 2
    )
    + GET,
    "absolute": b"GET http://h/p?q HTTP/1.1\r\nHost: t\r\n\r\n"
    b"GET http://h HTTP/1.1\r\nHost: t\r\n\r\n",
    "minor version to come": b"GET / HTTP/1.7\r\nHost: t\r\n\r\n" + GET,
    "major version to come": GET + b"GET / HTTP/2.0\r\nHost: t\r\n\r\n" + GET,
    "method of nobody": b"FROB /a HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc" + GET,
    "coding of nobody": GET + b"GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: x, chunked\r\n\r\n",
    "garbage": GET + b"\x16\x03\x01" + GET,
    "no host": b"GET / HTTP/1.1\r\n\r\n" + GET,
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n" + GET,
    "expectation": b"GET / HTTP/1.1\r\nHost: t\r\nExpect: x\r\n\r\n" + GET,
    "target too long": GET + b"GET /" + b"a" * 40 + b" HTTP/1.1\r\nHost: t\r\n\r\n",
    "field too long": GET + b"GET / HTTP/1.1\r\nA: " + b"a" * 30 + b"\r\nHost: t\r\n\r\n",
    "too many fields": b"GET / HTTP/1.1\r\nHost: t\r\n" + b"A: b\r\n" * 5 + b"\r\n" + GET,
}


HANDSHAKES = {
    "to be accepted": WEBSOCKET + GET,
    "of 1.0": WEBSOCKET.replace(b"HTTP/1.1", b"HTTP/1.0") + GET,
    "with a fault": WEBSOCKET.replace(b"13", b"12") + GET,
    "with content": WEBSOCKET[:-2] + b"Content-Length: 3\r\n\r\nabc" + GET,
}


def outline(message: Message) -> tuple[object, ...]:
    """What a message says, comparable."""
    request = message.request
    return (
        request.method,
        request.target,
        request.fields,
        message.persistence,
        message.is_head,
        request.is_websocket,
        message.handshake is not None,
        type(message.error),
    )


def parse(data: bytes, step: int, limits: RequestLimits = LIMITS) -> list[Message]:
    """Feed `data` in pieces of `step` bytes; the messages that came out."""
    parser = RequestParser(limits)
    for position in range(0, len(data), step):
        parser.feed(data[position : position + step])
    return list(parser.messages)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_parser_fed_in_any_pieces_gives_the_same_messages(stream: bytes) -> None:
    """Whole, byte by byte and by sevens: methods, targets, fields, persistence and errors."""
    whole = [outline(message) for message in parse(stream, len(stream))]
    assert whole
    for step in (1, 2, 7, 64):
        assert [outline(message) for message in parse(stream, step)] == whole, step


@pytest.mark.parametrize("stream", HANDSHAKES.values(), ids=HANDSHAKES)
def test_handshakes_fed_in_any_pieces_are_the_same(stream: bytes) -> None:
    """The same, and what follows one that may be accepted is no message yet."""
    whole = [outline(message) for message in parse(stream, len(stream), WIDE)]
    assert whole
    for step in (1, 2, 7, 64):
        assert [outline(message) for message in parse(stream, step, WIDE)] == whole, step


def test_parser_reads_what_was_asked() -> None:
    """Names are lower-case, values are stripped, and the absolute form becomes the origin form."""
    head = b"HEAD http://h:1/p?q=%20 HTTP/1.1\r\nHOST:  t\t\r\nX-Y: a  b \r\n\r\n"
    (message,) = parse(head, len(head))
    assert message.request.method == b"HEAD"
    assert message.request.target == b"/p?q=%20"
    assert message.request.fields == ((b"host", b"t"), (b"x-y", b"a  b"))
    assert message.is_head
    assert message.persistence is Persistence.KEEP_ALIVE


def head_with(target: int, field: int, fields: int) -> bytes:
    """A head with a target, one field and a number of fields of exactly these sizes."""
    lines = [b"GET /%s HTTP/1.1" % (b"t" * (target - 1)), b"Host: t"]
    lines += [b"F: " + b"f" * (field - 1)] + [b"N: n"] * (fields - 2)
    return b"\r\n".join([*lines, b"", b""])


@each("step", [1, 10_000])
@each(
    ("sizes", "error"),
    [
        ((40, 2, 2), None),
        ((41, 2, 2), TargetTooLongError),
        ((1, 30, 2), None),
        ((1, 31, 2), FieldsTooLargeError),
        ((1, 2, 5), None),
        ((1, 2, 6), FieldsTooLargeError),
    ],
)
def test_limits_hold_at_the_bound_and_not_one_above(
    sizes: tuple[int, int, int], error: type[Exception] | None, step: int
) -> None:
    """The target's bytes, one field's bytes (name and value) and the number of fields."""
    (message,) = parse(head_with(*sizes), step)
    assert type(message.error) is (error or type(None))


@pytest.mark.parametrize("step", [1, 50, 10_000])
@pytest.mark.parametrize(("nbytes", "is_refused"), [(120, False), (121, True)])
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "pipelined"])
def test_head_limit_counts_request_line_and_fields(
    nbytes: int, step: int, before: bytes, *, is_refused: bool
) -> None:
    """The head's bytes on the wire, up to the empty line, are bound, whole or in pieces."""
    head = b"GET /%s HTTP/1.1\r\nHost: t\r\nA: %s\r\nB: %s\r\n\r\n"
    rest = nbytes - len(head % (b"", b"", b""))
    head %= (b"t" * 35, b"a" * 20, b"b" * (rest - 55))
    assert len(head) == nbytes
    message = parse(before + head, step)[-1]
    assert (type(message.error) is FieldsTooLargeError) == is_refused


@pytest.mark.parametrize("step", [1, 50, 10_000])
def test_head_that_never_ends_is_refused_within_a_piece_of_the_limit(step: int) -> None:
    """However the endless head begins, no more than the limit and one piece is ever kept."""
    for begin in (b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: t\r\nA: ", b"GET /"):
        parser = RequestParser(LIMITS)
        parser.feed(begin)
        fed = 0
        while not parser.ended:
            parser.feed(b"a" * step)
            fed += step
            assert fed <= LIMITS.head_bytes_max + step
        assert parser.messages[0].error is not None


@pytest.mark.parametrize(("count", "persists"), [(10, True), (11, False)])
@pytest.mark.parametrize("step", [1, 10_000])
def test_content_limit_ends_the_connection_after_the_answer(
    count: int, step: int, *, persists: bool
) -> None:
    """Content at the bound is dropped; one byte more ends the stream, and so do chunks at once."""
    declared = b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % count + b"c" * count
    chunks = b"GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks += b"1\r\nc\r\n" * count + b"0\r\n\r\n"
    for stream, goes_on in ((declared, persists), (chunks, False)):
        messages = parse(stream + GET, step)
        assert messages[0].error is None
        assert (messages[0].persistence is Persistence.KEEP_ALIVE) == goes_on
        assert len(messages) == (2 if goes_on else 1)


def test_nothing_is_handed_out_after_the_last_message() -> None:
    """Once the parser ended, what follows in the same bytes or later is ignored."""
    last = b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 11\r\n\r\nhello world"
    for after in (
        GET,
        last,
        b"garbage",
        b"GET / HTTP/1.1\r\nHost: t\r\nContent-Length: 99\r\n\r\n",
    ):
        parser = RequestParser(LIMITS)
        parser.feed(last + after)
        parser.feed(after)
        assert parser.ended
        assert len(parser.messages) == 1


def test_trailer_fields_are_not_taken_for_fields_of_the_head() -> None:
    """RFC 9110 section 6.5.1: a trailer may come after the checks, so it must not be merged."""
    stream = b"GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream += b"0\r\nRange: bytes=0-1\r\nHost: evil\r\n\r\n"
    (message,) = parse(stream, len(stream), WIDE)
    assert message.request.values(b"host") == [b"t"]
    assert message.request.values(b"range") == []


@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        pytest.param(b"0\r\nA: ", b"a" * 1_000, id="trailer field"),
        pytest.param(b"0\r\n", b"A: b\r\n" * 200, id="trailer fields"),
        pytest.param(b"1;", b"a" * 1_000, id="chunk extension"),
        pytest.param(b"", b"1;" + b"a" * 100 + b"\r\nc\r\n", id="chunk extensions"),
    ],
)
def test_what_surrounds_chunks_is_bound(begin: bytes, endless: bytes) -> None:
    """Trailers and chunk extensions cannot go on for ever: memory and time are bound there too."""
    parser = RequestParser(WIDE)
    parser.feed(b"GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + begin)
    fed = 0
    while not parser.ended:
        parser.feed(endless)
        fed += len(endless)
        assert fed < 20 * WIDE.head_bytes_max, "it takes whatever comes"
    (message,) = parser.messages
    assert message.persistence is Persistence.CLOSE


def test_continue_is_awaited_from_head_to_first_content() -> None:
    """The flag rises with a head that has content, and falls with the content or `end_early`."""
    head = b"GET / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    parser = RequestParser(WIDE)
    parser.feed(head[:-1])
    assert not parser.awaits_continue
    parser.feed(head[-1:])
    assert parser.awaits_continue
    assert not parser.messages
    parser.feed(b"a")
    assert not parser.awaits_continue
    parser.feed(b"b")
    assert parser.messages[0].persistence is Persistence.KEEP_ALIVE
    parser.feed(head)
    parser.end_early()
    assert [message.persistence for message in parser.messages][1:] == [Persistence.CLOSE]
    assert parser.ended
    assert not parser.awaits_continue


def test_at_boundary_is_true_only_between_messages() -> None:
    """It tells a connection when bytes may be compared with heads seen before."""
    parser = RequestParser(WIDE)
    assert parser.at_boundary
    for position in range(len(GET) - 1):
        parser.feed(GET[position : position + 1])
        assert not parser.at_boundary
    parser.feed(GET[-1:])
    assert parser.at_boundary
    parser.feed(b"\r\n")
    assert parser.at_boundary
    parser.feed(GET + GET[:1])
    assert not parser.at_boundary


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_what_follows_a_handshake_waits_until_it_is_decided(step: int) -> None:
    """It is the WebSocket's, or it is requests."""
    stream = WEBSOCKET + GET + GET
    for is_accepted in (True, False):
        parser = RequestParser(WIDE)
        for position in range(0, len(stream), step):
            parser.feed(stream[position : position + step])
        (message,) = parser.messages
        assert (parser.is_held, parser.at_boundary, parser.ended) == (True, False, False)
        assert message.request.is_websocket
        if is_accepted:
            assert parser.take_rest() == GET + GET
            assert (parser.is_held, parser.ended) == (False, True)
            parser.feed(GET)
        else:
            parser.release(message)
            assert (parser.is_held, parser.at_boundary, parser.ended) == (False, True, False)
        assert len(parser.messages) == (1 if is_accepted else 3)


def test_nothing_follows_a_handshake_that_wants_the_end() -> None:
    """`close` holds for a response that is none of a WebSocket: the rest is dropped."""
    parser = RequestParser(WIDE)
    parser.feed(WEBSOCKET.replace(b"Upgrade\r\nU", b"Upgrade, close\r\nU") + GET)
    (message,) = parser.messages
    assert message.persistence is Persistence.CLOSE
    parser.release(message)
    assert (parser.ended, parser.at_boundary, len(parser.messages)) == (True, True, 1)


def test_a_handshake_with_a_fault_holds_nothing() -> None:
    """It opens no WebSocket, whatever the response is."""
    parser = RequestParser(WIDE)
    parser.feed(WEBSOCKET.replace(b"13", b"12") + GET)
    first, second = parser.messages
    assert first.handshake is not None
    assert not first.request.is_websocket
    assert second.handshake is None
    assert not parser.is_held
