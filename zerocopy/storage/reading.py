"""One window of an answer made ready by a thread: its files opened, mapped and read in, in order.

Owns the work between the event loop, which begins and ends it, and the thread, which does it. All
that the thread touches was handed to it: descriptors of its own, and the window, in which it sees
whether anybody still wants it. Files of one window lie in one directory, which is opened once.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError, ZerocopyError
from zerocopy.storage.dayfile import DayFile, Fetched, OpenFiles
from zerocopy.storage.tree import Series, open_series

if TYPE_CHECKING:
    from zerocopy.core.window import Window


class Reading:
    """The reading of `window`. `missing_bytes` of it were not in memory.

    Raises:
        DataError: the descriptor of a file that is open cannot be duplicated.
        OverloadError: because there are no descriptors left.
    """

    def __init__(self, files: OpenFiles, window: Window) -> None:
        self._files = files
        self._window = window
        self._fetched: dict[DayFile, Fetched] = {}
        self._lent: dict[DayFile, Fetched] = {}
        self.missing_bytes = 0
        try:
            for piece in window.slices:
                source = piece.source
                if isinstance(source, DayFile) and source not in self._lent:
                    lent = files.lend(source)
                    if lent is not None:
                        self._lent[source] = lent
        except ZerocopyError:
            self.finish()  # the error's traceback would keep them open
            raise

    def run(self) -> None:
        """Make the window ready, or give up where it is cancelled; blocks, for any one thread.

        Raises:
            DataChangedError: a file is no longer the one that was planned.
            DataError: a file cannot be opened or read.
        """
        with ExitStack() as stack:
            directories: dict[Series, int] = {}
            for piece in self._window.slices:
                if self._window.is_cancelled:
                    return
                if isinstance(piece.source, DayFile):
                    fetched = self._fetch(piece.source, directories, stack)
                    self._read_in(fetched, piece.offset, piece.count)

    def finish(self) -> None:
        """Hand over what was opened and mapped; for the event loop, once `run` is over."""
        for day_file, fetched in self._fetched.items():
            self._files.keep(day_file, fetched)
        for lent in self._lent.values():
            lent.close()
        self._fetched.clear()
        self._lent.clear()

    def drop(self) -> None:
        """Close what was opened and mapped, for nobody wants it; once `run` is over."""
        for opened in (*self._fetched.values(), *self._lent.values()):
            opened.close()
        self._fetched.clear()
        self._lent.clear()

    def _fetch(
        self, day_file: DayFile, directories: dict[Series, int], stack: ExitStack
    ) -> Fetched:
        fetched = self._fetched.get(day_file)
        if fetched is None:
            lent, directory_fd = self._lent.pop(day_file, None), None
            if lent is None:
                self._window.has_waited = True
                directory_fd = directories.get(day_file.series)
                if directory_fd is None:
                    directory_fd = self._open_directory(day_file, stack)
                    directories[day_file.series] = directory_fd
            fetched = self._files.fetch(day_file, lent, directory_fd, mapped=self._window.mapped)
            self._fetched[day_file] = fetched
        return fetched

    def _open_directory(self, day_file: DayFile, stack: ExitStack) -> int:
        try:
            return stack.enter_context(open_series(self._files.root, day_file.series))
        except ZerocopyError as error:
            day_file.lost.append(day_file.name)
            cause = error.__cause__ or error
            raise DataChangedError("a day file can no longer be opened") from cause

    def _read_in(self, fetched: Fetched, offset: int, count: int) -> None:
        assert fetched.fd is not None, "handed over only once `run` is over"
        window = self._window
        missing = self._files.residency.read_in(
            fetched.fd, offset, count, lambda: window.is_cancelled
        )
        if missing:
            window.has_waited = True
            self.missing_bytes += missing
        mapping = fetched.mapping
        if window.mapped and mapping is not None and offset + count <= mapping.nbytes:
            mapping.populate(offset, count)
