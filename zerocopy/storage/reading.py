"""One window of a response made ready by a thread: files opened, mapped and read, in order.

Owns the work between the event loop, which begins and ends it, and the thread, which does it. The
thread touches only what was handed to it: descriptors of its own, and the window, which tells it
whether the bytes are still wanted. Files of one window lie in one directory, which is opened once.

A window that gathers leaves nothing open: each file is opened, read, checked and closed, and the
bytes that were read are what leaves later. If some are not in memory and the window may not wait
yet, it is given up, so that warm windows do not queue behind those that read from the disk.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError, ZerocopyError
from zerocopy.storage.dayfile import DayFile, Fetched, OpenFiles
from zerocopy.storage.spool import SpooledBody
from zerocopy.storage.tree import Series, open_series

if TYPE_CHECKING:
    from zerocopy.core.window import Window


class Reading:
    """The reading of `window`, which is told what of it was not in memory.

    Raises:
        DataError: the descriptor of a file that is open cannot be duplicated.
        OverloadError: because there are no descriptors left.
    """

    def __init__(self, files: OpenFiles, window: Window) -> None:
        self._files = files
        self._window = window
        self._fetched: dict[DayFile, Fetched] = {}
        self._lent: dict[DayFile, Fetched] = {}
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
            if self._window.gathers:
                self._gather(directories, stack)
                return
            for piece in self._window.slices:
                if self._window.is_cancelled:
                    return
                if isinstance(piece.source, DayFile):
                    fetched = self._fetch(piece.source, directories, stack)
                    self._read_in(fetched, piece.offset, piece.count)
                elif isinstance(piece.source, SpooledBody):
                    missing = piece.source.read_in(piece.offset, piece.count, self._is_unwanted)
                    self._window.has_waited |= missing > 0
                    self._window.missing_bytes += missing

    def finish(self) -> None:
        """Hand over what was opened and mapped; for the event loop, once `run` is over."""
        for day_file, fetched in self._fetched.items():
            self._files.keep(day_file, fetched)
        for lent in self._lent.values():
            lent.close()
        self._fetched.clear()
        self._lent.clear()

    def drop(self) -> None:
        """Close what was opened and mapped, if it is no longer wanted; once `run` is over."""
        for opened in (*self._fetched.values(), *self._lent.values()):
            opened.close()
        self._fetched.clear()
        self._lent.clear()

    def _gather(self, directories: dict[Series, int], stack: ExitStack) -> None:
        """Read all slices into the window, one behind the other, or nothing; see `Window`."""
        window = self._window
        content = memoryview(bytearray(sum(piece.count for piece in window.slices)))
        end = 0
        for piece in window.slices:
            if window.is_cancelled:
                return
            begin, end = end, end + piece.count
            source = piece.source
            if not isinstance(source, DayFile):
                content[begin:end] = source.read(piece.offset, piece.count)
            elif not self._read(source, piece.offset, content[begin:end], directories, stack):
                window.has_waited = True
                return
        window.has_waited = window.missing_bytes > 0
        window.content = content

    def _read(
        self,
        day_file: DayFile,
        offset: int,
        view: memoryview,
        directories: dict[Series, int],
        stack: ExitStack,
    ) -> bool:
        """Fill `view` from `offset`. Waits for disk and store only if the window `may_wait`.

        Returns whether all bytes were read. Checks afterwards that the file is the planned one.
        """
        lent = fetched = self._lent.get(day_file)
        if fetched is None:
            directory_fd = self._directory(day_file, directories, stack)
            if self._window.may_wait:
                fetched = self._files.fetch(day_file, None, directory_fd, mapped=False)
            else:
                fetched = self._files.fetch_now(day_file, directory_fd)
            if fetched is None:
                return False
        fd = fetched.fd
        assert fd is not None, "open until it is closed below, or by `finish`"
        try:
            if not self._window.may_wait:
                is_read = self._files.residency.read_now(fd, offset, view)
            else:
                self._window.missing_bytes += self._files.residency.read(fd, offset, view)
                is_read = True
            day_file.check_now(fd)
        finally:
            if lent is None:
                fetched.close()
        return is_read

    def _fetch(
        self, day_file: DayFile, directories: dict[Series, int], stack: ExitStack
    ) -> Fetched:
        fetched = self._fetched.get(day_file)
        if fetched is None:
            lent, directory_fd = self._lent.pop(day_file, None), None
            if lent is None:
                self._window.has_waited = True
                directory_fd = self._directory(day_file, directories, stack)
            fetched = self._files.fetch(day_file, lent, directory_fd, mapped=self._window.mapped)
            self._fetched[day_file] = fetched
        return fetched

    def _directory(
        self, day_file: DayFile, directories: dict[Series, int], stack: ExitStack
    ) -> int:
        known = directories.get(day_file.series)
        if known is not None:
            return known
        try:
            opened = stack.enter_context(open_series(self._files.root, day_file.series))
        except ZerocopyError as error:
            day_file.lost.append(day_file.name)
            cause = error.__cause__ or error
            raise DataChangedError("a day file can no longer be opened") from cause
        directories[day_file.series] = opened
        return opened

    def _is_unwanted(self) -> bool:
        return self._window.is_cancelled

    def _read_in(self, fetched: Fetched, offset: int, count: int) -> None:
        assert fetched.fd is not None, "handed over only once `run` is over"
        window = self._window
        missing = self._files.residency.read_in(fetched.fd, offset, count, self._is_unwanted)
        if missing:
            window.has_waited = True
            window.missing_bytes += missing
        mapping = fetched.mapping
        if window.mapped and mapping is not None and offset + count <= mapping.nbytes:
            mapping.populate(offset, count)
