"""Bytes of an open file, all that were asked for: pread(2) and preadv(2)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError
from zerocopy.storage.tree import data_error

if TYPE_CHECKING:
    from collections.abc import Sequence


def read_exactly(fd: int, offset: int, count: int) -> bytes:
    """`count` bytes of a descriptor from `offset`, by pread(2).

    Raises:
        DataChangedError: the file ends before that.
        DataError: the read fails.
    """
    try:
        data = os.pread(fd, count, offset)
    except OSError as error:
        raise data_error(error) from error
    # A regular file gives less than asked only at its end (pread(2)).
    if len(data) != count:
        raise DataChangedError("a day file is shorter than it was when it was planned")
    return data


def read_into(fd: int, offset: int, targets: Sequence[memoryview]) -> None:
    """Fill `targets` from `offset` of a descriptor, one behind the other, by preadv(2).

    Raises:
        DataChangedError: the file ends before that.
        DataError: the read fails.
    """
    try:
        count = os.preadv(fd, targets, offset)
    except OSError as error:
        raise data_error(error) from error
    if count != sum(map(len, targets)):
        raise DataChangedError("a day file is shorter than it was when it was planned")
