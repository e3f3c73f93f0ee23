"""Damaged HTTP/1.1 on real connections: well-formed answers or an end, and a server unharmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import pytest

from tests.contract.transports import Http1Session
from tests.fuzz.requests import mutated
from tests.fuzz.wire import Received, besieged, converse

if TYPE_CHECKING:
    from pathlib import Path

STATUSES = frozenset(
    {100, 200, 204, 206, 304, 400, 404, 405, 412, 414, 416, 417, 431, 501, 503, 505}
)
WITHOUT_CONTENT = frozenset({100, 204, 304})
QUIET_SHARE = 0.05
"""Connections that send and then wait for the server to end them."""
LATE_BYTES = 16_384
"""A client that sends more than this may be refused, and reset, while it is still sending."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """What one connection sends, and the number that makes it again."""

    number: int
    raw: bytes
    is_done: bool

    @classmethod
    def of(cls, number: int) -> Bytes:
        """The case of that number."""
        random = Random(number)
        is_done = random.random() >= QUIET_SHARE
        return cls(number, mutated(random), is_done)

    def __repr__(self) -> str:
        """The number and the beginning."""
        return f"case {self.number}: {self.raw[:2_000]!r}"


def statuses_of(case: Bytes, received: Received) -> list[int]:
    """The status of every response; AssertionError where one is not as RFC 9112 has it."""
    raw, statuses = received.content, []
    while raw:
        head, end, rest = raw.partition(b"\r\n\r\n")
        if received.was_reset and not end:
            break
        assert end, (case, raw)
        status, fields = Http1Session._parse_head(head)
        statuses.append(status)
        assert status in STATUSES, (case, head)
        length = 0 if status in WITHOUT_CONTENT else int(fields["content-length"])
        if status in WITHOUT_CONTENT:
            assert "content-length" not in fields, (case, head)
        elif length and b"HEAD" in case.raw and (not rest or rest.startswith(b"HTTP/1.1 ")):
            length = 0  # the answer to a HEAD; content here is JSON or a header line
        assert len(rest) >= length or received.was_reset, (case, head, rest)
        assert fields.get("connection") != "close" or len(rest) == length, (case, raw)
        raw = rest[length:]
    return statuses


def attack(root: Path, numbers: range) -> Counter[int]:
    """Send the cases of these numbers; how often each status was the answer."""
    seen: Counter[int] = Counter()
    with besieged(root, len(numbers)) as server:
        for case, received in converse(server.connect, [Bytes.of(number) for number in numbers]):
            assert isinstance(case, Bytes)
            statuses = statuses_of(case, received)
            assert not received.was_reset or len(case.raw) > LATE_BYTES, (case, statuses)
            seen.update(statuses)
    return seen


@pytest.mark.timeout(180)
def test_damaged_requests_have_wellformed_answers_and_leave_no_trace(tmp_path: Path) -> None:
    """Four hundred connections, the same each time: every kind of answer comes, none is a 500."""
    seen = attack(tmp_path, range(400))
    assert seen.keys() >= {200, 204, 400, 404, 405, 414, 417, 431}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(10_000, 90_000, 20_000))
def test_many_more_damaged_requests(tmp_path: Path, first: int) -> None:
    """The same with 80,000 other connections."""
    assert attack(tmp_path, range(first, first + 20_000))
