"""When the time of an HTTP/2 connection is looked at, also of one that its client has lost."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.transport.test_tls_endings import HELLO, http1, http2
from tests.transport.tls_bench import SMALL_BYTES, BenchHandler, TlsBench, run
from zerocopy.transport.http1.connection import Connection
from zerocopy.transport.http2.wire import Http2Wire
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
KINDS: dict[str, type[Any]] = {"http/1.1": Connection, "h2": Http2Wire}


class LostChannel:
    """A channel whose client is gone: every call of the kernel's fails."""

    is_reading = False

    def __init__(self) -> None:
        self.ended: list[str] = []

    def recv(self, _nbytes_max: int, /) -> bytes:
        """Reset by the client."""
        raise ConnectionResetError

    def untaken_bytes(self) -> int:
        """Nobody takes anything."""
        return 0

    def send(self, _data: bytes, _flags: int = 0, /) -> int:
        """Reset by the client."""
        raise ConnectionResetError

    def wait_readable(self, _on_readable: object) -> None:
        """It is not told any more."""

    def stop_reading(self) -> None:
        """As above."""

    def stop_writing(self) -> None:
        """As above."""

    def reset(self) -> None:
        """Noted."""
        self.ended.append("reset")

    def close(self) -> None:
        """Noted."""
        self.ended.append("close")


def lost_wire(
    channel: LostChannel, failures: list[BaseException], ended: list[Http2Wire]
) -> Http2Wire:
    """A connection that was lost before its task began, and that its server has not forgotten."""
    context = SimpleNamespace(
        loop=asyncio.get_running_loop(),
        wheel=Wheel(),
        stall_ticks=1,
        header_ticks=100,
        idle_ticks=100,
        draining=False,
        on_connection_failed=failures.append,
        network_of=lambda _channel: b"",
    )
    return Http2Wire(cast("Any", context), cast("Any", channel), ended.append, is_refused=False)


@pytest.mark.parametrize("end", ["end", "reset", "write"])
def test_lost_connection_ends_once_and_without_a_fault(end: str) -> None:
    """However it is found out; afterwards the wheel may come round, and nothing more is told."""

    async def scenario() -> None:
        channel, failures, ended = LostChannel(), list[BaseException](), list[Http2Wire]()
        wire = lost_wire(channel, failures, ended)
        for _ in range(8):
            wire.on_deadline()
        wire.retire()  # which it tells its client once it has begun
        assert (failures, channel.ended) == ([], [])
        if end == "write":
            wire.write(b"x")
        else:
            getattr(wire, end)()
        for again in (wire.end, wire.leave, wire.on_deadline, partial(wire.write, b"x")):
            again()
        await asyncio.wait([wire._serving])
        assert wire.deadline == NEVER
        assert channel.ended == ["reset"] * (end == "reset") + ["close"]
        assert (failures, ended) == ([], [wire])

    asyncio.run(scenario())


def ask(bench: TlsBench, protocol: str, said: bytes) -> ssl.SSLSocket:
    """A client that has its answer and says nothing more."""
    sock = bench.connect(protocol)
    sock.sendall(said)
    left = SMALL_BYTES
    while left > 0:
        data = sock.recv(65_536)
        assert data, "closed amid the answer"
        left -= len(data)
    return sock


def the_one(bench: TlsBench) -> Any:
    """The only connection."""
    connections: list[Any] = [*bench.server._http2, *bench.server.http1._open]
    [connection] = connections
    return connection


async def until_idle(bench: TlsBench) -> Any:
    """The one connection, once nothing can be due for it for a while."""
    end_s = time.monotonic() + PATIENCE_S
    while the_one(bench).deadline <= bench.server.context.wheel.now + HORIZON_TICKS:
        assert time.monotonic() < end_s, "it is looked at though nothing can be due"
        bench.server.context.wheel.advance()
        await asyncio.sleep(0.01)  # until the client's kernel has acknowledged all
    return the_one(bench)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_idle_connection_is_not_looked_at_until_something_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Not once in a hundred ticks after its answer; again after the next; in time to be closed."""
    looks: list[int] = []
    look = KINDS[protocol].on_deadline

    def counted(self: Any) -> None:
        looks.append(self._context.wheel.now)
        look(self)

    monkeypatch.setattr(KINDS[protocol], "on_deadline", counted)

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
