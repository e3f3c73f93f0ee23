"""Turns of the threads that compute beside an event loop: when they let it go first.

`storage/records.py` calls `give_way` before each read, in every thread. It acts only in a thread
that has called `take_turns`. Decision 38 has the measurements.
"""

from __future__ import annotations

import math
import os
import threading
import time

TURN_NS_MIN = 50_000
"""Shorter steps share a turn. A step of a large day takes 0.1 to 0.6 ms."""

TURN_OF_WAIT = 10
"""A turn lasts at least a tenth of the wait before it, the share of a thread with a nice of 10.

With one step a turn, a thread on a busy core would get a fortieth."""


class _Turn(threading.local):
    ends_ns: float = math.inf


_turn = _Turn()


def take_turns() -> None:
    """From now on this thread gives way."""
    _turn.ends_ns = 0


def give_way() -> None:
    """Release the interpreter's lock and the processor if this thread's turn is over.

    The event loop then runs at once when it wakes. If another process wants the processor, the
    thread waits here, where it holds no lock. See sched_yield(2). Python 3.11.0 keeps the lock.
    """
    now_ns = time.monotonic_ns()
    if now_ns >= _turn.ends_ns:
        os.sched_yield()
        back_ns = time.monotonic_ns()
        _turn.ends_ns = back_ns + max(TURN_NS_MIN, (back_ns - now_ns) // TURN_OF_WAIT)
