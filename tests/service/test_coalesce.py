"""Rounds: who asks together shares one, and nobody gets what began before they came."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from zerocopy.core.errors import OverloadError
from zerocopy.service.coalesce import Coalescer


class EndedError(BaseException):
    """No Exception: as KeyboardInterrupt."""


def test_who_comes_while_a_round_runs_gets_the_next_one() -> None:
    """Ten that come during the first share the second; a cancelled one takes it from nobody."""
    rounds_begun: list[list[int]] = []
    gate, begun = threading.Event(), threading.Event()

    def work(keys: list[int]) -> dict[int, int | Exception]:
        rounds_begun.append(keys)
        begun.set()
        assert gate.wait(10)
        return {key: len(rounds_begun) for key in keys}

    async def scenario() -> list[int | BaseException]:
        with ThreadPoolExecutor(2) as executor:
            rounds = Coalescer[int, int](executor, work)
            first = asyncio.ensure_future(rounds.ask(1))
            await asyncio.to_thread(begun.wait, 10)
            others = [asyncio.ensure_future(rounds.ask(key % 2)) for key in range(10)]
            await asyncio.sleep(0)
            others[0].cancel()
            rounds.spare(lambda: pytest.fail("a round runs"))
            gate.set()
            return await asyncio.gather(first, *others, return_exceptions=True)

    first, cancelled, *others = asyncio.run(scenario())
    assert first == 1
    assert isinstance(cancelled, asyncio.CancelledError)
    assert others == [2] * 9
    assert [sorted(keys) for keys in rounds_begun] == [[1], [0, 1]]


def test_errors_reach_whom_they_concern_and_the_next_round_begins() -> None:
    """One of a key is its own; one of the work is everybody's."""

    def work(keys: list[int]) -> dict[int, int | Exception]:
        if 9 in keys:
            raise RuntimeError("all")
        return {key: ValueError("one") if key == 1 else key for key in keys}

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as executor:
            rounds = Coalescer[int, int](executor, work)
            with pytest.raises(RuntimeError, match="all"):
                await rounds.ask(9)
            found = await asyncio.gather(rounds.ask(0), rounds.ask(1), return_exceptions=True)
            assert found[0] == 0
            assert isinstance(found[1], ValueError)

    asyncio.run(scenario())


def test_thread_that_cannot_be_started_is_an_error_and_not_the_end() -> None:
    """Whoever asks is told to try again; the next one is answered."""

    class Tired(ThreadPoolExecutor):
        is_tired = True

        def submit(self, *arguments: Any, **more: Any) -> Any:
            if self.is_tired:
                raise RuntimeError("can't start new thread")
            return super().submit(*arguments, **more)

    async def scenario() -> int:
        with Tired(1) as executor:
            rounds = Coalescer[int, int](executor, lambda keys: dict.fromkeys(keys, 7))
            for _ in range(2):
                with pytest.raises(OverloadError, match="thread"):
                    await asyncio.wait_for(rounds.ask(1), 10)
                with pytest.raises(OverloadError, match="thread"):
                    rounds.spare(list)
            executor.is_tired = False
            return await asyncio.wait_for(rounds.ask(1), 10)

    assert asyncio.run(scenario()) == 7


@pytest.mark.parametrize("is_running", [True, False])
def test_round_that_nobody_waits_for_any_more_never_begins(*, is_running: bool) -> None:
    """Neither behind another round nor behind other work of the threads; those who stay get it."""
    rounds_begun: list[list[int]] = []
    gate, begun = threading.Event(), threading.Event()

    def work(keys: list[int]) -> dict[int, int | Exception]:
        rounds_begun.append(keys)
        begun.set()
        assert gate.wait(10)
        return dict.fromkeys(keys, 7)

    def other() -> None:
        begun.set()
        assert gate.wait(10)

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as executor:
            rounds = Coalescer[int, int](executor, work)
            first = asyncio.ensure_future(rounds.ask(1)) if is_running else None
            if first is None:
                executor.submit(other)
            await asyncio.to_thread(begun.wait, 10)
            left = [asyncio.ensure_future(rounds.ask(key)) for key in (2, 2, 3)]
            await asyncio.sleep(0)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            gate.set()
            if first is not None:
                assert await first == 7
            executor.submit(int).result(10)
            assert rounds_begun == ([[1]] if is_running else [])
            stays, leaves = (asyncio.ensure_future(rounds.ask(key)) for key in (4, 5))
            await asyncio.sleep(0)
            leaves.cancel()
            assert await asyncio.wait_for(stays, 10) == 7

    asyncio.run(scenario())


def test_work_that_ends_its_thread_stops_no_later_round() -> None:
    """Whatever it raises reaches the one who asked, and the next round begins."""

    def work(keys: list[int]) -> dict[int, int | Exception]:
        if 9 in keys:
            raise EndedError
        return dict.fromkeys(keys, 1)

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as executor:
            rounds = Coalescer[int, int](executor, work)
            asked = asyncio.ensure_future(rounds.ask(9))
            await asyncio.wait([asked])
            assert isinstance(asked.exception(), EndedError)
            assert await asyncio.wait_for(rounds.ask(1), 10) == 1

    asyncio.run(scenario())
