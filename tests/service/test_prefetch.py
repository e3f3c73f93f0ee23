"""What the service does where the threads that read do not: none to be had, none free."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.bench import Bench
from zerocopy.core.errors import DataError, OverloadError
from zerocopy.core.plan import in_memory
from zerocopy.core.window import Window

if TYPE_CHECKING:
    from pathlib import Path


def window() -> Window:
    """One of bytes that are there."""
    return Window([in_memory(b"x")], (0, 0), (1, 0))


class Readers(ThreadPoolExecutor):
    """Two threads whose work begins when `gate` opens; `refusals` of them cannot be started."""

    def __init__(self, refusals: int = 0) -> None:
        super().__init__(2)
        self.refusals = refusals
        self.gate = threading.Event()
        self.submitted = 0

    def submit(self, work: Any, /, *arguments: Any, **more: Any) -> Any:
        """Count it, and hold it at the gate."""
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("can't start new thread")
        self.submitted += 1

        def held() -> Any:
            assert self.gate.wait(10)
            return work(*arguments, **more)

        return super().submit(held)


def test_reader_that_cannot_be_started_is_overload_and_takes_no_place(tmp_path: Path) -> None:
    """As often as there are places and once more: each fails, and the next is served."""
    bench, readers = Bench(tmp_path), Readers(refusals=3)
    bench.service._prefetcher._readers = readers
    readers.gate.set()

    async def scenario() -> None:
        for _ in range(3):
            with pytest.raises(OverloadError):
                await asyncio.wait_for(bench.service.prepare(window()), 10)
        await asyncio.wait_for(bench.service.prepare(window()), 10)

    asyncio.run(scenario())
    readers.shutdown()
    bench.close()


def test_who_leaves_keeps_the_place_of_the_thread_that_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that were cancelled amid their reading leave no place for a third until they are done."""
    bench, readers, begun = Bench(tmp_path), Readers(), threading.Barrier(3)
    bench.service._prefetcher._readers = readers
    gate, readers.gate = readers.gate, threading.Event()
    readers.gate.set()

    def run(_self: object) -> None:
        if not gate.is_set():
            begun.wait(10)
        assert gate.wait(10)

    monkeypatch.setattr("zerocopy.service.prefetch.Reading.run", run)

    async def scenario() -> None:
        left = [asyncio.ensure_future(bench.service.prepare(window())) for _ in range(2)]
        await asyncio.to_thread(begun.wait, 10)
        for task in left:
            task.cancel()
        third = asyncio.ensure_future(bench.service.prepare(window()))
        await asyncio.sleep(0.05)
        assert all(task.cancelled() for task in left)
        assert (readers.submitted, third.done()) == (2, False)
        gate.set()
        await asyncio.wait_for(third, 10)

    asyncio.run(scenario())
    readers.shutdown()
    bench.close()


def test_fault_of_ours_amid_reading_is_an_error_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the window is told, whatever went wrong."""
    bench = Bench(tmp_path)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("zerocopy.service.prefetch.Reading.run", fail)
    with pytest.raises(DataError):
        asyncio.run(bench.service.prepare(window()))
    bench.close()


def test_warm_gathering_waits_for_nobody_who_reads_from_the_disk(tmp_path: Path) -> None:
    """All readers are at work and stay so; a window that is in memory is gathered all the same."""
    bench, readers = Bench(tmp_path), Readers()
    bench.service._prefetcher._readers = readers

    async def scenario() -> None:
        cold = [asyncio.ensure_future(bench.service.prepare(window())) for _ in range(5)]
        await asyncio.sleep(0.01)
        warm = Window([in_memory(b"x")] * 3, (0, 0), (3, 0), gathers=True)
        await asyncio.wait_for(bench.service.prepare(warm), 10)
        assert bytes(warm.content) == b"xxx"
        assert not any(task.done() for task in cold)
        readers.gate.set()
        await asyncio.wait_for(asyncio.gather(*cold), 10)

    asyncio.run(scenario())
    readers.shutdown()
    bench.close()


def test_gathering_that_meets_the_disk_goes_to_the_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planners give it up at once, and it comes back from a reader with its bytes."""
    bench, readers = Bench(tmp_path), Readers()
    bench.service._prefetcher._readers = readers
    readers.gate.set()
    cold = Window([in_memory(b"x")] * 3, (0, 0), (3, 0), gathers=True)

    def run(_self: object) -> None:
        if cold.may_wait:
            cold.content = memoryview(b"xxx")

    monkeypatch.setattr("zerocopy.service.prefetch.Reading.run", run)
    asyncio.run(bench.service.prepare(cold))
    assert (bytes(cold.content), readers.submitted) == (b"xxx", 1)
    readers.shutdown()
    bench.close()
