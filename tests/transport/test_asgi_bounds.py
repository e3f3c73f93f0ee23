"""AsgiApp keeps the bounds of its listener, as the listener's other answers do."""

from __future__ import annotations

import asyncio
import os
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.transport.asgi_driver import (
    TIMEOUT_S,
    Driver,
    FakeHandler,
    FakeSource,
    context_of,
    scope_of,
    settle,
)
from tests.transport.feeds import FakeFeed
from tests.transport.test_tls_endings import HELLO, http1, http2
from tests.transport.tls_bench import LIMITS, BenchHandler, TlsBench, run
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.messages import Response
from zerocopy.core.plan import Segment
from zerocopy.core.window import (
    GATHERED_BYTES_MAX,
    GATHERED_BYTES_TOTAL,
    TINY_BYTES,
    WINDOW_SLICES_MAX,
    WINDOWS_OPEN,
    Window,
)
from zerocopy.transport import body as body_module
from zerocopy.transport.asgi import READY_TICKS, AsgiApp
from zerocopy.transport.body import OPEN_FILES_MAX, SEGMENTS_HELD_MAX, Bodies
from zerocopy.transport.scheduler import SendScheduler

if TYPE_CHECKING:
    from pathlib import Path

TURN_BYTES = 65_536
NBYTES = 8_000
TINY_SEGMENTS = 200


class Buffer(bytearray):
    """Bytes that can be seen to be gone."""

    __hash__ = object.__hash__  # type: ignore[assignment]


@dataclass
class Gatherer(FakeHandler):
    """Gathers what is to be gathered; remembers how much."""

    gathered: list[int] = field(default_factory=list)
    buffers: weakref.WeakSet[Buffer] = field(default_factory=weakref.WeakSet)

    async def prepare(self, window: Window) -> None:
        """Read it, a turn later."""
        self.prepared.append(len(window.slices))
        await asyncio.sleep(0)
        window.has_waited = True
        if window.gathers:
            parts = [piece.source.view(piece.offset, piece.count) for piece in window.slices]
            buffer = Buffer(b"".join(parts))
            self.buffers.add(buffer)
            self.gathered.append(len(buffer))
            window.content = memoryview(buffer)

    @property
    def held_bytes(self) -> int:
        """How many gathered bytes are still in memory."""
        return sum(map(len, self.buffers))


class Rig:
    """An application over cold segments, for a listener."""

    def __init__(self, count: int, nbytes: int, *, open_files_max: int = OPEN_FILES_MAX) -> None:
        self.sources = [FakeSource(os.urandom(nbytes), is_ready=False) for _ in range(count)]
        segments = tuple(Segment(source, 0, nbytes) for source in self.sources)
        self.content = b"".join(source.content for source in self.sources)
        self.handler = Gatherer(Response(200, (), b"line\n", segments))
        self.bodies = Bodies(window_bytes_max=1 << 20, open_files_max=open_files_max)
        self.context = context_of(
            SendScheduler(asyncio.get_running_loop(), TURN_BYTES), self.bodies
        )
        self.app = AsgiApp(
            handler=self.handler,
            limits=LIMITS,
            content_read_s=TIMEOUT_S,
            read_ahead_bytes_max=1 << 20,
            counters=[0] * len(SLOTS),
            on_transfer_failed=lambda error, _: pytest.fail(str(error)),
        )
        self.app.context = self.context

    def begin(self, driver: Driver) -> asyncio.Task[None]:
        """Ask for it."""
        return asyncio.ensure_future(
            cast("Any", self.app(scope_of("/x"), driver.receive, driver.send))
        )

    @property
    def held(self) -> tuple[int, int]:
        """Segments and answers that the listener counts."""
        return self.bodies.segments_held, self.bodies.count


async def stall(driver: Driver) -> None:
    """Let the client take some pieces, and then no more."""
    for _ in range(10_000):
        if len(driver.sent) > 3:
            driver.room.clear()
            await settle()
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing is sent")


def test_answer_is_counted_until_it_ends() -> None:
    """Its segments and itself, also where its client leaves or its task is cancelled."""

    async def scenario() -> None:
        rig = Rig(TINY_SEGMENTS, NBYTES)
        for leave in ("end", "disconnect", "cancel"):
            driver = Driver()
            task = rig.begin(driver)
            await stall(driver)
            assert rig.held == (TINY_SEGMENTS, 1)
            if leave == "end":
                driver.room.set()
            elif leave == "disconnect":
                driver.push({"type": "http.disconnect"})
            else:
                task.cancel()
            await asyncio.wait([task], timeout=TIMEOUT_S)
            assert rig.held == (0, 0)

    asyncio.run(scenario())


