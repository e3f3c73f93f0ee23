"""What clients say before they leave: HTTP/1.1 by hand, HTTP/2 frame by frame.

Owns the bytes of each kind, and how much of the answers it takes. Nothing is held against an answer
but its status: other tests look at what is in it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from hpack import Decoder, Encoder

from tests.faults.client import TINY_BUFFER_BYTES, request_of
from tests.faults.tls_client import CANCEL, HELLO, client_hello
from tests.h2client import (
    CONTINUATION,
    DATA,
    FRAME_HEAD_BYTES,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    WINDOW_UPDATE,
)
from tests.slow.leaving import HANDSHAKE, HTTP1, HTTP2, PLAIN, SILENT, WHOLE, WITH_CONTENT
from tests.slow.leaving_wire import GONE, Wire
from tests.transport.http2.frames import END_HEADERS, END_STREAM, PREFACE, frame, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.slow.leaving import Kind, Site
    from tests.slow.leaving_wire import Door

SOME_BYTES = 400
SLOW_READS, SLOW_BYTES, SLOW_S = 20, 2_000, 0.02
PATIENCE_S = 1.5
"""What has not come by then is not waited for: a deadline of the server's may be due first."""

PAUSES_S = (0.0, 0.0, 0.0, 0.001, 0.01, 0.1)
"""Before leaving: the server is then at one point or another of the exchange."""

WIDE = (1 << 31) - 1
INITIAL_WINDOW_SIZE = 4
CONTENT = b"x" * 500
GARBAGE = b"\x00\x01 \xff\r\n\r\n"
BAD_RECORD = b"\x17\x03\x03\x00\x20" + bytes(32)
ON_STREAM_0 = frame(DATA, 0, 0, b"data")


async def leave(kind: Kind, door: Door, site: Site, rng: Random) -> str:
    """Be a client of this kind; how far it got.

    Raises:
        KeptError: the server did not give the connection up.
    """
    buffer_bytes = 0 if kind.read in WHOLE else TINY_BUFFER_BYTES
    sock = await door.connect(is_tls=kind.wire != PLAIN, receive_buffer_bytes=buffer_bytes)
    async with Wire(sock) as wire:
        client: _Client = _Http2(wire, kind) if kind.wire == HTTP2 else _Client(wire, kind)
        got = "all said"
        try:
            if kind.wire in (HTTP1, HTTP2):
                await wire.handshake("h2" if kind.wire == HTTP2 else "http/1.1")
            await client.ask(site, rng)
            async with asyncio.timeout(PATIENCE_S):
                await client.read()
        except TimeoutError:
            got = "left waiting"
        except GONE as error:
            got = f"ended by the server: {type(error).__name__}"
        await asyncio.sleep(rng.choice(PAUSES_S))
        with suppress(*GONE, OSError):  # it may have gone already
            await client.go()
        if kind.way in SILENT:
            await wire.until_given_up(door)
    return "refused" if 503 in client.statuses else got


