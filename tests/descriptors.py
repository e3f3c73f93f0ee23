"""What this process holds open, for tests that something keeps no descriptor."""

from __future__ import annotations

import contextlib
import os


def held() -> set[tuple[str, str]]:
    """Each descriptor with what it leads to.

    A test compares sets, not numbers: sockets of earlier tests may be closed meanwhile.

    >>> before = held()
    >>> reading, writing = os.pipe()
    >>> len(held() - before)
    2
    >>> os.close(reading), os.close(writing)
    (None, None)
    >>> held() - before
    set()
    """
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of this listing, or closed since
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))
    return found
