"""Turns of the threads that compute beside an event loop: what they leave to it, and when.

Reads call `give_way` before each step, in whatever thread they run; it acts in those alone that
have said `take_turns`. Decision 38 measured it.
"""

from __future__ import annotations

import math
import os
import threading
import time

TURN_NS_MIN = 50_000
"""Steps that are shorter are taken together. One of a large day takes 0.1 to 0.6 ms."""

TURN_OF_WAIT = 10
"""A turn is the tenth of the wait before it: as much as others leave to a thread that is nicer by
ten. With one step a turn it would get far less where they never rest."""


class _Turn(threading.local):
    ends_ns: float = math.inf


_turn = _Turn()


def take_turns() -> None:
    """From now on this thread gives way."""
    _turn.ends_ns = 0


def give_way() -> None:
    """Where this thread's turn is over, let go of the interpreter's lock and of the processor.

    An event loop that wakes amid the next step then goes before it, and where another process wants
    the processor this thread waits here, where nobody waits for a lock of it. See sched_yield(2);
    Python 3.11.0 alone keeps its lock there.
    """
    now_ns = time.monotonic_ns()
    if now_ns >= _turn.ends_ns:
        os.sched_yield()
        back_ns = time.monotonic_ns()
        _turn.ends_ns = back_ns + max(TURN_NS_MIN, (back_ns - now_ns) // TURN_OF_WAIT)
