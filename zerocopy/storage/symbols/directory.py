"""Directories below the root: where one lies, what it holds, and the way to it by descriptors.

Owns which names of a directory count for /api/symbols, and what is kept of one: of its files only
the newest, so that years of days take no more than a day. It must never know of events.
"""

from __future__ import annotations

import os
import stat
from typing import Final, NamedTuple, Self

from zerocopy.core.layout import is_name
from zerocopy.storage.symbols.walk import DEPTH_MAX, open_directory
from zerocopy.storage.tree import close_file

ROOT: Final = 0
EXCHANGE: Final = 1
SYMBOL: Final = 2
"""Depths below the root."""

_DEEPEST = SYMBOL + DEPTH_MAX
_NS = 1_000_000_000


class Directory:
    """One directory. `watch` is None where its inode is watched at another place of the tree."""

    __slots__ = ("children", "depth", "is_linked", "name", "newest", "newest_s", "parent", "watch")

    def __init__(self, name: str, parent: Directory | None) -> None:
        self.name = name
        self.parent = parent
        self.depth: int = ROOT if parent is None else parent.depth + 1
        self.watch: int | None = None
        self.children: dict[str, Directory] = {}
        self.newest: str | None = None
        self.newest_s: int | None = None
        self.is_linked = False  # holds a .bin file that has several names

    def may_hold(self, name: str) -> bool:
        """Whether the layout knows a directory of that name here."""
        if self.depth < SYMBOL:
            return is_name(name)
        return self.depth < _DEEPEST and not name.startswith(".")

    def latest_s(self) -> int | None:
        """The newest modification here and below."""
        latest_s = self.newest_s
        for child in self.children.values():
            below_s = child.latest_s()
            if below_s is not None and (latest_s is None or below_s > latest_s):
                latest_s = below_s
        return latest_s

    def way(self) -> list[Directory]:
        """Every directory from the root's child down to this one."""
        way: list[Directory] = []
        here: Directory = self
        while here.parent is not None:
            way.append(here)
            here = here.parent
        return way[::-1]


class Contents(NamedTuple):
    """What one directory holds now: its newest `.bin` and when, and the directories that count."""

    newest: str | None
    newest_s: int | None
    is_linked: bool
    below: list[str]


def read_contents(directory: Directory, directory_fd: int) -> Contents:
    """Look at every name in a directory.

    Raises:
        OSError: it cannot be read.
    """
    newest, newest_s, is_linked = None, None, False
    below = []
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            name = entry.name
            if entry.is_dir(follow_symlinks=False):
                if directory.may_hold(name):
                    below.append(name)
            elif (
                directory.depth >= SYMBOL and is_bin(name) and entry.is_file(follow_symlinks=False)
            ):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue  # it was a file when its name was read
                is_linked = is_linked or status.st_nlink > 1
                modified_s = seconds_of(status)
                if newest_s is None or modified_s > newest_s:
                    newest, newest_s = name, modified_s
    return Contents(newest, newest_s, is_linked, below)


def is_bin(name: str) -> bool:
    """Whether a regular file of that name counts."""
    return name.endswith(".bin") and not name.startswith(".")


def seconds_of(status: os.stat_result) -> int:
    """The modification time in whole unix seconds."""
    return status.st_mtime_ns // _NS


class Way:
    """Descriptors of the directories down to the last one asked for: the next may lie beside it."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._steps: list[tuple[Directory, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._back_to(0)

    def to(self, directory: Directory) -> int | None:
        """A descriptor that is good until the next call, or None if something on the way is gone.

        An event reports what is gone, by the next refresh at the latest.
        """
        way = directory.way()
        shared = 0
        for (step, _), wanted in zip(self._steps, way, strict=False):
            if step is not wanted:
                break
            shared += 1
        self._back_to(shared)
        for step in way[shared:]:
            fd = open_directory(step.name, self._fd())
            if fd is None:
                return None
            self._steps.append((step, fd))
        return self._fd()

    def _fd(self) -> int:
        return self._steps[-1][1] if self._steps else self._root_fd

    def _back_to(self, count: int) -> None:
        while len(self._steps) > count:
            close_file(self._steps.pop()[1])
