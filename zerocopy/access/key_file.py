"""A key file that is looked at again and again.

Owns whether it has changed since it was read. It blocks, and so runs in threads.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from zerocopy.access.keys import read_keys

if TYPE_CHECKING:
    from zerocopy.access.keys import Entry

RACY_NS = 100_000_000
"""A file that changed so lately may change again with the same times: ten ticks of the slowest
kernel clock (HZ=100). It is read once more at the next look."""


class KeyFile:
    """A key file, and whether it has changed since it was read. One thread at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None

    def read_if_changed(self) -> tuple[Entry, ...] | None:
        """What is in it now, or None if that was read before; blocks.

        Raises:
            ConfigError: it cannot be read. The next call tries again.
        """
        try:
            found = os.stat(self._path)
        except OSError:
            self._seen = None
            return read_keys(self._path)  # which says why it cannot be read, or can by now
        seen = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if seen == self._seen:
            return None
        self._seen = None
        entries = read_keys(self._path)
        if abs(time.time_ns() - found.st_ctime_ns) > RACY_NS:
            self._seen = seen
        return entries
