"""`give_way`: what other threads get of it."""

from __future__ import annotations

import sys
import threading

from zerocopy.storage.libc.turns import give_way

NEVER_S = 3_600.0


def test_give_way_lets_go_of_the_interpreters_lock() -> None:
    """A thread that would wait an hour for the lock gets it at the next call, or at one soon."""
    is_done = threading.Event()
    before = sys.getswitchinterval()
    sys.setswitchinterval(NEVER_S)
    try:
        other = threading.Thread(target=is_done.set)
        other.start()
        while not is_done.is_set():
            give_way()
    finally:
        sys.setswitchinterval(before)
    other.join()
