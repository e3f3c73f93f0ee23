"""Deadlines of many connections from one coarse timer.

Owns a timing wheel. Moving a deadline must cost a request nothing, so a connection only writes a
number into its own `deadline` slot, and the wheel looks at each connection once in
`HORIZON_TICKS`: no timer handle is made or cancelled for a request, ten thousand idle connections
are looked at in small groups, and a closed one is forgotten within the horizon.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

TICK_S = 0.25
"""Seconds between two ticks: how exact a deadline is at best."""

HORIZON_TICKS = 4
"""How far ahead a member is filed at most: how late a shortened deadline is seen."""

STALL_SAMPLES = 4
"""How often progress is sampled in one write-progress timeout."""

NEVER = -1
"""The deadline of a member that is gone."""


class Expiring(Protocol):
    """Something with a deadline, in ticks of its wheel."""

    deadline: int

    def on_deadline(self) -> None:
        """The deadline passed: close, or set a later one."""


class Wheel:
    """Members, filed by the tick at which each is looked at next. `now` counts ticks."""

    def __init__(self) -> None:
        self.now = 0
        self._filed: defaultdict[int, list[Expiring]] = defaultdict(list)

    @staticmethod
    def ticks(seconds: float) -> int:
        """`seconds` in ticks, never early: the tick that is already running counts for nothing."""
        return int(-(-seconds // TICK_S)) + 1

    def add(self, member: Expiring) -> None:
        """File a member by its deadline, at most `HORIZON_TICKS` ahead."""
        ahead = min(max(member.deadline - self.now, 1), HORIZON_TICKS)
        self._filed[self.now + ahead].append(member)

    def advance(self) -> None:
        """One tick: tell the members that are due, file the others again.

        Raises:
            ExceptionGroup: members failed; they stay filed, and all others were looked at.
        """
        self.now += 1
        failures: list[Exception] = []
        for member in self._filed.pop(self.now, ()):
            if 0 <= member.deadline <= self.now:
                try:
                    member.on_deadline()
                except Exception as error:  # noqa: BLE001 - the others have deadlines too
                    failures.append(error)
            if member.deadline != NEVER:
                self.add(member)
        if failures:
            raise ExceptionGroup("deadlines could not be met", failures)


class Progress:
    """Whether a client takes anything: marks of how far it is, looked at now and then."""

    __slots__ = ("_mark", "_stalls")

    def __init__(self) -> None:
        self._mark: object = None
        self._stalls = 0

    def has_moved(self, mark: object) -> bool:
        """Whether it is further than at the last look."""
        if mark != self._mark:
            self._mark, self._stalls = mark, 0
            return True
        self._stalls += 1
        return False

    def has_grown(self, taken_bytes: int) -> bool:
        """The same for a mark that counts bytes; less of them is no progress."""
        if isinstance(self._mark, int) and taken_bytes <= self._mark:
            taken_bytes = self._mark
        return self.has_moved(taken_bytes)

    @property
    def is_stalled(self) -> bool:
        """Whether it was where it was in the last `STALL_SAMPLES` looks."""
        return self._stalls >= STALL_SAMPLES
