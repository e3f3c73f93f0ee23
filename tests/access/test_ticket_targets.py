"""Requests without their tickets: what is taken out of a target, and what is left as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.access.credentials import without_ticket
from zerocopy.core.errors import UnauthorizedError
from zerocopy.core.http.messages import Request

FIELDS = ((b"host", b"a"), (b"range", b"bytes=0-9"))


@each(("target", "left", "ticket"), [
    (b"/api/symbols?ticket=a.b", b"/api/symbols", b"a.b"),
    (b"/api/data?x=1&ticket=a.b", b"/api/data?x=1", b"a.b"),
    (b"/api/data?ticket=a.b&x=1", b"/api/data?x=1", b"a.b"),
    (b"/api/data?x=1&ticket=a.b&y=2&", b"/api/data?x=1&y=2&", b"a.b"),
    (b"/api/data?ticket=", b"/api/data", b""),
    (b"/api/data?ticket=a=b", b"/api/data", b"a=b"),
    (b"/api/data?ticket=a?b", b"/api/data", b"a?b"),
])  # fmt: skip
def test_a_ticket_is_taken_out_wherever_it_stands(
    target: bytes, left: bytes, ticket: bytes
) -> None:
    """All else of the request stays."""
    for is_websocket in (False, True):
        request = Request(b"GET", target, FIELDS, is_websocket)
        asked, found = without_ticket(request)
        assert (asked, found) == (Request(b"GET", left, FIELDS, is_websocket), ticket)
        assert asked.is_conditional


@each("target", [
    b"/api/data", b"/api/data?", b"/api/data?xticket=a", b"/api/data?x=ticket=a", b"/ticket=a",
    b"/api/data?Ticket=a", b"/api/data?%74icket=a", b"/api/data?ticket",
])  # fmt: skip
def test_what_is_no_ticket_stays(target: bytes) -> None:
    """The very same request."""
    request = Request(b"GET", target, FIELDS)
    assert without_ticket(request) == (request, None)
    assert without_ticket(request)[0] is request


def test_two_tickets_are_none() -> None:
    """Nobody could say which counts."""
    with pytest.raises(UnauthorizedError, match="one ticket"):
        without_ticket(Request(b"GET", b"/api/data?ticket=a&ticket=a", FIELDS))


@given(st.lists(st.sampled_from([b"a=1", b"b=", b"", b"ticket=x", b"c"]), max_size=5))
def test_nothing_of_a_ticket_is_left(pairs: list[bytes]) -> None:
    """The service sees the target of those who have none."""
    others = [pair for pair in pairs if pair != b"ticket=x"]
    request = Request(b"GET", b"/api/data?" + b"&".join(pairs), ())
    if len(pairs) - len(others) > 1:
        return
    asked, ticket = without_ticket(request)
    assert b"ticket=" not in asked.target
    assert (ticket is None) == (len(pairs) == len(others))
    assert asked.target.partition(b"?")[2] == b"&".join(others)
