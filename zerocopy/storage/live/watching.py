"""Directories of series that somebody follows, watched by inotify(7).

Owns the one instance of a worker and its watches, and knows where events are not to be trusted. It
must never know what an event means. Where a directory cannot be watched its caller looks now and
then.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.storage.tree import data_error, open_series
from zerocopy.storage.watch.inotify import Event, Inotify
from zerocopy.storage.watch.mounts import LOCAL_TYPES, filesystem_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.storage.tree import Series


class Watch(NamedTuple):
    """A directory that was watched by `number`; None: it could not be.

    `is_local`: every change of its files goes through this kernel, and asking for their sizes takes
    no waiting.
    """

    directory: str
    key: tuple[int, int]
    number: int | None
    is_local: bool

    def is_there(self) -> bool:
        """Whether its path still leads to it."""
        try:
            status = os.lstat(self.directory)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.key


class Watcher:
    """Watches directories below `root`; `on_refused` gets a sentence, once, when that fails."""

    def __init__(self, root: str, on_refused: Callable[[str], object]) -> None:
        self._root = root
        self._on_refused = on_refused
        self._inotify: Inotify | None = None
        self._is_refused = False
        try:
            self._inotify = Inotify()
        except OSError as error:
            self._refuse(error)

    def fileno(self) -> int | None:
        """What is readable when there are events; None where there is no inotify(7)."""
        return None if self._inotify is None else self._inotify.fileno()

    def watch(self, series: Series) -> Watch:
        """Watch the directory of a series from now on; any thread may call it.

        Raises:
            NotFoundError: it does not exist.
            DataError: it cannot be read.
        """
        with open_series(self._root, series) as fd:
            try:
                status = os.fstat(fd)
                is_local = filesystem_type(fd) in LOCAL_TYPES
            except OSError as error:
                raise data_error(error) from error
            number = None
            if self._inotify is not None:
                try:
                    number = self._inotify.add(fd)
                except OSError as error:
                    self._refuse(error)
        directory = os.path.join(self._root, *series)
        return Watch(directory, (status.st_dev, status.st_ino), number, is_local)

    def unwatch(self, watch: Watch) -> None:
        """Its events are no longer wanted."""
        if self._inotify is not None and watch.number is not None:
            self._inotify.remove(watch.number)

    def events(self) -> Iterator[Event]:
        """What has happened since this was last asked.

        Raises:
            OSError: the events cannot be read.
        """
        if self._inotify is not None:
            yield from self._inotify.read()

    def _refuse(self, error: OSError) -> None:
        if not self._is_refused:
            self._is_refused = True
            self._on_refused(
                f"live streams look at their files by polling, inotify(7) refused: {error.strerror}"
            )
