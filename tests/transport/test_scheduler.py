"""Turns: the loop comes back after so many bytes, and everybody's turn comes in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from zerocopy.transport.scheduler import (
    COLD_TURN_BYTES,
    SHORT_RUNS,
    SHORT_TURN_BYTES,
    SendScheduler,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_loop_comes_back_after_the_bytes_of_an_iteration() -> None:
    """Ten senders of 3 bytes with 5 an iteration: two at a time, in their order."""

    async def count() -> list[int]:
        scheduler = SendScheduler(asyncio.get_running_loop(), 5)
        sent: list[int] = []

        def sender(number: int) -> Callable[[], int]:
            def send() -> int:
                sent.append(number)
                return 3

            return send

        for number in range(10):
            scheduler.queue(sender(number))
        seen = [len(sent)]
        while len(scheduler):
            await asyncio.sleep(0)
            seen.append(len(sent))
        assert sent == list(range(10))
        return seen

    assert asyncio.run(count()) == [0, 2, 4, 6, 8, 10]


def test_who_queues_again_comes_after_the_others() -> None:
    """One that is never done does not keep the second from its turn, nor the loop from its own."""

    async def share() -> list[str]:
        scheduler = SendScheduler(asyncio.get_running_loop(), 1_000)
        sent: list[str] = []

        def greedy() -> int:
            sent.append("greedy")
            if len(sent) < 6:
                scheduler.queue(greedy)
            return 1

        def modest() -> int:
            sent.append("modest")
            return 1

        scheduler.queue(greedy)
        scheduler.queue(modest)
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
        scheduler, sent = SendScheduler(loop, 10), list[str]()

        def broken() -> int:
            raise ZeroDivisionError

        def after() -> int:
            sent.append("after")
            return 1

        scheduler.queue(broken)
        scheduler.queue(after)
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
        SendScheduler(loop, 0)
    loop.close()


def test_newcomer_waits_once_the_bytes_of_an_iteration_are_spent() -> None:
    """There is room again in the next iteration, and none while somebody waits."""

    async def come() -> None:
        scheduler = SendScheduler(asyncio.get_running_loop(), 10)
        assert scheduler.has_room
        scheduler.spend(9)
        assert scheduler.has_room
        scheduler.spend(9)
        assert not scheduler.has_room
        await asyncio.sleep(0)
        assert scheduler.has_room
        scheduler.queue(lambda: 1)
        assert not scheduler.has_room
        await asyncio.sleep(0)
        assert scheduler.has_room

    asyncio.run(come())


def test_places_are_given_in_order_and_bounded_in_each_iteration() -> None:
    """Six tasks that want 3 bytes each with 5 an iteration: two go on at a time."""

    async def count() -> None:
        loop = asyncio.get_running_loop()
        scheduler, sent = SendScheduler(loop, 5), list[int]()

        async def send(number: int) -> None:
            await scheduler.place(3)
            sent.append(number)

        tasks = [loop.create_task(send(number)) for number in range(6)]
        seen = []
        while len(sent) < 6:
            await asyncio.sleep(0)
            seen.append(len(sent))
        assert sent == [0, 1, 2, 3, 4, 5]
        assert {2, 4} <= set(seen)
        assert not {3, 5} & set(seen)
        await asyncio.gather(*tasks)

    asyncio.run(count())


def test_place_of_a_cancelled_task_costs_the_others_nothing() -> None:
    """It spends no bytes, and those behind it go on."""

    async def cancel() -> None:
        loop = asyncio.get_running_loop()
        scheduler, sent = SendScheduler(loop, 5), list[int]()

        async def send(number: int) -> None:
            await scheduler.place(3)
            sent.append(number)

        tasks = [loop.create_task(send(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait(tasks[1:])
        assert sent == [1, 2]
        assert tasks[0].cancelled()
        assert not len(scheduler)

    asyncio.run(cancel())


def test_turns_are_short_for_some_iterations_after_a_small_answer() -> None:
    """And an iteration has as many of them as it has long ones; then they are long again."""

    async def hurry() -> None:
        scheduler = SendScheduler(asyncio.get_running_loop(), 4 * SHORT_TURN_BYTES, 2)
        assert scheduler.turn_bytes == 4 * SHORT_TURN_BYTES
        taken: list[int] = []

        def send() -> int:
            taken.append(scheduler.turn_bytes)
            scheduler.queue(send)
            return scheduler.turn_bytes

        for _ in range(3):
            scheduler.queue(send)
        await asyncio.sleep(0)
        assert taken == [4 * SHORT_TURN_BYTES] * 2
        scheduler.hurry(1)
        taken.clear()
        for _ in range(SHORT_RUNS):
            await asyncio.sleep(0)
        assert taken[: 2 * SHORT_RUNS - 2] == [SHORT_TURN_BYTES] * (2 * SHORT_RUNS - 2)
        taken.clear()
        await asyncio.sleep(0)
        assert taken == [4 * SHORT_TURN_BYTES] * 2
        scheduler._waiting.clear()

    asyncio.run(hurry())


def test_small_answer_of_one_listener_shortens_the_turns_of_the_other() -> None:
    """They share an event loop, each with a bound of its own."""

    async def hurry() -> None:
        loop = asyncio.get_running_loop()
        plain, tls = SendScheduler(loop, 4 * SHORT_TURN_BYTES, 2), SendScheduler(loop, 1_000)
        plain.join(tls)
        tls.hurry(1)
        assert (plain.turn_bytes, tls.turn_bytes) == (SHORT_TURN_BYTES, 1_000)

    asyncio.run(hurry())


def test_turns_are_never_longer_than_they_may_be() -> None:
    """A bound below the short turn holds while small answers are asked for too."""

    async def hurry() -> None:
        scheduler = SendScheduler(asyncio.get_running_loop(), 1_000)
        scheduler.hurry(1)
        assert (scheduler.turn_bytes, scheduler.cost_per_byte(is_from_disk=True)) == (1_000, 1)

    asyncio.run(hurry())


def test_bytes_from_the_disk_cost_more_the_fewer_small_answers_leave_beside_them() -> None:
    """One small answer buys one cold turn's bytes, many a full turn; none for a while: no price."""

    async def buy() -> None:
        scheduler = SendScheduler(asyncio.get_running_loop(), 4 * SHORT_TURN_BYTES)
        other = SendScheduler(asyncio.get_running_loop(), 1_000)
        scheduler.join(other)
        assert scheduler.cost_per_byte(is_from_disk=True) == 1
        bought: list[int] = []

        def send() -> int:
            bought.append(scheduler.turn_bytes // scheduler.cost_per_byte(is_from_disk=True))
            return 1

        for answered in (1, 2, 3, 1_000):
            (scheduler, other)[answered % 2].hurry(answered)
            scheduler.queue(send)
            await asyncio.sleep(0)
        assert bought[:2] == [COLD_TURN_BYTES, 2 * COLD_TURN_BYTES]
        assert 2 * COLD_TURN_BYTES < bought[2] <= 3 * COLD_TURN_BYTES
        assert bought[3] == SHORT_TURN_BYTES
        assert scheduler.cost_per_byte(is_from_disk=True) == 1, (
            "for who sends after the turns of an iteration"
        )
        scheduler.queue(send)
        await asyncio.sleep(0)
        assert bought[4] == COLD_TURN_BYTES
        for _ in range(SHORT_RUNS):
            scheduler.spend(1)
            await asyncio.sleep(0)
        assert (scheduler.turn_bytes, scheduler.cost_per_byte(is_from_disk=True)) == (
            4 * SHORT_TURN_BYTES,
            1,
        )

    asyncio.run(buy())


def test_bytes_from_the_disk_cost_what_others_do_beside_those_from_memory() -> None:
    """For some iterations: a small answer waits for turns of the others anyhow."""

    async def mix() -> None:
        scheduler = SendScheduler(asyncio.get_running_loop(), 4 * SHORT_TURN_BYTES)
        other = SendScheduler(asyncio.get_running_loop(), 1_000)
        other.join(scheduler)
        scheduler.hurry(1)
        assert scheduler.cost_per_byte(is_from_disk=True) == SHORT_TURN_BYTES // COLD_TURN_BYTES
        assert scheduler.cost_per_byte(is_from_disk=False) == 1
        scheduler.sent(COLD_TURN_BYTES - 1, is_from_disk=False)
        scheduler.sent(1 << 30, is_from_disk=True)
        assert scheduler.cost_per_byte(is_from_disk=True) == SHORT_TURN_BYTES // COLD_TURN_BYTES
        other.sent(COLD_TURN_BYTES, is_from_disk=False)
        assert scheduler.cost_per_byte(is_from_disk=True) == 1
        for _ in range(SHORT_RUNS):
            scheduler.hurry(1)
            scheduler.spend(1)
            await asyncio.sleep(0)
        assert scheduler.cost_per_byte(is_from_disk=True) == SHORT_TURN_BYTES // COLD_TURN_BYTES

    asyncio.run(mix())


def test_bytes_that_a_sender_spends_besides_its_own_count_too() -> None:
    """Those of others, who are answered before it sends, are bytes of the same iteration."""

    async def spend() -> None:
        scheduler = SendScheduler(asyncio.get_running_loop(), 10)
        sent: list[str] = []

        def first() -> int:
            scheduler.spend(8)
            sent.append("first")
            return 2

        def second() -> int:
            sent.append("second")
            return 1

        scheduler.queue(first)
        scheduler.queue(second)
        await asyncio.sleep(0)
        assert sent == ["first"]
        assert not scheduler.has_room
        await asyncio.sleep(0)
        assert sent == ["first", "second"]

    asyncio.run(spend())


def test_turn_that_was_waited_for_counts_as_long_as_turns_are_by_then() -> None:
    """Not as they were when the place was asked for: who has it may send so much."""

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        scheduler = SendScheduler(loop, 4 * SHORT_TURN_BYTES, 2)
        left = loop.create_future()

        def look() -> int:
            left.set_result(scheduler._left)
            return 0

        waiting = loop.create_task(scheduler.take(3 * SHORT_TURN_BYTES))
        loop.call_soon(scheduler.queue, look)
        scheduler.spend(1 << 40)
        scheduler.hurry(1)
        assert await left == SHORT_TURN_BYTES, "of two short turns"
        assert await waiting

    asyncio.run(wait())
