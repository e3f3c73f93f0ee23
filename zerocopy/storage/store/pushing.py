"""Days on disk put into an object store, so that no reader meets a part of one.

Owns the order. A day is there once it has its `time`, so that goes last. A day that the store has
in another shape loses its `time` there first: until it is whole again it is skipped, never mixed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import DataError
from zerocopy.core.layout import TIME_COLUMN, file_name
from zerocopy.storage.catalog import Catalog
from zerocopy.storage.tree import data_error, open_series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.storage.store.objectstore import Entry, ObjectStore
    from zerocopy.storage.tree import Series

_CHUNK_BYTES = 1 << 20


class Pushed(NamedTuple):
    """What became of days: files that were put, their bytes, and days that were there already."""

    files: int
    nbytes: int
    days_there: int


def push_days(store: ObjectStore, root: str, series: Series, days: Iterable[int]) -> Pushed:
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
    prefix = "/".join(series)
    known = dict(store.files(prefix))
    files = nbytes = days_there = 0
    for day in days:
        columns = listing.columns_of(day) if day in listing.days else frozenset()
        if TIME_COLUMN not in columns:
            raise DataError(f"{'/'.join(series)}: {file_name(TIME_COLUMN, day)} is not there")
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
