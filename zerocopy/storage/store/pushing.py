"""Days on disk put into an object store, so that no reader meets a part of one.

Owns the order. A day is there once it has its `time`, so that goes last. A day that the store has
in another shape loses its `time` there first: until it is whole again it is skipped, never mixed.
One that has only grown keeps it, for its shortest column says how far it goes.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import DataError, NotFoundError, ZerocopyError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, file_name
from zerocopy.storage.catalog import Catalog
from zerocopy.storage.store.etags import is_of_file
from zerocopy.storage.tree import Series, data_error, open_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.storage.store.objectstore import Entry, ObjectStore

OnPushed = Callable[[tuple[str, str, str], int, Iterable[str]], object]

PUSH_EVERY_S = 60.0
"""Seconds between two looks for days of a recorder that are over."""


class Pushed(NamedTuple):
    """What became of days: files that were put, their bytes, and days that were there already."""

    files: int
    nbytes: int
    days_there: int


def push_days(
    store: ObjectStore,
    root: str,
    series: Series,
    days: Sequence[int],
    on_pushed: OnPushed = lambda _series, _day, _columns: None,
) -> Pushed:
    """Put the files of `days` of a series below `root`, as they are now, into the store; blocks.

    What is there already, byte for byte, is left alone, so a run that broke off goes on.
    `on_pushed` is told of each day that was not.

    Raises:
        NotFoundError: the series is not below `root`.
        DataError: a file cannot be read, or a day has no `time`.
        StoreError: the store is away, or refuses; each day is whole there, or is without `time`.
    """
    with open_series(root, series) as directory_fd:
        try:
            listing = Catalog().listing(series, directory_fd)
        except OSError as error:
            raise data_error(error) from error
    for day in days:
        if day not in listing.days or TIME_COLUMN not in listing.columns_of(day):
            raise DataError(f"{'/'.join(series)}: {file_name(TIME_COLUMN, day)} is not there")
    known = dict(store.files("/".join(series)))
    files = nbytes = days_there = 0
    for day in days:
        columns = listing.columns_of(day)
        ordered = [*sorted(columns - {TIME_COLUMN}), TIME_COLUMN]
        try:
            sizes = _push_day(
                store, root, series, [file_name(name, day) for name in ordered], known
            )
        except OSError as error:
            raise data_error(error) from error
        if sizes:
            on_pushed(series, day, columns)
        days_there += not sizes
        files += len(sizes)
        nbytes += sum(sizes)
    return Pushed(files, nbytes, days_there)


def _push_day(
    store: ObjectStore, root: str, series: Series, names: list[str], known: dict[str, Entry]
) -> list[int]:
    """Put the files of a day, the last one being its `time`. Returns the bytes of each that was.

    Raises:
        OSError: one of them cannot be read.
    """
    prefix, paths = "/".join(series), {name: os.path.join(root, *series, name) for name in names}
    new = [name for name in names if not _is_there(paths[name], known.get(f"{prefix}/{name}"))]
    time_name = names[-1]
    has_grown = all(_begins_with(paths[name], known.get(f"{prefix}/{name}")) for name in new)
    if not has_grown and f"{prefix}/{time_name}" in known:
        store.remove(f"{prefix}/{time_name}")
        new = [*(name for name in new if name != time_name), time_name]
    sizes = []
    for name in new:
        sizes.append(os.path.getsize(paths[name]))
        store.put(f"{prefix}/{name}", paths[name])
    return sizes


class DayPusher:
    """Pushes the days of a recorder once they are over; used by its thread and one of its own.

    A day is over when its date is past and nothing was recorded to it for `settle_s`. The day
    before the first of a series is pushed, too: the recorder may have been started anew meanwhile.
    """

    def __init__(
        self,
        store: ObjectStore,
        root: str,
        settle_s: float,
        on_fault: Callable[[str], object],
        clock: Callable[[], float] = time.time,
        *,
        every_s: float = PUSH_EVERY_S,
        on_pushed: OnPushed = lambda _series, _day, _columns: None,
    ) -> None:
        self._every_s = every_s
        self._on_pushed = on_pushed
        self._store = store
        self._root = root
        self._settle_s = settle_s
        self._on_fault = on_fault
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: dict[tuple[tuple[str, str, str], int], float] = {}
        self._guessed: set[tuple[tuple[str, str, str], int]] = set()
        """Days before the first one, which nobody need have recorded."""
        self._told = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pusher", daemon=True)

    def start(self) -> None:
        """Push now and then, from a thread, until `close`."""
        self._thread.start()

    def note(self, series: tuple[str, str, str], day: int) -> None:
        """Something was recorded to a day."""
        with self._lock:
            if (series, day) not in self._noted and (series, day - 1) not in self._noted:
                self._noted[series, day - 1] = self._clock()
                self._guessed.add((series, day - 1))
            self._noted[series, day] = self._clock()
            self._guessed.discard((series, day))

    def close(self) -> bool:
        """Push what is over; the recorder has ended, so nothing has to settle.

        Returns whether all of it is in the store.
        """
        self._stopped.set()
        if self._thread.is_alive():  # two of them could take a day's `time` from each other
            self._thread.join()
        return self.push(settle_s=0.0)

    def push(self, settle_s: float | None = None) -> bool:
        """Push every day that is over. One that cannot be is told of, and tried again.

        A later day of its series waits for it: live streams read days in their order. Returns
        whether none is left.
        """
        now_s, wait_s = self._clock(), self._settle_s if settle_s is None else settle_s
        with self._lock:
            over = [
                (key, noted_s)
                for key, noted_s in sorted(self._noted.items())
                if now_s >= (key[1] + 1) * DAY_S and now_s - noted_s >= wait_s
            ]
        stuck = set[tuple[str, str, str]]()
        for (series, day), noted_s in over:
            if series in stuck:
                continue
            try:
                push_days(self._store, self._root, Series(*series), [day], self._on_pushed)
            except ZerocopyError as error:
                is_missing = isinstance(error, (DataError, NotFoundError))
                if not is_missing or (series, day) not in self._guessed:
                    stuck.add(series)
                    if error.detail != self._told:
                        self._told = error.detail
                        self._on_fault(f"a day is not in the store yet: {error.detail}")
                    continue
            with self._lock:
                if self._noted.get((series, day)) == noted_s:
                    del self._noted[series, day]
                    self._guessed.discard((series, day))
        return not stuck

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            self.push()


def _is_there(path: str, entry: Entry | None) -> bool:
    """Whether the store has those very bytes: by their length and ETag."""
    if entry is None or os.stat(path, follow_symlinks=False).st_size != entry.size:
        return False
    return _begins_with(path, entry)


def _begins_with(path: str, entry: Entry | None) -> bool:
    """Whether a file begins with what the store has of it: by its length and ETag."""
    if entry is None:
        return False
    status = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_size < entry.size:
        return False
    return is_of_file(path, entry.etag, entry.size)
