"""What this process holds open, for tests that something keeps no descriptor."""

from __future__ import annotations

import contextlib
import os


def held() -> set[tuple[str, str]]:
    """Each descriptor with what it leads to.

    A test compares sets, not numbers: what earlier tests left may be closed meanwhile, by a thread
    of theirs or by the collector.

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


_OF_LOOPS = ("socket:", "pipe:", "anon_inode:[event")


def held_files() -> set[tuple[str, str]]:
    """The same of files, directories and watches alone: an event loop has descriptors of its own.

    >>> before = held_files()
    >>> with open("/dev/null") as file:
    ...     {leads_to for _, leads_to in held_files() - before}
    {'/dev/null'}
    """
    return {descriptor for descriptor in held() if not descriptor[1].startswith(_OF_LOOPS)}
