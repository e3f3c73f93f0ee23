"""When the time of a TLS connection is looked at, also of one whose transport is gone already."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from tests.transport.test_tls_endings import HELLO, http1, http2
from tests.transport.tls_bench import SMALL_BYTES, BenchHandler, TlsBench, run
from zerocopy.transport.http2.tls_connection import TlsConnection
from zerocopy.transport.timers import HORIZON_TICKS, NEVER, Wheel

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

PATIENCE_S = 10.0
NEVER_S = 10_000.0
"""The wheel is turned faster than a kernel acknowledges what it has."""

SMALL = {
    "http/1.1": http1("/api/data?small"),
    "h2": HELLO + http2("/api/data?small"),
}
LATER = {
    "http/1.1": http1("/api/data?later"),
    "h2": HELLO + http2("/api/data?later"),
}


class LostWriter:
    """A stream writer after connection_lost: uvloop knows no socket any more."""

    def __init__(self) -> None:
        self.aborts: list[bool] = []
        self.transport = SimpleNamespace(
            get_write_buffer_size=int, abort=partial(self.aborts.append, True)
        )

    def close(self) -> None:
        """It is closed already."""

    async def wait_closed(self) -> None:
        """It is."""

    def get_extra_info(self, _name: str) -> None:
        """Nothing is known."""


def lost_connection(writer: LostWriter, failures: list[BaseException]) -> TlsConnection:
    """A connection that was lost, and that its server has not forgotten yet."""
    context = SimpleNamespace(
        wheel=Wheel(),
        stall_ticks=1,
        header_ticks=100,
        idle_ticks=100,
        on_connection_failed=failures.append,
    )
    return TlsConnection(
        None,
        None,
        None,
        None,
        {},
        SimpleNamespace(exception=lambda: None),
        writer,
        context=context,  # type: ignore[arg-type]
        is_refused=False,
    )


def test_lost_connection_is_no_failure() -> None:
    """Between its loss and its end the wheel may come round: nothing is told, nothing is closed."""
    writer, failures = LostWriter(), list[BaseException]()
    connection = lost_connection(writer, failures)
    for _ in range(8):
        connection.on_deadline()
    assert failures == []
    assert writer.aborts == []


def test_lost_connection_can_be_reset() -> None:
    """There is no socket to prepare; the transport is aborted all the same."""
    writer = LostWriter()
    lost_connection(writer, []).reset()
    assert writer.aborts == [True]


def test_connection_that_is_over_holds_nothing() -> None:
    """Its writer, and with it what was queued, goes with the last reference, not with a cycle."""
    writer = LostWriter()
    failures: list[BaseException] = []
    connection = lost_connection(writer, failures)
    gone = weakref.ref(writer)
    gc.disable()
    try:
        asyncio.run(connection.run())
        del writer
        assert gone() is None
    finally:
        gc.enable()
    assert failures == []
    assert connection.deadline == NEVER


def ask(bench: TlsBench, protocol: str, said: bytes) -> ssl.SSLSocket:
    """A client that has its answer and says nothing more."""
    sock = bench.connect(protocol)
    sock.sendall(said)
    return read_answer(sock)


def read_answer(sock: ssl.SSLSocket) -> ssl.SSLSocket:
    """The same client, once it has a small answer."""
    left = SMALL_BYTES
    while left > 0:
        data = sock.recv(65_536)
        assert data, "closed amid the answer"
        left -= len(data)
    return sock


async def until_idle(bench: TlsBench) -> TlsConnection:
    """The one connection, once nothing can be due for it for a while."""
    [connection] = bench.server._connections
    end_s = time.monotonic() + PATIENCE_S
    while connection.deadline <= bench.server.context.wheel.now + HORIZON_TICKS:
        assert time.monotonic() < end_s, "it is looked at though nothing can be due"
        bench.server.context.wheel.advance()
        await asyncio.sleep(0.01)  # until the client's kernel has acknowledged all
    return connection


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_idle_connection_is_not_looked_at_until_something_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Not once in a hundred ticks after its answer; again after the next; in time to be closed."""
    looks: list[int] = []
    look = TlsConnection.on_deadline

    def counted(self: TlsConnection) -> None:
        looks.append(self._context.wheel.now)
        look(self)

    monkeypatch.setattr(TlsConnection, "on_deadline", counted)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), write_progress_s=NEVER_S)
        await bench.start()
        wheel = bench.server.context.wheel
        assert bench.server._ticking is not None
        bench.server._ticking.cancel()  # the test turns the wheel
        [sock] = await bench.in_threads([partial(ask, bench, protocol, SMALL[protocol])])
        connection = await until_idle(bench)
        looks.clear()
        for _ in range(100):
            wheel.advance()
        assert looks == []
        due = connection.deadline
        assert due - wheel.now <= bench.server.context.idle_ticks
        while wheel.now < due:
            wheel.advance()
        assert looks == [due]
        await bench.until_nothing_is_held(is_hurried=True)
        sock.close()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_connection_is_idle_from_the_end_of_its_answer_on(tmp_path: Path, protocol: str) -> None:
    """However long the answer took, the connection stays for the idle timeout after it."""

    async def scenario() -> None:
        handler = BenchHandler()
        bench = TlsBench(tmp_path, handler, write_progress_s=NEVER_S)
        await bench.start()
        handler.gate.clear()
        asking = asyncio.ensure_future(
            bench.in_threads([partial(ask, bench, protocol, LATER[protocol])])
        )
        end_s = time.monotonic() + PATIENCE_S
        while not handler.answering:
            assert time.monotonic() < end_s, "it is not asked"
            await asyncio.sleep(0.01)
        shared = bench.server.context
        for _ in range(2 * shared.idle_ticks):
            shared.wheel.advance()
        handler.gate.set()
        [sock] = await asking
        connection = await until_idle(bench)
        assert connection.deadline - shared.wheel.now > shared.idle_ticks // 2
        sock.close()
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)
