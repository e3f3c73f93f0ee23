"""A close_notify right behind a request ends the client's side alone: RFC 8446 section 6.1."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.tls_client import CANCEL
from tests.h2client import RST_STREAM, SETTINGS
from tests.tls import V12, V13
from tests.transport.http2.frames import END_STREAM, PREFACE, frame
from tests.transport.test_tls_endings import HELLO, http1, http2
from tests.transport.tls_bench import (
    LARGE_BYTES,
    SMALL_BYTES,
    BenchHandler,
    TlsBench,
    connect_tcp,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

HEADER_BYTES = len(b"header\n")
CONTENT_BYTES = {
    "small": SMALL_BYTES,
    "later": SMALL_BYTES,
    "large": HEADER_BYTES + LARGE_BYTES,
    "large later": HEADER_BYTES + LARGE_BYTES,
}


def http1_contents(received: bytes) -> list[int]:
    """How many bytes of content each response has."""
    contents = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        [length] = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        contents.append(min(length, len(received)))
        received = received[length:]
    return contents


def http2_contents(received: bytes) -> list[int]:
    """How many bytes of content each stream has that was ended, in the order they ended."""
    contents: dict[int, int] = {}
    ended, at = [], 0
    while at + 9 <= len(received):
        nbytes, kind = int.from_bytes(received[at : at + 3], "big"), received[at + 3]
        flags, stream_id = received[at + 4], int.from_bytes(received[at + 5 : at + 9], "big")
        at += 9 + nbytes
        if kind == 0:
            contents[stream_id] = contents.get(stream_id, 0) + nbytes
            if flags & END_STREAM:
                ended.append(contents[stream_id])
    assert at == len(received), "a frame is cut off"
    return ended


def talk(bench: TlsBench, protocol: str, said: bytes, *, is_notified: bool) -> bytes:
    """All that comes for requests in whose last packet the client ends its side.

    In memory: an SSLSocket would look for the server's close_notify, and lose what comes instead.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = bench._contexts[protocol].wrap_bio(incoming, outgoing, server_hostname="localhost")
    received = bytearray()
    with connect_tcp(bench.address) as sock:
        while True:
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65_536))
        with suppress(ssl.SSLWantReadError):  # or unwrap would lose what came with the handshake
            while data := tls.read(65_536):
                received += data
        tls.write(said)
        if is_notified:
            with pytest.raises(ssl.SSLWantReadError):
                tls.unwrap()
        sock.sendall(outgoing.read())
        if not is_notified:
            sock.shutdown(socket.SHUT_WR)
        while data := read(tls, incoming, sock):
            received += data
        assert sock.recv(1) == b"", "nothing follows close_notify, and no reset"
    return bytes(received)


def read(tls: ssl.SSLObject, incoming: ssl.MemoryBIO, sock: socket.socket) -> bytes:
    """Some bytes, b"" after close_notify; SSLEOFError where the connection ends without one."""
    while True:
        try:
            return tls.read(65_536)
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLWantReadError:
            fresh = sock.recv(65_536)
            if fresh:
                incoming.write(fresh)
            else:
                incoming.write_eof()


@pytest.mark.parametrize("version", [V12, V13], ids=lambda version: version.name)
@pytest.mark.parametrize("is_notified", [True, False], ids=["close_notify", "FIN"])
@pytest.mark.parametrize("what", CONTENT_BYTES)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_answer_is_whole_and_so_is_its_end(
    tmp_path: Path,
    protocol: str,
    times: int,
    what: str,
    version: ssl.TLSVersion,
    *,
    is_notified: bool,
) -> None:
    """Small and large, planned or known: every byte, then close_notify of the server's own.

    FIN without close_notify is what many clients mean by it.
    """
    target = f"/api/data?{what.replace(' ', '&')}"
    said = {"http/1.1": http1(target) * times, "h2": HELLO + http2(target, times=times)}[protocol]

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        for context in bench._contexts.values():
            context.maximum_version = version
        await bench.start()
        call = partial(talk, bench, protocol, said, is_notified=is_notified)
        [received] = await bench.in_threads([call])
        contents = (http1_contents if protocol == "http/1.1" else http2_contents)(received)
        assert contents == [CONTENT_BYTES[what]] * times
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


@pytest.mark.parametrize("is_notified", [True, False], ids=["close_notify", "FIN"])
def test_answer_beyond_the_window_is_reset_soon(tmp_path: Path, *, is_notified: bool) -> None:
    """Who sends nothing more opens no window either: RST_STREAM, and the place is given back."""
    said = PREFACE + frame(SETTINGS, 0, 0) + http2("/api/data?large")

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), write_progress_s=10_000.0)
        await bench.start()
        call = partial(talk, bench, "h2", said, is_notified=is_notified)
        [received] = await bench.in_threads([call])
        assert http2_contents(received) == []
        assert frame(RST_STREAM, 0, 1, CANCEL.to_bytes(4, "big")) in received
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


@pytest.mark.parametrize("is_notified", [True, False], ids=["close_notify", "FIN"])
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_end_is_said_once_there_is_room_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, *, is_notified: bool
) -> None:
    """A socket that is full when the last response has left still gets close_notify."""
    refused: set[ssl.SSLSocket] = set()
    honest = ssl.SSLSocket.unwrap

    def unwrap(self: ssl.SSLSocket) -> socket.socket:
        if self not in refused:
            refused.add(self)
            raise ssl.SSLWantWriteError
        return honest(self)

    said = {"http/1.1": http1("/api/data?small"), "h2": HELLO + http2("/api/data?small")}[protocol]

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        monkeypatch.setattr(ssl.SSLSocket, "unwrap", unwrap)
        call = partial(talk, bench, protocol, said, is_notified=is_notified)
        [received] = await bench.in_threads([call])
        assert received
        assert refused
        await bench.until_nothing_is_held()
        await bench.stop()

    run(scenario)
    refused.clear()
