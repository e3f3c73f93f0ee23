"""Requests that are cancelled while threads work for them: nothing leaks or runs in vain."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.faults.client import SMALL, body_of, seal, target_of, write_series
from tests.service.bench import Bench
from tests.storage.trees import age
from zerocopy.core import counters as slots
from zerocopy.core.http.messages import Request
from zerocopy.core.window import Window
from zerocopy.service.thread_work import COMPUTING_NICE, computing_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zerocopy.core.http.messages import Response

LARGE = target_of("LARGE")
WAIT_S = 60


def test_threads_that_compute_give_way_to_the_event_loop() -> None:
    """Each of them is nicer by ten; who has made them is not."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with computing_threads(2, "computing") as executor:
        both = threading.Barrier(2)
        nice = [
            executor.submit(lambda: (both.wait(WAIT_S), os.getpriority(os.PRIO_PROCESS, 0))[1])
            for _ in range(2)
        ]
        assert [each.result() for each in nice] == [min(19, before + COMPUTING_NICE)] * 2
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


class Gate:
    """Holds work in its thread until it is opened, and counts how often it began and ended."""

    def __init__(self, work: Callable[..., Any], *, before: bool) -> None:
        self._work = work
        self._before = before
        self._open = threading.Event()
        self.begun = 0
        self.ended = 0

    def __call__(self, *arguments: Any) -> Any:
        """Do the work before the gate or behind it."""
        self.begun += 1
        if self._before:
            assert self._open.wait(WAIT_S)
        result = self._work(*arguments)
        if not self._before:
            self.ended += 1
            assert self._open.wait(WAIT_S)
        return result

    def open(self) -> None:
        """Let go whatever waits, now and later."""
        self._open.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "in time"
        await asyncio.sleep(0.001)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service of two threads over a small and a large series."""
    write_series(tmp_path, "SMALL", 500)
    write_series(tmp_path, "LARGE", 40_000)
    seal(tmp_path, "SMALL")
    seal(tmp_path, "LARGE")
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def ask(bench: Bench, target: str) -> asyncio.Task[Response]:
    """A request under way."""
    return asyncio.ensure_future(bench.service.respond(Request(b"GET", target.encode(), ())))


def is_back_at(begun: set[tuple[str, str]]) -> bool:
    """Whether no file is open that was not."""
    return held_files() <= begun


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() for task in tasks)


@pytest.mark.parametrize("before", [True, False])
def test_cancelled_request_leaves_no_descriptor_of_its_plan_open(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, before: bool
) -> None:
    """Whether its thread has opened the files already or does so later, they are closed."""
    gate = Gate(bench.service._planner.plan, before=before)
    monkeypatch.setattr(bench.service._planner, "plan", gate)

    async def scenario() -> None:
        await bench._respond(Request(b"GET", b"/readyz", ()))  # a thread and its loop are there
        begun = held_files()
        left = ask(bench, LARGE)
        await until(lambda: (gate.begun if before else gate.ended) == 1)
        await cancel(left)
        gate.open()
        await until(lambda: not held_files() - begun)
        assert (len(bench.files), bench.service._requests_in_flight) == (0, 0)
        assert bench.counters[slots.PLAN_CACHE_BYTES] == 0
        answer = await ask(bench, LARGE)
        assert (answer.status, len(bench.files)) == (200, 2)

    asyncio.run(scenario())


def test_plan_that_is_done_when_its_request_is_cancelled_is_closed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result that is on its way to a request belongs to nobody once that is cancelled."""
    made = threading.Event()
    plan = bench.service._planner.plan

    def told(*arguments: Any) -> Any:
        planned = plan(*arguments)
        made.set()
        return planned

    monkeypatch.setattr(bench.service._planner, "plan", told)

    executor = bench.service._executor = ThreadPoolExecutor(1)

    async def scenario() -> None:
        await bench._respond(Request(b"GET", b"/readyz", ()))
        for turns in range(5):
            begun = held_files()
            made.clear()
            left = ask(bench, target_of("LARGE", end=86_300 - turns))
            await asyncio.sleep(0)
            assert made.wait(WAIT_S)
            executor.submit(int).result(WAIT_S)  # the plan is given away, the loop stood still
            for _ in range(turns):
                await asyncio.sleep(0)
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            bench.files.close()  # what came in time was adopted
            await until(partial(is_back_at, begun))
            assert bench.service._requests_in_flight == 0

    asyncio.run(scenario())
    executor.shutdown()


