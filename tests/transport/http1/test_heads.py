"""Heads that are known: bounded, and none that will not come again."""

from __future__ import annotations

import pytest

from tests.transport.http1.bench import PARSER_LIMITS, request
from zerocopy.transport.http1.heads import (
    HEAD_BYTES_MAX,
    HEAD_FIELDS_MAX,
    HEADS_MAX,
    KnownHeads,
)
from zerocopy.transport.http1.parser import Message, RequestParser


def parse(head: bytes) -> Message:
    """What the parser makes of one request."""
    parser = RequestParser(PARSER_LIMITS)
    parser.feed(head)
    (message,) = parser.messages
    assert message.error is None
    return message


def remember(heads: KnownHeads, head: bytes) -> Message:
    """Have one remembered, as a connection does."""
    message = parse(head)
    heads.remember(head, message)
    return message


def test_same_bytes_are_the_same_message() -> None:
    """And no other bytes are, however near."""
    heads = KnownHeads()
    message = remember(heads, request("/a"))
    assert heads.get(request("/a")) is message
    assert heads.get(request("/b")) is None
    assert heads.get(request("/a")[:-1]) is None


def test_same_bytes_of_two_networks_are_two_messages() -> None:
    """Each has its network in its request; both count among those that are known."""
    heads, head = KnownHeads(), request("/a")
    first, second = heads.of(b"\xc0\x00\x02\x01"), heads.of(b"\xc0\x00\x02\x02")
    for mine in (first, second):
        parser = RequestParser(PARSER_LIMITS, mine.network)
        parser.feed(head)
        mine.remember(head, parser.messages[0])
    found = [mine.get(head) for mine in (first, second)]
    assert [message and message.request.network for message in found] == [
        first.network,
        second.network,
    ]
    assert heads.get(head) is None
    assert len(heads) == 2
    assert heads.of(b"") is heads


def test_oldest_head_is_forgotten_at_the_bound() -> None:
    """One that is remembered again drives out no other."""
    heads = KnownHeads()
    for number in range(HEADS_MAX):
        remember(heads, request(f"/{number}"))
    again = remember(heads, request("/5"))
    assert len(heads) == HEADS_MAX
    assert heads[request("/5")] is again
    remember(heads, request("/new"))
    assert len(heads) == HEADS_MAX
    assert request("/0") not in heads
    assert {request("/1"), request("/new")} <= heads.keys()


def test_long_head_is_not_remembered() -> None:
    """One byte or one field beyond the bound."""
    heads = KnownHeads()
    room = HEAD_BYTES_MAX - len(request("/", "A: "))
    remember(heads, request("/", "A: " + "a" * (room + 1)))
    remember(heads, request("/", *["A: b"] * HEAD_FIELDS_MAX))
    assert not heads
    longest = request("/", "A: " + "a" * room)
    most = request("/", *["A: b"] * (HEAD_FIELDS_MAX - 1))
    remember(heads, longest)
    remember(heads, most)
    assert list(heads) == [longest, most]


@pytest.mark.parametrize("field", ["Range: bytes=0-1", "CF-Ray: 8a1b2c3d4e5f6789-FRA", "cf-ray: x"])
def test_head_that_will_not_come_again_drives_out_nothing(field: str) -> None:
    """A part is asked for once, as a rule, and each request through Cloudflare has its own ray."""
    heads = KnownHeads()
    first = request("/first")
    remember(heads, first)
    for number in range(HEADS_MAX + 1):
        remember(heads, request(f"/{number}", field))
    assert list(heads) == [first]
