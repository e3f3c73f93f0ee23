"""Turns: the loop comes back after so many bytes, and everybody's turn comes in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from zerocopy.transport.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable


def test_loop_comes_back_after_the_bytes_of_an_iteration() -> None:
    """Ten senders of 3 bytes with 5 an iteration: two at a time, in their order."""

    async def count() -> list[int]:
        turns = Turns(asyncio.get_running_loop(), 5)
        sent: list[int] = []

        def sender(number: int) -> Callable[[], int]:
            def send() -> int:
                sent.append(number)
                return 3

            return send

        for number in range(10):
            turns.queue(sender(number))
        seen = [len(sent)]
        while len(turns):
            await asyncio.sleep(0)
            seen.append(len(sent))
        assert sent == list(range(10))
        return seen

    assert asyncio.run(count()) == [0, 2, 4, 6, 8, 10]


def test_who_queues_again_comes_after_the_others() -> None:
    """One that is never done does not keep the second from its turn, nor the loop from its own."""

    async def share() -> list[str]:
        turns = Turns(asyncio.get_running_loop(), 1_000)
        sent: list[str] = []

        def greedy() -> int:
            sent.append("greedy")
            if len(sent) < 6:
                turns.queue(greedy)
            return 1

        def modest() -> int:
            sent.append("modest")
            return 1

        turns.queue(greedy)
        turns.queue(modest)
        await asyncio.sleep(0)
        assert sent == ["greedy", "modest"]
        for _ in range(6):
            await asyncio.sleep(0)
        return sent

    assert asyncio.run(share()) == ["greedy", "modest", *["greedy"] * 4]


def test_error_of_one_sender_does_not_stop_the_others() -> None:
    """It reaches the loop's handler; who waits behind it is called in the next iteration."""

    async def fail() -> tuple[list[str], list[BaseException]]:
        loop = asyncio.get_running_loop()
        told: list[BaseException] = []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        turns, sent = Turns(loop, 10), list[str]()

        def broken() -> int:
            raise ZeroDivisionError

        def after() -> int:
            sent.append("after")
            return 1

        turns.queue(broken)
        turns.queue(after)
        for _ in range(3):
            await asyncio.sleep(0)
        return sent, told

    sent, told = asyncio.run(fail())
    assert sent == ["after"]
    assert [type(error) for error in told] == [ZeroDivisionError]


def test_bound_of_nothing_is_a_programmers_error() -> None:
    """Nobody would ever be called."""
    loop = asyncio.new_event_loop()
    with pytest.raises(AssertionError):
        Turns(loop, 0)
    loop.close()


def test_newcomer_waits_once_the_bytes_of_an_iteration_are_spent() -> None:
    """There is room again in the next iteration, and none while somebody waits."""

    async def come() -> None:
        turns = Turns(asyncio.get_running_loop(), 10)
        assert turns.has_room
        turns.spend(9)
        assert turns.has_room
        turns.spend(9)
        assert not turns.has_room
        await asyncio.sleep(0)
        assert turns.has_room
        turns.queue(lambda: 1)
        assert not turns.has_room
        await asyncio.sleep(0)
        assert turns.has_room

    asyncio.run(come())
