"""Rounds: who asks together shares one, and nobody gets what began before they came."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from zerocopy.app.rounds import Rounds


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
            rounds = Rounds[int, int](executor, work)
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
            rounds = Rounds[int, int](executor, work)
            with pytest.raises(RuntimeError, match="all"):
                await rounds.ask(9)
            found = await asyncio.gather(rounds.ask(0), rounds.ask(1), return_exceptions=True)
            assert found[0] == 0
            assert isinstance(found[1], ValueError)

    asyncio.run(scenario())


def test_thread_that_cannot_be_started_is_an_error_and_not_the_end() -> None:
    """RuntimeError of the pool reaches who asks; the next one is answered again."""

    class Tired(ThreadPoolExecutor):
        is_tired = True

        def submit(self, *arguments: Any, **more: Any) -> Any:
            if self.is_tired:
                raise RuntimeError("can't start new thread")
            return super().submit(*arguments, **more)

    async def scenario() -> int:
        with Tired(1) as executor:
            rounds = Rounds[int, int](executor, lambda keys: dict.fromkeys(keys, 7))
            for _ in range(2):
                with pytest.raises(RuntimeError, match="thread"):
                    await asyncio.wait_for(rounds.ask(1), 10)
                with pytest.raises(RuntimeError, match="thread"):
                    rounds.spare(list)
            executor.is_tired = False
            return await asyncio.wait_for(rounds.ask(1), 10)

    assert asyncio.run(scenario()) == 7
