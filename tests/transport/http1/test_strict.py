"""RequestParser against the strict table, however its bytes are cut, and beside a second reader."""

from __future__ import annotations

import random
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from tests.transport.http1.bench import PARSER_LIMITS
from tests.transport.http1.strict_cases import (
    FIELD_MAX,
    FIELDS_MAX,
    HEAD_MAX,
    OK,
    PARSED,
    TARGET_MAX,
    field,
    head,
    sized,
    target,
)
from tests.transport.http1.strict_framing_cases import SECTIONS
from tests.transport.http1.strict_streams import mutated_streams
from zerocopy.transport.http1.parser import Message, Persistence, RequestParser
from zerocopy.transport.limits import RequestLimits

NARROW = RequestLimits(
    target_bytes_max=24, field_bytes_max=24, head_bytes_max=140, fields_max=4, content_bytes_max=9
)


def outline(message: Message) -> tuple[object, ...]:
    """What a message says, comparable."""
    error = None if message.error is None else (type(message.error), message.error.detail)
    return (message.request, message.is_head, message.persistence, error)


def fed(
    stream: bytes, cuts: list[int], limits: RequestLimits
) -> tuple[list[tuple[object, ...]], bool, bool]:
    """Outlines of the messages of a stream cut at `cuts`, and the state the parser is left in."""
    parser = RequestParser(limits)
    edges = [0, *sorted({cut for cut in cuts if cut < len(stream)} - {0}), len(stream)]
    for begin, end in pairwise(edges):
        parser.feed(stream[begin:end])
    return [outline(message) for message in parser.messages], parser.ended, parser.at_boundary


@each("section", SECTIONS)
def test_parser_decides_as_the_table_says(section: str) -> None:
    """Every case of a section: the faults and their statuses in order, and whether it reads on."""
    wrong = {}
    for name, case in SECTIONS[section].items():
        parser = RequestParser(PARSER_LIMITS)
        parser.feed(case.data)
        errors = [message.error.status if message.error else 0 for message in parser.messages]
        wanted = [status if status in PARSED else 0 for status in case.verdict.statuses]
        goes_on = parser.messages[-1].persistence is not Persistence.CLOSE
        if (errors, goes_on, parser.ended) != (wanted, case.verdict.is_kept, not goes_on):
            wrong[name] = (errors, wanted, goes_on, parser.ended)
    assert wrong == {}


@given(
    mutated_streams(),
    st.lists(st.integers(0, 1_200), max_size=8),
    st.sampled_from([PARSER_LIMITS, NARROW]),
)
def test_verdict_does_not_depend_on_the_cut(
    stream: bytes, cuts: list[int], limits: RequestLimits
) -> None:
    """Right and wrong streams: whole, cut anywhere and byte by byte they give equal messages."""
    whole = fed(stream, [], limits)
    assert fed(stream, cuts, limits) == whole
    assert fed(stream, list(range(len(stream))), limits) == whole


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (target(b"/" + b"x" * (TARGET_MAX - 1)), 0),
        (target(b"/" + b"x" * TARGET_MAX), 414),
        (target(b"/" + b"x" * (TARGET_MAX + 100)), 414),
        (field(b"A: " + b"x" * (FIELD_MAX - 1)), 0),
        (field(b"A: " + b"x" * FIELD_MAX), 431),
        (head(*[b"A: b"] * (FIELDS_MAX - 1)), 0),
        (head(*[b"A: b"] * FIELDS_MAX), 431),
        (sized(HEAD_MAX), 0),
        (sized(HEAD_MAX + 1), 431),
        (sized(HEAD_MAX).replace(b"\r\nF1", b"\nF1"), 400),
        (sized(HEAD_MAX + 1).replace(b"1.1", b"2.0"), 505),
        (target(b"/" + b"x" * TARGET_MAX * 2).replace(b" HTTP", b"\n"), 414),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else "",
)
def test_bounds_hold_at_every_cut(stream: bytes, status: int) -> None:
    """Each bound and one above it, in two pieces about the bound and at twenty other places."""
    limits = PARSER_LIMITS
    whole = fed(OK + stream + OK, [], limits)
    statuses = [getattr(outlined[3][0], "status", 0) for outlined in whole[0] if outlined[3]]  # type: ignore[index]
    assert statuses == ([status] if status else [])
    places = random.Random(len(stream)).sample(range(1, len(stream)), 20)
    edges = [TARGET_MAX, TARGET_MAX + 64, HEAD_MAX, len(stream)]
    places += [at + step + len(OK) for at in edges for step in (-4, -3, -2, -1, 0, 1, 2)]
    for place in places:
        assert fed(OK + stream + OK, [place], limits) == whole, place
    assert fed(OK + stream + OK, list(range(0, len(stream), 997)), limits) == whole


def read_by_h11(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Methods and targets as h11 reads them, as far as it reads: a proxy in front could be that."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(stream)
    requests: list[tuple[bytes, bytes]] = []
    try:
        while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                requests.append((event.method, event.target))
            elif isinstance(event, h11.EndOfMessage):
                reader.send(h11.Response(status_code=204, headers=[]))
                reader.send(h11.EndOfMessage())
                reader.start_next_cycle()
    except h11.ProtocolError:
        pass  # it refuses, or closes after HTTP/1.0 where we may go on
    return requests


@given(mutated_streams())
def test_what_is_kept_alive_is_what_another_reader_reads(stream: bytes) -> None:
    """Requests come out as h11 would see them on the way here, or one of the two refuses."""
    parser = RequestParser(PARSER_LIMITS)
    parser.feed(stream)
    ours = [message.request for message in parser.messages if message.error is None]
    theirs = read_by_h11(stream)
    for request, (method, raw) in zip(ours, theirs, strict=False):
        assert request.method == method
        assert raw.endswith(request.target.removeprefix(b"/")) or request.target == b"*"


def test_empty_lines_between_requests_are_counted_one_gap_at_a_time() -> None:
    """Eight are ignored before each request; while too many came, bytes are parsed and counted."""
    parser = RequestParser(PARSER_LIMITS)
    for _ in range(3):
        for _ in range(7):
            parser.feed(b"\r\n")
            assert parser.at_boundary
        parser.feed(b"\r\n")
        assert not parser.at_boundary, "the next request may not bypass the parser"
        parser.feed(OK)
        assert parser.at_boundary
    assert len(parser.messages) == 3
    parser.feed(b"\r\n" * 9)
    assert parser.ended
    assert [outline(message)[2] for message in parser.messages][3:] == [Persistence.CLOSE]


def test_fault_after_empty_lines_is_not_one_of_the_request_before() -> None:
    """The answer to a fault has content unless the faulty request itself is a HEAD."""
    for stream, is_head in (
        (target(b"/healthz", b"HEAD") + b"\r\r", False),
        (target(b"/healthz", b"HEAD") + b"HEAD\n", False),
        (OK + b"HEAD /a HTTP/1.1\n", True),
    ):
        parser = RequestParser(PARSER_LIMITS)
        parser.feed(stream)
        assert parser.ended
        assert parser.messages[-1].is_head == is_head, stream


@pytest.mark.parametrize("line", [b"GET /healthz\r\n", b"GET /a HTTP/2.0\r\n", b"A\nB", b"\0"])
def test_what_can_never_be_a_request_is_refused_at_once(line: bytes) -> None:
    """A client of HTTP/0.9, or of no HTTP, is not left waiting for a deadline."""
    parser = RequestParser(PARSER_LIMITS)
    parser.feed(line)
    assert parser.ended
    assert parser.messages[0].error is not None
