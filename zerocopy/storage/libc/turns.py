"""Letting other threads have their turn: sched_yield(2), without the interpreter's lock.

By ctypes, for os.sched_yield keeps the lock in the older Pythons. Decision 38 measured it.
"""

from __future__ import annotations

import ctypes

_sched_yield = ctypes.CDLL(None).sched_yield


def give_way() -> None:
    """Let go of the interpreter's lock and of the rest of this thread's slice of the processor.

    For what computes in a thread, between two steps of a tenth of a millisecond. An event loop that
    wakes amid the next step then goes before it at once, and where another process wants the
    processor this thread waits here, where nobody waits for a lock of it.
    """
    _sched_yield()
