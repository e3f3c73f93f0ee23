"""The files of roll-ups below one directory, at most so many bytes of them together.

    {path}/{exchange}/{symbol}/{type}/{column}.{DD}.{MM}.{YY}.rollup

Owns their names, and which of them is deleted: the least recently used. A file's modification time
tells when it was used, because access times are often not written. Several processes share the
directory: each looks at all of it after every 64th of the bound that it has written, and deletes
down to seven eighths. So eight writers together stay below the bound, and nothing has to be agreed
on. A file of another name is not counted, and one that is no roll-up inside is not deleted.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import TYPE_CHECKING

from zerocopy.core.http.validators import NS_PER_S
from zerocopy.core.layout import day_label, parse_file_name
from zerocopy.storage import rollup_file
from zerocopy.storage.trimming import Trimmed, files_below, least_recent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.storage.rollup_file import Key, Rollup, Wanted

NOTED_S = 3_600
"""Seconds for which a use is not noted again: a system call a file and hour."""

SHARE_WRITTEN, SHARE_FREE = 64, 8
"""Of the bound: what a writer may add before it looks again, and what it leaves free then."""

_SUFFIX, _TEMPORARY = ".rollup", ".rollup.tmp"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class RollupDirectory:
    """Reads, writes and bounds the files below `path`. Used by threads; all calls block."""

    def __init__(self, path: str, bytes_max: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._left_bytes = 0
        """What may be written before the next look; the first write is followed by one."""

    def read(self, wanted: Wanted) -> Rollup | None:
        """What is kept of these very files, without its minutes."""
        path = self._path_of(wanted.key)
        found = rollup_file.read(path)
        return found if found is not None and found.is_of(wanted) else None

    def read_minutes(self, key: Key, rollup: Rollup) -> Rollup | None:
        """`rollup`, which was read from here, with its minutes; None if they are not there."""
        return rollup_file.read_minutes(self._path_of(key), rollup)

    def write(self, key: Key, rollup: Rollup) -> bool:
        """Keep a roll-up; False if another process does.

        Raises:
            OSError: it cannot be written; nothing is left of it.
        """
        content = rollup_file.encode(rollup)
        is_written = rollup_file.write(self._path_of(key), content)
        with self._lock:
            self._left_bytes -= len(content) if is_written else 0
        return is_written

    def note_use(self, key: Key) -> None:
        """Tell those who delete that it is used; where the file is another user's, nothing."""
        path, now_s = self._path_of(key), time.time()
        try:
            if abs(now_s - os.stat(path, follow_symlinks=False).st_mtime) > NOTED_S:
                os.utime(path, follow_symlinks=False)
        except OSError:
            pass

    @property
    def is_due(self) -> bool:
        """Whether enough was written for another look."""
        return self._left_bytes < 0

    def trim(self) -> Trimmed:
        """Delete the least recently used until seven eighths of the bound are taken at most."""
        with self._lock:
            self._left_bytes = self._bytes_max // SHARE_WRITTEN
        nbytes = sum(size for _, _, size in self._files())
        excess = nbytes - (self._bytes_max - self._bytes_max // SHARE_FREE)
        deleted = 0
        for path, size in least_recent(self._files(), excess):
            if _delete(path):
                deleted += 1
                nbytes -= size
        return Trimmed(max(nbytes, 0), deleted)  # a file may be another one by now

    def _files(self) -> Iterator[tuple[str, int, int]]:
        """Path, last use and bytes of each roll-up; what was left half made is deleted."""
        stale_ns = time.time_ns() - NOTED_S * NS_PER_S
        for entry, status in files_below(self._path):
            name = entry.name
            if not _is_named(name.removesuffix(".tmp")):
                continue
            if not name.endswith(_TEMPORARY):
                yield entry.path, status.st_mtime_ns, status.st_size
            elif status.st_mtime_ns < stale_ns:
                _delete(entry.path, may_be_empty=True)

    def _path_of(self, key: Key) -> str:
        name = f"{key.column}.{day_label(key.day)}{_SUFFIX}"
        return os.path.join(self._path, *key.series, name)


def _is_named(name: str) -> bool:
    stem = name.removesuffix(_SUFFIX)
    return stem != name and parse_file_name(f"{stem}.bin") is not None


def _delete(path: str, *, may_be_empty: bool = False) -> bool:
    """Delete a file if it is a roll-up, or the beginning of one, that nobody is writing."""
    try:
        fd = os.open(path, _READ)
    except OSError:
        return False
    try:
        # A writer holds the lock of its temporary file until it has its final name.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        begin = os.pread(fd, rollup_file.MARKED_BYTES, 0)
        if not rollup_file.is_marked(begin) and (begin or not may_be_empty):
            return False
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
