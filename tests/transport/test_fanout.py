"""zerocopy.transport.fanout: all who wait are served, in slices, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from zerocopy.transport.fanout import ANSWERED_BYTES, SHORT_SLICE_BYTES, SLICE_BYTES, Fanout
from zerocopy.transport.scheduler import SendScheduler

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Loop:
    """Runs what `call_soon` was given when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        """Note it."""
        self.calls.append(call)

    def turn(self) -> int:
        """One iteration: what was there at its beginning. Returns how much that was."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        return len(calls)


def _fanout(loop: Loop, answer: Callable[[], None] = lambda: None) -> Fanout:
    event_loop = cast("asyncio.AbstractEventLoop", loop)
    # The scheduler's own runs are not what is looked at.
    scheduler = SendScheduler(cast("asyncio.AbstractEventLoop", Loop()), 1 << 20)
    return Fanout(event_loop, answer, scheduler)


def test_ten_thousand_are_served_in_slices() -> None:
    """Each once, in order; no slice is charged more than it may be; small answers go before."""
    loop, served, slices = Loop(), list[int](), list[int]()
    fanout = _fanout(loop, lambda: slices.append(len(served)))
    cost = SLICE_BYTES // 32

    def turn(number: int) -> Callable[[], int]:
        def take() -> int:
            served.append(number)
            return cost

        return take

    for number in range(10_000):
        fanout.add(turn(number))
    while loop.calls:
        assert loop.turn() == 1, "scheduled once"
    assert served == list(range(10_000))
    assert slices == list(range(0, 10_000, 32))


@pytest.mark.parametrize(
    ("answered", "slice_bytes"),
    [
        (1, SHORT_SLICE_BYTES),
        (SHORT_SLICE_BYTES // ANSWERED_BYTES * 2, SHORT_SLICE_BYTES * 2),
        (1 << 20, SLICE_BYTES),
    ],
)
def test_slices_are_short_while_small_responses_are_requested(
    answered: int, slice_bytes: int
) -> None:
    """One client waits for few streams; streams that many clients hold up get as much as those."""
    loop, served = Loop(), list[int]()
    fanout = _fanout(loop)
    fanout._scheduler.hurry(answered)

    def take() -> int:
        served.append(len(served))
        return ANSWERED_BYTES

    for _ in range(1_000):
        fanout.add(take)
    loop.turn()
    assert len(served) == slice_bytes // ANSWERED_BYTES


def test_stream_that_comes_back_waits_for_the_next_slice() -> None:
    """One that always has more does not keep the others, or the loop, waiting."""
    loop, served = Loop(), list[str]()
    fanout = _fanout(loop)

    def busy() -> int:
        served.append("busy")
        fanout.add(busy)
        return 1

    fanout.add(busy)
    for _ in range(3):
        assert loop.turn() == 1
    assert served == ["busy"] * 3


def test_others_are_served_after_a_fault() -> None:
    """A turn that raises, which none ought to, does not strand those behind it."""
    loop, served = Loop(), list[str]()
    fanout = _fanout(loop)

    def broken() -> int:
        raise ZeroDivisionError

    def whole() -> int:
        served.append("whole")
        return 1

    fanout.add(broken)
    fanout.add(whole)
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert served == ["whole"]
