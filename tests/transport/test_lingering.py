"""The end of a connection whose client takes the last response slowly, whatever carries it.

The client's kernel is played by the test: it says how much of what was sent it has not taken.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.h2client import GOAWAY
from tests.transport.http1.bench import Bench, FileSource, answer, receive
from tests.transport.http1.bench import request as plain
from tests.transport.http1.bench import run as run_plain
from tests.transport.http1.bench import until as until_plain
from tests.transport.http2.frames import frame
from tests.transport.test_tls_endings import HELLO, http1, http2, reset
from tests.transport.tls_bench import SMALL_BYTES, BenchHandler, TlsBench, run
from zerocopy.transport.channel import SocketChannel
from zerocopy.transport.http1.state import State
from zerocopy.transport.tls.channel import RECORD_BYTES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from zerocopy.transport.timers import Wheel

LAST = {
    "http/1.1": http1("/api/data?small", "GET", "Connection: close"),
    "h2": HELLO + http2("/api/data?small") + frame(GOAWAY, 0, 0, bytes(8)),
}
TICKS = 200
"""Far more than any client gets to close, and than `write_progress_s`."""

SOON_TICKS = 3
"""Fewer than any client gets to close."""


class Kernel:
    """What the client's has not taken; it takes a byte whenever somebody looks, or none."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.untaken_bytes = 10_000
        self.is_taking = True
        patch.setattr(SocketChannel, "untaken_bytes", lambda _channel: self._look())

    def _look(self) -> int:
        self.untaken_bytes -= self.is_taking and self.untaken_bytes > 0
        return self.untaken_bytes


def check(kernel: Kernel, end: str, wheel: Wheel, is_over: Callable[[], bool]) -> None:
    """It stays while bytes are taken; then it is closed, or reset if that ends before the last."""
    for _ in range(TICKS):
        wheel.advance()
        assert not is_over(), "closed while the client was taking what was sent"
    if end == "taken":
        kernel.untaken_bytes = 0
    kernel.is_taking = False
    for _ in range(TICKS):
        wheel.advance()
    assert is_over(), "the client closes never"


def is_lingering(connection: Any, protocol: str) -> bool:
    """Whether it has said its end, and the client is to close."""
    if protocol == "h2":
        return connection._closing_since is not None
    return connection.state is State.LINGERING


@pytest.mark.parametrize("end", ["taken", "stalled"])
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_tls_client_gets_the_rest_of_its_last_response(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, end: str
) -> None:
    """What it says amid it (a WINDOW_UPDATE, a request) must not meet a closed socket."""

    def ask(bench: TlsBench) -> ssl.SSLSocket:
        sock = bench.connect(protocol)
        sock.sendall(LAST[protocol])
        left = SMALL_BYTES
        while left > 0:
            left -= len(sock.recv(left))
        return sock

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), write_progress_s=10.0)
        await bench.start()
        assert bench.server._ticking is not None
        bench.server._ticking.cancel()  # the test turns the wheel
        kernel = Kernel(monkeypatch)
        [sock] = await bench.in_threads([partial(ask, bench)])
        connections: list[Any] = [*bench.server._http2, *bench.server.http1._open]
        [connection] = connections
        with sock:
            await bench.until(lambda: is_lingering(connection, protocol))
            check(kernel, end, bench.server.context.wheel, lambda: connection.deadline < 0)
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_reset_behind_more_than_one_read_ends_the_last_response_at_once(
    tmp_path: Path, protocol: str
) -> None:
    """The event loop tells an error once; that look got bytes, which are more than a look takes."""

    def ask(bench: TlsBench) -> ssl.SSLSocket:
        sock = bench.connect(protocol)
        sock.sendall(LAST[protocol])
        sock.recv(SMALL_BYTES)
        return sock

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        assert bench.server._ticking is not None
        bench.server._ticking.cancel()  # the test turns the wheel
        [sock] = await bench.in_threads([partial(ask, bench)])
        connections: list[Any] = [*bench.server._http2, *bench.server.http1._open]
        [connection] = connections
        await bench.until(lambda: is_lingering(connection, protocol))
        sock.sendall(bytes(3 * RECORD_BYTES))  # the loop stands still until all of it is there
        reset(sock)
        wheel = bench.server.context.wheel
        reset_at = wheel.now
        await bench.until_nothing_is_held(is_hurried=True)
        assert wheel.now - reset_at <= SOON_TICKS
        await bench.stop()
        assert bench.failures == []

    run(scenario)


@pytest.mark.parametrize("end", ["taken", "stalled"])
def test_plain_client_gets_the_rest_of_its_last_response(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The same without TLS: a pipelined request must not meet a closed socket."""

    async def scenario(bench: Bench) -> None:
        kernel = Kernel(monkeypatch)
        peer, connection = bench.connect()
        peer.send(plain("/now", "Connection: close"))
        await answer(peer)
        await until_plain(lambda: connection.state is State.LINGERING)
        check(kernel, end, bench.server.context.wheel, lambda: connection.state is State.CLOSED)
        assert await receive(peer, 1) == b""
        peer.sock.shutdown(socket.SHUT_WR)

    run_plain(source, scenario)
