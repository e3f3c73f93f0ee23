"""Where the day files of a roll-up come from: a data root, or whatever else has days.

Owns how they are opened and known again while they are read. What is computed of them, it never
knows.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zerocopy.core.layout import file_name
from zerocopy.storage.catalog import Stamp, stamp_of
from zerocopy.storage.tree import close_file, open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from zerocopy.storage.dayfile import DayFile
    from zerocopy.storage.tree import Series


class OpenedFile(NamedTuple):
    """A descriptor, what it is of, and when that last changed, in unix nanoseconds."""

    fd: int
    stamp: Stamp
    changed_ns: int


class DaySource(Protocol):
    """Opens the files of a day for who makes roll-ups."""

    def open(
        self, stack: ExitStack, series: Series, day: int, columns: Iterable[str]
    ) -> dict[str, OpenedFile]:
        """The files of `columns`, open until `stack` is closed; blocks.

        Raises:
            NotFoundError: there is no such series.
            DataError: a file cannot be opened.
            OverloadError: it cannot be had now.
            OSError: a file is not there.
        """

    def is_same(self, opened: OpenedFile) -> bool:
        """Whether a file is still what was opened."""

    def spare(self, day_files: Iterable[DayFile]) -> None:
        """Roll-ups have what a plan wants of these files: nobody need bring them here."""


class TreeDays:
    """The day files below `root`; see `DaySource`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def open(
        self, stack: ExitStack, series: Series, day: int, columns: Iterable[str]
    ) -> dict[str, OpenedFile]:
        """The files of `columns`, open until `stack` is closed."""
        directory_fd = stack.enter_context(open_series(self._root, series))
        opened: dict[str, OpenedFile] = {}
        for column in dict.fromkeys(columns):
            fd, status = open_file(directory_fd, file_name(column, day))
            stack.callback(close_file, fd)
            changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
            opened[column] = OpenedFile(fd, stamp_of(status), changed_ns)
        return opened

    def is_same(self, opened: OpenedFile) -> bool:
        """Whether nothing of a file has changed."""
        return stamp_of(os.fstat(opened.fd)) == opened.stamp

    def spare(self, day_files: Iterable[DayFile]) -> None:
        """They are here."""
