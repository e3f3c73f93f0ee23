"""The head parser under any bytes in any pieces: the same verdict, no other exception, a bound."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import requests
from zerocopy.core.errors import RequestError
from zerocopy.transport.http1.parser import Message, RequestParser
from zerocopy.transport.limits import RequestLimits

WIDE = RequestLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)
TIGHT = RequestLimits(
    target_bytes_max=40, field_bytes_max=30, head_bytes_max=150, fields_max=5, content_bytes_max=10
)
PIECEMEAL_BYTES_MAX = 1_500
"""Of a stream that is fed byte by byte."""

REFUSALS = {400, 405, 414, 417, 431, 501, 505}

_SHORT = [part for part in (*requests.FIELDS, *requests.CONTENTS) if len(part) < 100]
_TARGETS = [part for part in requests.TARGETS if len(part) < 100]
PARTS = st.one_of(
    st.sampled_from(
        [b"GET / HTTP/1.1\r\nHost: t\r\n", b"HEAD /a HTTP/1.0\r\n", b"\r\n", b"\r\n\r\n"]
    ),
    st.sampled_from([*requests.METHODS, *_TARGETS, *requests.VERSIONS, *requests.HOSTS]),
    st.sampled_from(_SHORT).map(lambda field: field + b"\r\n"),
    st.sampled_from([*requests.BYTES, b"a" * 50]),
    st.binary(max_size=4),
)
STREAMS = st.one_of(
    st.lists(PARTS, max_size=14).map(b"".join),
    st.integers(0, 1 << 32).map(lambda seed: requests.mutated(Random(seed))[:PIECEMEAL_BYTES_MAX]),
)
CUTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


def outline(message: Message) -> tuple[object, ...]:
    """What a message says, comparable."""
    request, error = message.request, message.error
    told = error and (error.status, error.detail)
    return (request.method, request.target, request.fields, message.persistence, told)


def feed(data: bytes, steps: list[int], limits: RequestLimits) -> list[Message]:
    """All messages of `data` in pieces of `steps` bytes, over and over; the bound is checked."""
    parser, at, turn = RequestParser(limits), 0, 0
    while at < len(data):
        parser.feed(data[at : at + steps[turn % len(steps)]])
        at += steps[turn % len(steps)]
        turn += 1
        assert len(parser._reader) <= limits.head_bytes_max
        assert not (parser.ended and parser._reader)
    messages = list(parser.messages)
    for message in messages[:-1]:
        assert message.error is None, "nothing follows a fault"
    for message in messages:
        assert message.error is None or isinstance(message.error, RequestError)
        assert message.error is None or message.error.status in REFUSALS
    return messages


@settings(deadline=None)
@given(STREAMS, CUTS)
def test_any_bytes_have_the_same_verdict_however_they_are_cut(
    data: bytes, steps: list[int]
) -> None:
    """Whole and in any pieces: methods, targets, fields, persistence, and the fault with its text.

    Below the bounds, that is: beyond one, whichever fault is seen first is told.
    """
    whole = [outline(message) for message in feed(data, [max(1, len(data))], WIDE)]
    assert [outline(message) for message in feed(data, steps, WIDE)] == whole
    assert [outline(message) for message in feed(data, [1], WIDE)] == whole


@settings(deadline=None)
@given(STREAMS, CUTS)
def test_any_bytes_beyond_tight_bounds_are_refused_however_they_are_cut(
    data: bytes, steps: list[int]
) -> None:
    """The same messages, then a fault or none in each way to cut; only which one may differ."""
    whole, cut = (feed(data, way, TIGHT) for way in ([max(1, len(data))], steps))
    good = [[outline(m) for m in messages if m.error is None] for messages in (whole, cut)]
    assert good[0] == good[1]
    assert len(whole) == len(cut)


@settings(deadline=None)
@given(STREAMS)
def test_what_is_let_through_is_a_request_as_the_rfc_defines_it(data: bytes) -> None:
    """One Host where it must be, names that are tokens, and no control character in a value."""
    for message in feed(data, [max(1, len(data))], WIDE):
        if message.error is not None:
            continue
        fields = message.request.fields
        assert sum(name == b"host" for name, _ in fields) <= 1
        for name, value in fields:
            assert name
            assert not set(name) & set(b" \t\r\n:\0")
            assert not set(value) & set(b"\r\n\0")