class _Client:
    """HTTP/1.1, and what comes before TLS is spoken."""

    def __init__(self, wire: Wire, kind: Kind) -> None:
        self.wire = wire
        self.kind = kind
        self.statuses: list[int] = []
        self._buffer = bytearray()

    async def ask(self, site: Site, rng: Random) -> None:
        """Say what this kind says."""
        kind = self.kind
        if kind.wire == HANDSHAKE:
            await self.wire.send(_before_tls(kind.asked))
            return
        requests = [
            _http1(kind.what, site.target(kind.what, rng))
            if kind.what not in WITH_CONTENT or index == kind.requests - 1
            else request_of(site.target("small", rng))
            for index in range(kind.requests)
        ]
        if "part" in kind.asked:
            requests.append(request_of(site.target("small", rng))[: rng.randrange(1, 60)])
        if requests:
            await self.wire.send(b"".join(requests))

    async def read(self) -> None:
        """Take as much of the answers as this kind does."""
        match self.kind.read:
            case "some":
                await self.wire.read(SOME_BYTES)
            case "slowly":
                for _ in range(SLOW_READS):
                    if not await self.wire.receive(SLOW_BYTES):
                        return
                    await asyncio.sleep(SLOW_S)
            case "first":
                await self.read_answers(1)
            case "all":
                await self.read_answers(self.kind.requests)

    async def read_answers(self, count: int) -> None:
        """Take this many whole answers."""
        for _ in range(count):
            status, left = await self._head()
            while status == 100:
                status, left = await self._head()
            self.statuses.append(status)
            if self.kind.what == "head":
                continue
            left -= len(self._buffer)
            if left < 0:
                del self._buffer[: len(self._buffer) + left]
                continue
            self._buffer.clear()
            while left:
                data = await self.wire.receive(min(left, 1 << 18))
                if not data:
                    raise EOFError("the answer was cut off")
                left -= len(data)

    async def _head(self) -> tuple[int, int]:
        """Status and length of the next answer."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            data = await self.wire.receive(4_096)
            if not data:
                raise EOFError("no answer")
            self._buffer += data
        head = bytes(self._buffer[:end]).lower()
        del self._buffer[: end + 4]
        length = head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0]
        return int(head[9:12]), int(length or 0)

    async def go(self) -> None:
        """Leave, or fall silent."""
        match self.kind.way:
            case "close" | "cancel-close" | "goaway-close":
                self.wire.close()
            case "reset":
                self.wire.reset()
            case "half":
                self.wire.half_close()
            case "notify":
                await self.wire.notify()
            case "notify-close":
                await self.wire.notify()
                self.wire.close()
            case "garbage":
                await self.garble()

    async def garble(self) -> None:
        """Say what is no HTTP, or no TLS."""
        if self.kind.wire == PLAIN:
            await self.wire.send(GARBAGE)
        else:
            await self.wire.send_raw(BAD_RECORD)


class _Http2(_Client):
    """HTTP/2; `read_answers` counts the streams that ended."""

    def __init__(self, wire: Wire, kind: Kind) -> None:
        super().__init__(wire, kind)
        self._encoder, self._decoder = Encoder(), Decoder()
        self._streams: list[int] = []

    async def ask(self, site: Site, rng: Random) -> None:
        """Say what this kind says, in one piece."""
        kind = self.kind
        if kind.asked == "nothing":
            return
        if kind.asked == "part-of-preface":
            await self.wire.send(PREFACE[: rng.randrange(1, len(PREFACE))])
            return
        said = [HELLO]
        if kind.window == "wide":
            said.append(settings(INITIAL_WINDOW_SIZE, WIDE))
            said.append(frame(WINDOW_UPDATE, 0, 0, (WIDE - 65_535).to_bytes(4, "big")))
        elif kind.window == "none":
            said.append(settings(INITIAL_WINDOW_SIZE, 0))
        said += [
            self._request(kind.what, site.target(kind.what, rng)) for _ in range(kind.requests)
        ]
        if "part" in kind.asked:
            whole = self._request("small", site.target("small", rng))
            said.append(whole[: rng.randrange(1, len(whole))])
        elif kind.asked.startswith("open"):
            said.append(self._open_block(site.target("small", rng)))
        await self.wire.send(b"".join(said))

    def _stream(self) -> int:
        self._streams.append(2 * len(self._streams) + 1)
        return self._streams[-1]

    def _request(self, what: str, target: str) -> bytes:
        stream_id = self._stream()
        method = {"head": "HEAD", "posted": "POST", "chunked": "POST", "expected": "POST"}
        head = {":method": method.get(what, "GET"), ":scheme": "https", ":authority": "t"}
        head |= {":path": target, **_fields(what)}
        head.pop("transfer-encoding", None)
        block = self._encoder.encode(list(head.items()))
        if what not in WITH_CONTENT:
            return frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block)
        opened = frame(HEADERS, END_HEADERS, stream_id, block)
        return opened if what == "expected" else opened + frame(DATA, 0, stream_id, CONTENT)

    def _open_block(self, target: str) -> bytes:
        """A field block whose end does not come."""
        stream_id = self._stream()
        head = {":method": "GET", ":scheme": "https", ":authority": "t", ":path": target}
        block = self._encoder.encode(list(head.items()))
        opened = frame(HEADERS, END_STREAM, stream_id, block[:10])
        if self.kind.asked == "open-continuation":
            opened += frame(CONTINUATION, 0, stream_id, block[10:20])
        return opened

    async def read_answers(self, count: int) -> None:
        """Take frames until so many streams have ended."""
        while count > 0:
            for kind, flags, payload in self._frames():
                if kind == GOAWAY:
                    raise EOFError("GOAWAY")
                if kind == HEADERS:
                    fields = {str(name): value for name, value in self._decoder.decode(payload)}
                    self.statuses.append(int(fields.get(":status", 0)))
                is_over = kind in (DATA, HEADERS) and flags & END_STREAM
                count -= bool(is_over or kind == RST_STREAM)
            if count > 0:
                data = await self.wire.receive()
                if not data:
                    raise EOFError("an answer was cut off")
                self._buffer += data

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Those that are whole: kind, flags, payload."""
        at = 0
        while len(self._buffer) >= (begin := at + FRAME_HEAD_BYTES):
            end = begin + int.from_bytes(self._buffer[at : at + 3], "big")
            if len(self._buffer) < end:
                break
            yield self._buffer[at + 3], self._buffer[at + 4], bytes(self._buffer[begin:end])
            at = end
        del self._buffer[:at]

    async def go(self) -> None:
        """Leave, or fall silent; some give their streams up, or the connection, before."""
        if self.kind.way.startswith("cancel"):
            code = CANCEL.to_bytes(4, "big")
            await self.wire.send(b"".join(frame(RST_STREAM, 0, n, code) for n in self._streams))
        elif self.kind.way.startswith("goaway"):
            await self.wire.send(frame(GOAWAY, 0, 0, bytes(8)))
        await super().go()

    async def garble(self) -> None:
        """A frame that has no business on stream 0; or, where there is no preface, no HTTP/2."""
        await self.wire.send(ON_STREAM_0)


def _fields(what: str) -> dict[str, str]:
    return {
        "range": {"range": "bytes=1000-5000000"},
        "posted": {"content-length": str(2 * len(CONTENT))},
        "chunked": {"transfer-encoding": "chunked"},
        "expected": {"content-length": str(len(CONTENT)), "expect": "100-continue"},
    }.get(what, {})


def _http1(what: str, target: str) -> bytes:
    """A request; of its content, where it has some, a part."""
    method = "HEAD" if what == "head" else "POST" if what in WITH_CONTENT else "GET"
    fields = [f"{name}: {value}" for name, value in _fields(what).items()]
    content = {"posted": CONTENT, "chunked": b"200\r\n" + CONTENT}.get(what, b"")
    return request_of(target, *fields, method=method) + content


def _before_tls(asked: str) -> bytes:
    hello = client_hello()
    return {
        "part-of-hello": hello[: len(hello) // 2],
        "hello": hello,
        "garbage": GARBAGE,
        "plain-request": request_of("/healthz"),
    }.get(asked, b"")
