"""Bytes that are nearly HTTP/2: sequences of frames, and what becomes of them in hostile hands.

Everything comes from a `random.Random` that the caller seeds, so a number names a case for ever.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import hpack

from tests.faults.client import SMALL
from tests.h2client import (
    CONTINUATION,
    DATA,
    FRAME_HEAD_BYTES,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.transport.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    WHOLE,
    WITH_PRIORITY,
    frame,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

LAST_PING = b"the last"
"""The content of the PING that ends every case: its answer means that all before was read."""

EDGES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
BAD_SHARE = 0.03
"""How often each part of a request is wrong: one wrong part most often ends the connection."""

SETTINGS_SENT = (
    (1, 0),
    (1, 4_096),
    (1, 1 << 20),
    (3, 0),
    (4, 0),
    (4, 1),
    (4, 1 << 20),
    (5, 16_384),
    (5, 1 << 20),
    (6, 0),
    (6, 1),
    (8, 0),
    (9, 1),
    (77, 7),
    (2, 0),
    (2, 7),
    (4, 1 << 31),
    (5, 1),
)
"""Identifier and value; the last three are refused."""

BEGINNING = PREFACE + frame(SETTINGS, 0, 0)
"""What every client begins with."""

TARGETS = (SMALL, SMALL, "/healthz", "/api/symbols", "/nowhere", "/" + "a" * 9_000)
BAD_TARGETS = ("*", "", "a", "/%ff\x7f", "/\xff")
METHODS = ("GET", "GET", "GET", "HEAD", "OPTIONS", "POST")
BAD_METHODS = ("CONNECT", "get", "", "G T")
EXTRA = (
    ("accept", "*/*"),
    ("te", "trailers"),
    ("expect", "100-continue"),
    ("expect", "x"),
    ("range", "bytes=0-9,5-"),
    ("if-none-match", "*"),
    ("x-long", "x" * 9_000),
    ("cookie", "a=b"),
)
BAD_EXTRA = (
    ("content-length", "5"),
    ("content-length", "x"),
    ("connection", "close"),
    ("te", "gzip"),
    ("transfer-encoding", "chunked"),
    ("Upper-Case", "x"),
    ("", "no name"),
    ("a b", "space"),
    ("nul", "\x00"),
    ("line", "a\r\nb: c"),
    ("host", "elsewhere"),
    (":path", "/healthz"),
    (":status", "200"),
    (":unknown", "x"),
)


def block(random: Random) -> bytes:
    """A header block, most often of a valid request; the table is not touched."""
    pseudo = [
        (":method", random.choice(METHODS if random.random() > BAD_SHARE else BAD_METHODS)),
        (":scheme", "https"),
        (":path", random.choice(TARGETS if random.random() > BAD_SHARE else BAD_TARGETS)),
        (":authority", "t"),
    ]
    if random.random() < BAD_SHARE:
        del pseudo[random.randrange(len(pseudo))]
    extra = random.choices(EXTRA, k=random.choice((0, 0, 0, 1, 2)))
    if random.random() < BAD_SHARE:
        extra.append(random.choice(BAD_EXTRA))
    encoder = hpack.Encoder()
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pseudo + extra]
    if random.random() < BAD_SHARE:
        random.shuffle(fields)
    raw = bytearray()
    for name, value in fields:
        raw += encoder.encode([hpack.NeverIndexedHeaderTuple(name, value)], huffman=False)
    return bytes(raw)


class Script:
    """Frames of one connection, one after the other; `stream_id` is the newest stream's."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.stream_id = -1
        self.frames: list[bytes] = []

    def any_stream(self) -> int:
        """A stream: most often one that is open, sometimes none of the client's."""
        newest = max(1, self.stream_id)
        others = (1, 0, newest + 2, newest + 1, 0x7FFFFFFF)
        return newest if self._random.random() < 0.9 else self._random.choice(others)

    def request(self) -> None:
        """HEADERS, whole or in pieces, with or without content and trailers."""
        random = self._random
        self.stream_id += 2
        raw, end = block(random), random.choice((END_STREAM, END_STREAM, END_STREAM, 0))
        if random.random() < 0.15:
            raw, rest = raw[: len(raw) // 2], raw[len(raw) // 2 :]
            self.frames.append(frame(HEADERS, end, self.stream_id, raw))
            self.frames.append(frame(CONTINUATION, END_HEADERS, self.stream_id, rest))
            return
        flags = end | END_HEADERS
        if random.random() < 0.1:
            flags, raw = flags | PADDED, b"\x03" + raw + bytes(3)
        elif random.random() < 0.1:
            flags, raw = flags | WITH_PRIORITY, struct.pack(">IB", 0, 15) + raw
        self.frames.append(frame(HEADERS, flags, self.stream_id, raw))
        if not end and random.random() < 0.7:
            self.frames.append(frame(DATA, END_STREAM, self.stream_id, b"x" * random.randint(0, 9)))

    def other(self) -> None:
        """A frame of any other type, each of which may stand where a request may."""
        random, at = self._random, self.any_stream()
        number = struct.pack(">I", random.choice((1, 8, 99) if random.random() < 0.9 else EDGES))
        makers: Sequence[Callable[[], bytes]] = (
            lambda: frame(PING, random.choice((0, ACK)), 0, random.randbytes(8)),
            lambda: frame(PRIORITY, 0, at, number + b"\x0f"),
            lambda: frame(RST_STREAM, 0, at, number),
            lambda: frame(WINDOW_UPDATE, 0, at, number),
            lambda: settings(*random.choice(SETTINGS_SENT)),
            lambda: frame(SETTINGS, ACK, 0),
            lambda: frame(random.randint(10, 255), random.randrange(256), at, random.randbytes(9)),
            lambda: frame(DATA, random.choice((0, END_STREAM, PADDED)), at, random.randbytes(5)),
            lambda: frame(CONTINUATION, END_HEADERS, at, block(random)),
            lambda: frame(PUSH_PROMISE, END_HEADERS, at, number + block(random)),
            lambda: frame(GOAWAY, 0, 0, bytes(4) + number),
            lambda: frame(HEADERS, WHOLE, at, random.randbytes(random.randint(0, 40))),
        )
        weights = (9, 9, 9, 9, 9, 9, 9, 1, 1, 1, 1, 1)
        self.frames.append(random.choices(makers, weights)[0]())

    def damage(self) -> None:
        """Change one frame: a bit, its length, type, flags or stream, or its end."""
        random = self._random
        at = random.randrange(len(self.frames))
        raw = bytearray(self.frames[at])
        if len(raw) < FRAME_HEAD_BYTES:
            return  # damaged before
        kind = random.randrange(6)
        if kind == 0:
            raw[random.randrange(len(raw))] ^= 1 << random.randrange(8)
        elif kind == 1:
            raw[:3] = random.choice((0, 1, 4, 5, 8, 9, 16_385, 0xFFFFFF)).to_bytes(3, "big")
        elif kind == 2:
            raw[3] = random.randrange(12)
        elif kind == 3:
            raw[4] = random.randrange(256)
        elif kind == 4:
            raw[5:9] = struct.pack(">I", random.choice((0, 1, 2, 3, 0x7FFFFFFF, 0x80000001)))
        else:
            del raw[random.randrange(len(raw)) :]
        self.frames[at] = bytes(raw)


def mutated(random: Random) -> bytes:
    """All that one connection sends: the preface, frames in any order, some damaged, and a PING."""
    script = Script(random)
    script.request()
    for _ in range(random.randint(0, 9)):
        random.choice((script.request, script.request, script.other))()
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        script.damage()
    if random.random() < 0.03:
        random.shuffle(script.frames)
    preface = BEGINNING
    if random.random() < 0.03:
        preface = preface[: random.randrange(len(preface))] + random.randbytes(9)
    return preface + b"".join(script.frames) + frame(PING, 0, 0, LAST_PING)
