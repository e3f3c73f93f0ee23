"""Directories of ours that are bounded in bytes: what lies in them, and what goes first.

    {path}/{exchange}/{symbol}/{type}/{file}

Owns the walk and the choice of the least recently used. What a file is worth, when it was used and
whether it may go, its owner knows. Other processes may delete while this one looks.
"""

from __future__ import annotations

import heapq
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.layout import is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Trimmed(NamedTuple):
    """What a look at the directory found, after it deleted some: bytes, and files deleted."""

    nbytes: int
    deleted: int


def files_below(path: str) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """Every regular file of a series below `path`, and its status."""
    for series in _directories_below(path, depth=3):
        for entry in _entries(series):
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # another process deleted it
                continue
            if stat.S_ISREG(status.st_mode):
                yield entry, status


def least_recent(files: Iterable[tuple[str, int, int]], excess: int) -> list[tuple[str, int]]:
    """The least recently used of `files`, of `excess` bytes or little more, the oldest first.

    `files` are paths, each with when it was used (nanoseconds) and its bytes; so are the paths and
    bytes that are returned. None if `excess` is 0 or less. No more of them is in memory at any
    time, so that years of thousands of symbols fit.
    """
    newest_first: list[tuple[int, str, int]] = []
    nbytes = 0
    for path, used_ns, size in files if excess > 0 else ():
        heapq.heappush(newest_first, (-used_ns, path, size))
        nbytes += size
        while nbytes - newest_first[0][2] >= excess:
            nbytes -= heapq.heappop(newest_first)[2]
    return [(path, size) for _, path, size in sorted(newest_first, reverse=True)]


def _directories_below(path: str, depth: int) -> Iterator[str]:
    if not depth:
        yield path
        return
    for entry in _entries(path):
        if is_name(entry.name) and entry.is_dir(follow_symlinks=False):
            yield from _directories_below(entry.path, depth - 1)


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    """What is in a directory, nothing where it cannot be read; read to its end, then closed."""
    try:
        with os.scandir(path) as entries:
            yield from entries
    except OSError:
        return
