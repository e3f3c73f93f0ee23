"""Days on disk put into an object store, so that no reader meets a part of one.

Owns the order. A day is there once it has its `time`, so that goes last. A day that the store has
in another shape loses its `time` there first: until it is whole again it is skipped, never mixed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import DataError, NotFoundError, StoreError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, file_name
from zerocopy.storage.catalog import Catalog
from zerocopy.storage.tree import Series, data_error, open_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zerocopy.storage.store.objectstore import Entry, ObjectStore

PUSH_EVERY_S = 60.0
"""Seconds between two looks for days of a recorder that are over."""

_CHUNK_BYTES = 1 << 20


class Pushed(NamedTuple):
    """What became of days: files that were put, their bytes, and days that were there already."""

    files: int
    nbytes: int
    days_there: int


def push_days(store: ObjectStore, root: str, series: Series, days: Sequence[int]) -> Pushed:
    """Put the files of `days` of a series below `root`, as they are now, into the store; blocks.

    What is there already, byte for byte, is left alone, so a run that broke off goes on.

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
    prefix = "/".join(series)
    known = dict(store.files(prefix))
    files = nbytes = days_there = 0
    for day in days:
        columns = listing.columns_of(day)
        ordered = [*sorted(columns - {TIME_COLUMN}), TIME_COLUMN]
        names = [file_name(column, day) for column in ordered]
        paths = {name: os.path.join(root, *series, name) for name in names}
        new = [name for name in paths if not _is_there(paths[name], known.get(f"{prefix}/{name}"))]
        if not new:
            days_there += 1
            continue
        time_name = file_name(TIME_COLUMN, day)
        if f"{prefix}/{time_name}" in known:
            store.remove(f"{prefix}/{time_name}")
            new = [*(name for name in new if name != time_name), time_name]
        for name in new:
            store.put(f"{prefix}/{name}", paths[name])
            files += 1
            nbytes += os.path.getsize(paths[name])
    return Pushed(files, nbytes, days_there)


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
    ) -> None:
        self._store = store
        self._root = root
        self._settle_s = settle_s
        self._on_fault = on_fault
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: dict[tuple[tuple[str, str, str], int], float] = {}
        self._told = ""
        self._stopped = threading.Event()

    def start(self) -> None:
        """Push now and then, from a thread, until `close`."""
        threading.Thread(target=self._run, name="pusher", daemon=True).start()

    def note(self, series: tuple[str, str, str], day: int) -> None:
        """Something was recorded to a day."""
        with self._lock:
            if (series, day) not in self._noted and (series, day - 1) not in self._noted:
                self._noted[series, day - 1] = self._clock()
            self._noted[series, day] = self._clock()

    def close(self) -> None:
        """Push what is over; the recorder has ended, so nothing has to settle."""
        self._stopped.set()
        self.push(settle_s=0.0)

    def push(self, settle_s: float | None = None) -> None:
        """Push every day that is over. One that cannot be is told of, and tried again."""
        now_s, wait_s = self._clock(), self._settle_s if settle_s is None else settle_s
        with self._lock:
            over = [
                (key, noted_s)
                for key, noted_s in sorted(self._noted.items())
                if now_s >= (key[1] + 1) * DAY_S and now_s - noted_s >= wait_s
            ]
        for (series, day), noted_s in over:
            try:
                push_days(self._store, self._root, Series(*series), [day])
            except (DataError, NotFoundError):
                pass  # the day before the first one, which nobody recorded
            except StoreError as error:
                if error.detail != self._told:
                    self._told = error.detail
                    self._on_fault(f"a day is not in the store yet: {error.detail}")
                continue
            with self._lock:
                if self._noted.get((series, day)) == noted_s:
                    del self._noted[series, day]

    def _run(self) -> None:
        while not self._stopped.wait(PUSH_EVERY_S):
            self.push()


def _is_there(path: str, entry: Entry | None) -> bool:
    """Whether the store has those very bytes: their length, and their MD5 where the ETag is one."""
    if entry is None:
        return False
    status = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return entry.etag.strip('"') == digest.hexdigest()
