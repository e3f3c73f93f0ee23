"""Damaged HTTP/2 on real connections: answers, stream errors or GOAWAY, and a server unharmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import hpack
import pytest

from tests.certificate import client_context
from tests.fuzz.frames import BEGINNING, LAST_PING, mutated
from tests.fuzz.wire import Received, besieged, converse
from tests.h2client import (
    DATA,
    FRAME_BYTES,
    FRAME_HEAD_BYTES,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.transport.http2.frames import ACK, END_HEADERS, END_STREAM, PREFACE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

STATUSES = frozenset({200, 204, 206, 304, 400, 404, 405, 412, 414, 416, 417, 431, 501, 503})
LENGTHS = {PING: 8, RST_STREAM: 4, WINDOW_UPDATE: 4}
TABLE_BYTES_MAX = (1 << 32) - 1
INTERNAL_ERROR, CODE_MAX = 2, 0xD


@dataclass(frozen=True, slots=True)
class Frames:
    """What one connection sends, and the number that makes it again."""

    number: int
    raw: bytes
    is_done: bool = False

    @property
    def may_be_silent(self) -> bool:
        """Whether GOAWAY may be left out: no valid preface (RFC 9113, 3.4), or a client's own."""
        if not self.raw.startswith(BEGINNING):
            return True
        return any(one[0] == GOAWAY for one in frames_of(self.raw[len(PREFACE) :], was_reset=True))

    def __repr__(self) -> str:
        """The number and the beginning."""
        return f"case {self.number}: {self.raw[:400]!r}"


@dataclass(slots=True)
class Reply:
    """What a server sent on one connection, frame by frame, each checked as it comes."""

    statuses: dict[int, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    given: Counter[int] = field(default_factory=Counter)
    over: set[int] = field(default_factory=set)
    goaways: list[int] = field(default_factory=list)
    resets: list[int] = field(default_factory=list)
    answered: bool = False
    decoder: hpack.Decoder = field(default_factory=hpack.Decoder)

    def __post_init__(self) -> None:
        """Let the server have the largest table that any case allows it."""
        self.decoder.max_allowed_table_size = TABLE_BYTES_MAX

    def take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        """Check one frame by RFC 9113, as far as a reader alone can."""
        assert len(payload) <= FRAME_BYTES, "a frame is too large"
        assert len(payload) == LENGTHS.get(kind, len(payload))
        assert (stream_id == 0) == (kind in {SETTINGS, PING, GOAWAY}) or kind == WINDOW_UPDATE
        match kind:
            case 0x1:
                self._on_headers(flags, stream_id, payload)
            case 0x0:
                assert stream_id in self.statuses
                assert stream_id not in self.over, "DATA after the end"
                self.given[stream_id] += len(payload)
            case 0x3:
                self.resets.append(int.from_bytes(payload, "big"))
                self.over.add(stream_id)
            case 0x7:
                self.goaways.append(int.from_bytes(payload[4:8], "big"))
            case 0x6:
                self.answered = self.answered or (flags == ACK and payload == LAST_PING)
            case 0x4 | 0x8:
                assert len(payload) % 6 == 0 or kind == WINDOW_UPDATE
            case _:
                raise AssertionError(f"a frame of type {kind}")
        if kind in {HEADERS, DATA} and flags & END_STREAM:
            length = self.lengths.get(stream_id)
            assert self.given[stream_id] in {length or 0, 0}, "an end before the promised length"
            self.over.add(stream_id)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        assert flags & END_HEADERS
        assert stream_id % 2 == 1
        assert stream_id not in self.statuses, "a second response"
        fields = {str(name): str(value) for name, value in self.decoder.decode(payload)}
        self.statuses[stream_id] = int(fields[":status"])
        if "content-length" in fields:
            self.lengths[stream_id] = int(fields["content-length"])


def frames_of(raw: bytes, *, was_reset: bool) -> Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, stream and payload of each frame; only a reset may cut the last."""
    at = 0
    while at < len(raw):
        end = at + FRAME_HEAD_BYTES + int.from_bytes(raw[at : at + 3], "big")
        if was_reset and end > len(raw):
            return
        assert end <= len(raw), "a frame is cut"
        stream_id = int.from_bytes(raw[at + 5 : at + 9], "big")
        yield raw[at + 3], raw[at + 4], stream_id, raw[at + FRAME_HEAD_BYTES : end]
        at = end


def judged(case: Frames, received: Received) -> Reply:
    """The reply to a case; AssertionError, with the case, where RFC 9113 forbids it."""
    reply = Reply()
    try:
        for index, one in enumerate(frames_of(received.content, was_reset=received.was_reset)):
            assert index or one[0] == SETTINGS, "the first frame is not SETTINGS"
            reply.take(*one)
        assert STATUSES.issuperset(reply.statuses.values()), reply.statuses
        codes = {*reply.goaways, *reply.resets}
        assert all(code <= CODE_MAX and code != INTERNAL_ERROR for code in codes), codes
        assert reply.goaways or received.was_reset or case.may_be_silent, "an end without GOAWAY"
    except AssertionError as error:
        raise AssertionError(f"{error}: {case}\n{received.content[-300:]!r}\n{reply}") from error
    return reply


def attack(root: Path, numbers: range) -> Counter[str]:
    """Send the cases of these numbers; how often what came."""
    seen: Counter[str] = Counter()
    cases = [Frames(number, mutated(Random(number))) for number in numbers]
    context = client_context(["h2"])
    environ = {"USE_TLS": "true", "ZEROCOPY_TIMEOUTS_HEADER_READ_S": "3"}
    with besieged(root, len(numbers), **environ) as server:

        def connect() -> ssl.SSLSocket:
            return context.wrap_socket(server.connect(), server_hostname="127.0.0.1")

        for case, received in converse(connect, cases):
            assert isinstance(case, Frames)
            reply = judged(case, received)
            seen.update(f"status {status}" for status in reply.statuses.values())
            seen.update(f"goaway {code}" for code in reply.goaways)
            seen.update(f"reset {code}" for code in reply.resets)
            seen["ping"] += reply.answered
    return seen


@pytest.mark.timeout(180)
def test_damaged_frames_are_answered_as_the_rfc_says_and_leave_no_trace(tmp_path: Path) -> None:
    """The same connections each time: answers, both kinds of errors, PINGs that are answered."""
    seen = attack(tmp_path, range(200))
    assert seen.keys() >= {"status 200", "status 404", "goaway 0", "goaway 1", "reset 0", "reset 5"}
    assert seen["ping"] > 30


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(10_000, 30_000, 5_000))
def test_many_more_damaged_frames(tmp_path: Path, first: int) -> None:
    """The same with 20,000 other connections."""
    assert attack(tmp_path, range(first, first + 5_000))
