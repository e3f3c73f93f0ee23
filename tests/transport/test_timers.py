"""Wheel: nobody is told early, nobody later than the horizon, and the gone are forgotten."""

from __future__ import annotations

import random

import pytest

from tests.table import each
from zerocopy.transport.timers import HORIZON_TICKS, NEVER, TICK_S, Wheel


class Member:
    """Writes down when it was told, and does then what a test wants."""

    def __init__(self, wheel: Wheel, deadline: int, again: int | None = None) -> None:
        self.wheel = wheel
        self.deadline = deadline
        self.again = again
        self.told: list[int] = []

    def on_deadline(self) -> None:
        """Close, or set a later deadline."""
        self.told.append(self.wheel.now)
        self.deadline = NEVER if self.again is None else self.wheel.now + self.again


@each("deadline", range(30))
def test_member_is_told_once_at_its_deadline(deadline: int) -> None:
    """A deadline that never moves is met on its tick; one that is over is met on the next."""
    wheel = Wheel()
    member = Member(wheel, deadline)
    wheel.add(member)
    for _ in range(40):
        wheel.advance()
    assert member.told == [max(deadline, 1)]


def test_member_that_moves_its_deadline_on_is_not_told() -> None:
    """Moving on is a number written, no call; only when it stops is the member told."""
    wheel = Wheel()
    member = Member(wheel, 10)
    wheel.add(member)
    for _ in range(100):
        wheel.advance()
        member.deadline = wheel.now + 10
    assert member.told == []
    for _ in range(10):
        wheel.advance()
    assert member.told == [110]


def test_shortened_deadline_is_seen_within_the_horizon() -> None:
    """A deadline brought forward is at most `HORIZON_TICKS` late."""
    for moment in range(1, 20):
        wheel = Wheel()
        member = Member(wheel, 1_000)
        wheel.add(member)
        for _ in range(moment):
            wheel.advance()
        member.deadline = moment + 1
        for _ in range(HORIZON_TICKS + 1):
            wheel.advance()
        assert len(member.told) == 1
        assert moment < member.told[0] <= moment + 1 + HORIZON_TICKS


def test_member_that_sets_a_later_deadline_is_told_again() -> None:
    """on_deadline may go on instead of closing."""
    wheel = Wheel()
    member = Member(wheel, 3, again=5)
    wheel.add(member)
    for _ in range(20):
        wheel.advance()
    assert member.told == [3, 8, 13, 18]


def test_member_that_is_gone_is_forgotten_within_the_horizon() -> None:
    """A closed connection is not kept alive by the wheel."""
    wheel = Wheel()
    members = [Member(wheel, 10 + index) for index in range(50)]
    for member in members:
        wheel.add(member)
        member.deadline = NEVER
    for _ in range(HORIZON_TICKS):
        wheel.advance()
    assert not any(wheel._filed.values())
    assert not any(member.told for member in members)


def test_many_members_are_told_like_each_alone() -> None:
    """Random deadlines that move at random are met exactly, or late by the horizon at most."""
    rng = random.Random(7)
    wheel = Wheel()
    members = [Member(wheel, rng.randrange(60)) for _ in range(300)]
    for member in members:
        wheel.add(member)
    latest = {id(member): member.deadline for member in members}
    for _ in range(60):
        for member in rng.sample(members, 30):
            if not member.told:
                member.deadline = wheel.now + rng.randrange(1, 30)
                latest[id(member)] = member.deadline
        wheel.advance()
    for _ in range(30 + HORIZON_TICKS):
        wheel.advance()
    for member in members:
        (told,) = member.told
        assert max(latest[id(member)], 1) <= told <= max(latest[id(member)], 1) + HORIZON_TICKS


@pytest.mark.parametrize(
    ("seconds", "ticks"), [(0, 1), (0.01, 2), (0.25, 2), (0.26, 3), (180, 721)]
)
def test_ticks_are_never_early(seconds: float, ticks: int) -> None:
    """The tick that is running counts for nothing, so a deadline is at least its seconds away."""
    assert Wheel.ticks(seconds) == ticks
    assert (ticks - 1) * TICK_S >= seconds


def test_member_that_fails_holds_up_no_other() -> None:
    """All of a tick are looked at, the failing one again and again; whoever turns it hears it."""

    class Failing(Member):
        def on_deadline(self) -> None:
            self.told.append(self.wheel.now)
            raise ZeroDivisionError

    wheel = Wheel()
    members = [(Failing if index % 2 else Member)(wheel, 3) for index in range(4)]
    for member in members:
        wheel.add(member)
    wheel.advance()
    wheel.advance()
    with pytest.raises(ExceptionGroup) as caught:
        wheel.advance()
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError] * 2
    assert [member.told for member in members] == [[3]] * 4
    with pytest.raises(ExceptionGroup):
        wheel.advance()
    assert [member.told for member in members] == [[3], [3, 4]] * 2
