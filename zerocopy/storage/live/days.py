"""What the directory of a series holds of its days: which have files, and records.

Owns no state: each function asks the file system, and blocks.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from zerocopy.core.layout import (
    SWAP_PREFIX,
    SWAP_READY,
    SWAP_TOGETHER,
    TIME_COLUMN,
    day_label,
    file_name,
)
from zerocopy.storage.tree import data_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zerocopy.storage.catalog import Listing


def has_files(listing: Listing, day: int, sizes: Mapping[str, int]) -> bool:
    """Whether a day that was listed has a file of each column."""
    return sizes.keys() <= listing.columns_of(day)


def lacking(listing: Listing, first: int, last: int, sizes: Mapping[str, int]) -> list[int]:
    """The days from `first` to `last` that have files, and none of a column."""
    return [day for day in listing.between(first, last) if not has_files(listing, day, sizes)]


def later_day(
    directory_fd: int, listing: Listing, day: int, last_day: int, sizes: Mapping[str, int]
) -> int | None:
    """The first day behind `day`, up to `last_day`, that has aligned records."""
    for later in listing.between(day + 1, last_day):
        if has_files(listing, later, sizes) and aligned_records(directory_fd, later, sizes):
            return later
    return None


def aligned_records(directory_fd: int, day: int, sizes: Mapping[str, int]) -> int | None:
    """The aligned records of a day; None where a column has no file."""
    counts = []
    for column, size in sizes.items():
        try:
            status = os.stat(file_name(column, day), dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise data_error(error) from error
        if not stat.S_ISREG(status.st_mode):
            return None
        counts.append(status.st_size // size)
    return min(counts)


def is_replaced(directory_fd: int, day: int) -> bool:
    """Whether a day without `time` will have it in a moment; see `ingest.daywriter`."""
    time_name, label = file_name(TIME_COLUMN, day), day_label(day)
    return _is_there(directory_fd, SWAP_PREFIX + time_name) and (
        _is_there(directory_fd, f"{SWAP_PREFIX}{label}{SWAP_READY}")
        or _is_there(directory_fd, SWAP_TOGETHER)
    )


def _is_there(directory_fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