def test_queued_work_of_a_cancelled_request_never_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plans, proofs and probes that wait for a thread are forgotten with their requests."""
    gate = Gate(bench.service._planner.plan, before=True)
    monkeypatch.setattr(bench.service._planner, "plan", gate)
    probe = Gate(bench.service._probe_root, before=True)
    monkeypatch.setattr(bench.service, "_probe_root", probe)

    async def scenario() -> None:
        at_work = [ask(bench, target_of("SMALL", end=86_000 + n)) for n in range(2)]
        await until(lambda: gate.begun == 2)
        left = [ask(bench, target_of("SMALL", end=85_000 + n)) for n in range(4)]
        left += [ask(bench, "/readyz"), ask(bench, "/api/symbols")]
        await asyncio.sleep(0)
        assert bench.service._requests_in_flight == 8
        await cancel(*left)
        assert bench.service._requests_in_flight == 2
        gate.open()
        probe.open()
        assert [answer.status for answer in await asyncio.gather(*at_work)] == [200, 200]
        await ask(bench, "/readyz")  # it is queued behind all of them
        assert (gate.begun, probe.begun) == (2, 1)
        assert bench.service._symbol_index.walks == 0
        assert bench.counters[slots.PLANS_MADE] == 2
        assert (await ask(bench, "/api/symbols")).status == 200
        assert (await ask(bench, SMALL)).content == body_of(bench.root, "SMALL")

    asyncio.run(scenario())


def test_cancelled_proof_leaves_the_answer_where_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer whose proof was asked for in vain is given again, and counted as it is given."""
    monkeypatch.setattr("zerocopy.service.service.INLINE_STAMPS_MAX", 0)
    age(*(str(path) for path in bench.root.rglob("*.bin")))

    async def scenario() -> None:
        first = await ask(bench, SMALL)
        nbytes = bench.counters[slots.PLAN_CACHE_BYTES]
        assert nbytes
        left = ask(bench, SMALL)
        await asyncio.sleep(0)
        await cancel(left)
        assert bench.counters[slots.PLAN_CACHE_BYTES] == nbytes
        assert await ask(bench, SMALL) is first
        assert (bench.counters[slots.PLANS_MADE], bench.counters[slots.PLANS_REUSED]) == (1, 1)
        assert bench.service._requests_in_flight == 0

    asyncio.run(scenario())


def test_cancelled_window_gives_back_what_it_was_lent_and_its_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits for a thread gives them back at once, and is never read."""
    gate = Gate(lambda: None, before=True)

    async def scenario() -> None:
        answer = await ask(bench, LARGE)
        segment = answer.segments[0]

        def window() -> Window:
            return Window([segment], (0, 0), (1, 0))

        loop, preparation = asyncio.get_running_loop(), bench.service._prefetcher
        blocked = [loop.run_in_executor(bench.executor, gate) for _ in range(2)]
        await until(lambda: gate.begun == 2)
        begun = held_files()
        runs: list[int] = []
        monkeypatch.setattr("zerocopy.service.prefetch.Reading.run", lambda _: runs.append(1))
        left = [asyncio.ensure_future(bench.service.prepare(window())) for _ in range(4)]
        await until(lambda: len(held_files() - begun) == 2)
        await cancel(*left)
        await until(lambda: not held_files() - begun)
        assert not preparation._readers_free.locked()
        gate.open()
        await asyncio.gather(*blocked)
        await bench.service.prepare(window())
        assert runs == [1]

    asyncio.run(scenario())
