"""Keys that the client changes amid its requests: RFC 8446 section 4.6.3."""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import io
import random
import shutil
import ssl
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.h2client import DATA, FRAME_HEAD_BYTES
from tests.tls import trusting
from tests.transport.test_tls_endings import HELLO, http1, http2
from tests.transport.tls.ends import WAIT, Ends, unread_bytes
from tests.transport.tls_bench import (
    LARGE_BYTES,
    SMALL_BYTES,
    BenchHandler,
    MemorySource,
    TlsBench,
    connect_tcp,
    run,
)
from zerocopy.transport.tls import auto_retry
from zerocopy.transport.tls.channel import TlsChannel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

OPENSSL = shutil.which("openssl")
HEADER_BYTES = len(b"header\n")
UPDATE_BYTES = 27
"""A record that holds a KeyUpdate alone."""

KEY_UPDATE = 24
"""Of the messages of a handshake: RFC 8446 section 4."""

ASKING = {"http/1.1": http1("/api/data?large"), "h2": HELLO + http2("/api/data?large")}
BODY = random.Random(14).randbytes(LARGE_BYTES)
TURN_BYTES = 131_072

CONTENT_BYTES = {"small": SMALL_BYTES, "large": HEADER_BYTES + LARGE_BYTES}


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
@pytest.mark.parametrize("command", ["K", "k"], ids=["of both sides", "of the client"])
@pytest.mark.parametrize("what", ["small", "large"])
def test_request_after_a_key_update_is_answered(tmp_path: Path, what: str, command: str) -> None:
    """s_client's K asks for new keys of ours, too; k changes its own alone. Three times."""
    host, port = "", 0

    def ask() -> bytes:
        assert OPENSSL is not None
        # The commands of s_client are lines of a single letter, each in a read of its own.
        with subprocess.Popen(
            [OPENSSL, "s_client", "-tls1_3", "-connect", f"{host}:{port}", "-alpn", "http/1.1",
             "-servername", "localhost"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as client:  # fmt: skip
            assert client.stdin is not None
            assert isinstance(client.stdout, io.BufferedReader)
            for _ in range(3):
                client.stdin.write(f"{command}\n".encode())
                client.stdin.flush()
                said = b""
                while b"KEYUPDATE\n" not in said:
                    said += client.stdout.read1(65_536)
                client.stdin.write(http1(f"/api/data?{what}"))
                client.stdin.flush()
                left = CONTENT_BYTES[what]
                said = b""
                while len(said.partition(b"\r\n\r\n")[2]) < left:
                    data = client.stdout.read1(65_536)
                    assert data, said[-300:]
                    said += data
            client.stdin.close()
            client.kill()
        return said

    async def scenario() -> None:
        nonlocal host, port
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        host, port = bench.address
        [said] = await bench.in_threads([partial(ask)])
        assert b"HTTP/1.1 200 " in said
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def update_keys(client: ssl.SSLSocket, *, of_both: bool = False) -> None:
    """Send a KeyUpdate (SSL_key_update(3)); `of_both` asks for one of the server's, too."""
    openssl = ctypes.CDLL(_ssl.__file__)
    address = ctypes.c_void_p(auto_retry.address_of(client))
    assert openssl.SSL_key_update(address, int(of_both)) == 1
    assert openssl.SSL_do_handshake(address) == 1


class Reader:
    """A client of a large answer; it reads when told.

    `updates` has how many bytes it had when each KeyUpdate of the server's came.
    """

    def __init__(self, bench: TlsBench, protocol: str) -> None:
        context = trusting(minimum_version=ssl.TLSVersion.TLSv1_3)
        context.set_alpn_protocols([protocol])
        context._msg_callback = self._on_message  # type: ignore[attr-defined]
        self.received = bytearray()
        self.updates: list[int] = []
        self._is_http1 = protocol == "http/1.1"
        self._sock = context.wrap_socket(
            connect_tcp(bench.address), server_hostname="localhost", suppress_ragged_eofs=False
        )
        self._sock.sendall(ASKING[protocol])

    def _on_message(self, _sock: object, direction: str, *what: object) -> None:
        if direction == "read" and KEY_UPDATE in what:
            self.updates.append(len(self.received))

    def update(self, *, of_both: bool) -> None:
        """Send a KeyUpdate."""
        update_keys(self._sock, of_both=of_both)

    def read_until(self, holds: Callable[[], bool]) -> None:
        """Read, whatever comes, until `holds`; EOFError at the end, OSError where it is cut off."""
        while not holds():
            data = self._sock.recv(16_384)
            if not data:
                raise EOFError
            self.received += data

    def read_answer(self) -> None:
        """Read all of it."""
        self.read_until(lambda: len(self.received) >= HEADER_BYTES + LARGE_BYTES)
        self.read_until(lambda: len(self.content) >= HEADER_BYTES + LARGE_BYTES)

    def close(self) -> None:
        """Leave."""
        self._sock.close()

    @property
    def content(self) -> bytes:
        """What has come of the answer's content; of the last frame, only if it is whole."""
        if self._is_http1:
            return bytes(self.received.partition(b"\r\n\r\n")[2])
        content, at = b"", 0
        while at + FRAME_HEAD_BYTES <= len(self.received):
            begin = at + FRAME_HEAD_BYTES
            end = begin + int.from_bytes(self.received[at : at + 3], "big")
            if self.received[at + 3] == DATA and end <= len(self.received):
                content += self.received[begin:end]
            at = end
        return content


def amid_a_body(
    directory: Path, protocol: str, steps: Callable[[TlsBench, Reader], Awaitable[None]]
) -> Reader:
    """Take `steps` on a connection that is being sent `BODY`, in turns of half a piece."""
    handler = BenchHandler()
    source = handler.large.segments[0].source
    assert isinstance(source, MemorySource)
    source._content = memoryview(BODY)
    readers: list[Reader] = []

    async def scenario() -> None:
        bench = TlsBench(directory, handler, turn_bytes_max=TURN_BYTES)
        await bench.start()
        readers.extend(await bench.in_threads([partial(Reader, bench, protocol)]))
        try:
            await steps(bench, readers[0])
        finally:
            readers[0].close()
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)
    return readers[0]


def channel_of(bench: TlsBench) -> TlsChannel | None:
    """That of the only connection, unless it has ended."""
    channels = [connection._channel for connection in bench.server.http1._open]
    channels += [wire._channel for wire in bench.server._http2]
    for channel in channels:
        assert isinstance(channel, TlsChannel)
        return channel
    return None


def is_blocked(bench: TlsBench) -> bool:
    """Whether OpenSSL has begun a piece that its client does not take."""
    channel = channel_of(bench)
    return channel is not None and channel.retry_bytes > 0


def has_read(bench: TlsBench) -> bool:
    """Whether all that the client has sent was read, or the connection has ended."""
    channel = channel_of(bench)
    return channel is None or not unread_bytes(channel._tls)


@pytest.mark.parametrize("of_both", [True, False], ids=["of both sides", "of the client"])
@pytest.mark.parametrize("protocol", ASKING)
def test_keys_change_amid_a_body(tmp_path: Path, protocol: str, *, of_both: bool) -> None:
    """Three times while a piece waits: every byte comes, and our keys behind that piece."""

    async def steps(bench: TlsBench, reader: Reader) -> None:
        for times in range(1, 4):
            await bench.until(lambda: is_blocked(bench))
            await bench.in_threads([partial(reader.update, of_both=of_both)])
            await bench.until(lambda: has_read(bench))
            if of_both:
                is_new = lambda: len(reader.updates) == times  # noqa: B023, E731
                await bench.in_threads([partial(reader.read_until, is_new)])
        await bench.in_threads([reader.read_answer])

    reader = amid_a_body(tmp_path, protocol, steps)
    assert reader.content == b"header\n" + BODY
    assert len(reader.updates) == (3 if of_both else 0)
    assert max(reader.updates, default=0) < LARGE_BYTES, "they came amid the body"


@pytest.mark.parametrize("protocol", ASKING)
def test_client_that_asks_for_keys_again_before_they_came_may_be_cut_off(
    tmp_path: Path, protocol: str
) -> None:
    """OpenSSL 3.0 takes that for an error of ours while a piece waits; no wrong byte comes."""

    async def steps(bench: TlsBench, reader: Reader) -> None:
        for _ in range(2):
            await bench.until(lambda: is_blocked(bench))
            await bench.in_threads([partial(reader.update, of_both=True)])
            await bench.until(lambda: has_read(bench))
        with contextlib.suppress(OSError):
            await bench.in_threads([reader.read_answer])

    reader = amid_a_body(tmp_path, protocol, steps)
    assert (b"header\n" + BODY).startswith(reader.content)


def test_key_updates_one_after_the_other_hold_no_read(tmp_path: Path) -> None:
    """Each is a read of its own, so that the loop has its turn however many a client sends."""
    updates = 50
    assert auto_retry.is_available, "this Python keeps its SSL elsewhere; see auto_retry.py"
    with Ends(tmp_path, ssl.TLSVersion.TLSv1_3) as ends:
        with pytest.raises(WAIT):
            ends.client.recv(1)  # the tickets
        for _ in range(updates):
            update_keys(ends.client)
        ends.client.sendall(b"x")
        while ends.unread_bytes() <= updates * UPDATE_BYTES:
            pass  # the loopback delivers by itself
        for _ in range(updates):
            with pytest.raises(BlockingIOError):
                ends.channel.recv(1)
        assert ends.channel.recv(1) == b"x"


def test_key_updates_behind_close_notify_hold_no_loop(tmp_path: Path) -> None:
    """SSL_shutdown(3) reads on for the client's close_notify; it stops after one record, too."""
    with Ends(tmp_path, ssl.TLSVersion.TLSv1_3) as ends:
        with pytest.raises(WAIT):
            ends.client.recv(1)
        for _ in range(3):
            update_keys(ends.client)
        while (before := ends.unread_bytes()) < 3 * UPDATE_BYTES:
            pass
        assert ends.channel.shut_down()
        assert before - ends.unread_bytes() <= UPDATE_BYTES