def test_endless_response_is_refused() -> None:
    """It is for the listeners of zerocopy, which pull it; its feed is closed all the same."""

    async def scenario() -> None:
        feed = FakeFeed()
        rig, driver = Rig(TINY_SEGMENTS, NBYTES), Driver()
        rig.handler.response = Response(200, (), feed=feed)
        await cast("Any", rig.app(scope_of("/live"), driver.receive, driver.send))
        assert driver.sent[0]["status"] == 501
        assert feed.closed == 1

    asyncio.run(scenario())


def test_head_holds_nothing() -> None:
    """HEAD of a large answer sends no segment, so none is counted."""

    async def scenario() -> None:
        rig, driver = Rig(TINY_SEGMENTS, NBYTES), Driver()
        driver.room.clear()
        task = asyncio.ensure_future(
            cast("Any", rig.app(scope_of("/x", "HEAD"), driver.receive, driver.send))
        )
        await settle()
        assert rig.held == (0, 0)
        driver.room.set()
        await task

    asyncio.run(scenario())


def test_answer_beyond_the_segments_of_the_listener_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503 while others hold them, 200 once they have gone."""
    monkeypatch.setattr(body_module, "SEGMENTS_HELD_MAX", TINY_SEGMENTS + 1)

    async def scenario() -> None:
        rig = Rig(TINY_SEGMENTS, NBYTES)
        first, second, third = Driver(), Driver(), Driver()
        first.room.clear()
        task = rig.begin(first)
        await settle()
        await rig.begin(second)
        assert second.status == 503
        first.room.set()
        await task
        await rig.begin(third)
        assert [first.status, third.status] == [200, 200]

    asyncio.run(scenario())


@pytest.mark.parametrize("slices", [1, 3, 1 << 20])
def test_windows_open_as_many_files_as_the_listener_gives(slices: int) -> None:
    """Not the 64 of an answer that is alone, where many share the open files."""

    async def scenario() -> None:
        rig, driver = Rig(100, 20_000, open_files_max=WINDOWS_OPEN * slices), Driver()
        await rig.begin(driver)
        assert b"".join(driver.pieces) == b"line\n" + rig.content
        assert max(rig.handler.prepared) == min(slices, 1_048_576 // 20_000 + 1, WINDOW_SLICES_MAX)

    asyncio.run(scenario())


@pytest.mark.parametrize("others", [0, 1_000, 1_000_000])
def test_gathered_bytes_are_shared_with_all_answers_of_the_listener(others: int) -> None:
    """A window of tiny segments has at most its share of 64 MiB."""

    async def scenario() -> None:
        rig, driver = Rig(TINY_SEGMENTS, NBYTES), Driver()
        rig.bodies.count += others
        await rig.begin(driver)
        assert b"".join(driver.pieces) == b"line\n" + rig.content
        share = min(GATHERED_BYTES_MAX, GATHERED_BYTES_TOTAL // (others + 1))
        assert max(rig.handler.gathered) == max(TINY_BYTES, share)

    asyncio.run(scenario())


def test_stalled_client_loses_what_was_gathered_for_it() -> None:
    """After a second without a byte nothing of it is in memory; going on, it gets every byte."""

    async def scenario() -> None:
        rig, driver = Rig(TINY_SEGMENTS, NBYTES), Driver()
        task = rig.begin(driver)
        await stall(driver)
        for _ in range(READY_TICKS - 1):
            rig.context.wheel.advance()
        assert rig.handler.held_bytes > 0
        for _ in range(READY_TICKS):
            rig.context.wheel.advance()
        assert rig.handler.held_bytes == 0
        driver.room.set()
        await task
        assert b"".join(driver.pieces) == b"line\n" + rig.content

    asyncio.run(scenario())


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_both_protocols_of_the_listener_keep_one_bound(tmp_path: Path, protocol: str) -> None:
    """What is held for HTTP/2 leaves no room over HTTP/1.1 either; a small answer needs none."""
    said = {
        "http/1.1": (http1("/api/data?large"), http1("/api/data?small")),
        "h2": (HELLO + http2("/api/data?large"), HELLO + http2("/api/data?small")),
    }

    def ask(bench: TlsBench, index: int) -> bytes:
        with bench.connect(protocol) as sock:
            sock.sendall(said[protocol][index])
            received = sock.recv(65_536)
            while b"no" not in received and len(received) < 1_000:
                received += sock.recv(65_536)
            return received

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        bench.server.context.bodies.segments_held = SEGMENTS_HELD_MAX
        refused, served = await bench.in_threads([lambda: ask(bench, 0), lambda: ask(bench, 1)])
        assert len(refused) < 1_000 < len(served)
        assert refused.endswith(b"no")
        bench.server.context.bodies.segments_held = 0
        (served,) = await bench.in_threads([lambda: ask(bench, 0)])
        assert len(served) > 1_000
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)
