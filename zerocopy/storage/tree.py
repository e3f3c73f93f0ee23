"""The way down from the data root: directory descriptors, never a symbolic link.

Owns the walk to the files of a series; `symbols/` takes the same steps to all of them. Each step
opens one name relative to the descriptor of the directory above, with O_NOFOLLOW, so that neither a
link nor a rename between two steps can lead outside (open(2), openat). Names were checked before
they come here; this is the second line of defence.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import DataError, NotFoundError, OverloadError, ZerocopyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LISTABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a fifo planted under a day file's name must not hang the opening thread.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Series(NamedTuple):
    """What one directory of day files holds: a type of a symbol on an exchange."""

    exchange: str
    symbol: str
    type: str


def data_error(error: OSError) -> ZerocopyError:
    """The error for the client; its cause is for the operator's log."""
    if error.errno in _EXHAUSTED:
        return OverloadError("the server is out of descriptors or memory; try again")
    return DataError("the data directory or a day file in it cannot be read")


@contextmanager
def open_root(root: str) -> Iterator[int]:
    """A descriptor of the data root for as long as the block runs; the root may be a link.

    Raises:
        DataError: the root cannot be opened.
    """
    fd = _open_root(root)
    try:
        yield fd
    finally:
        close_file(fd)


@contextmanager
def open_series(root: str, series: Series) -> Iterator[int]:
    """A listable descriptor of the directory of `series` for as long as the block runs.

    Raises:
        NotFoundError: the exchange, the symbol or the type is not a directory there.
        DataError: a directory on the way cannot be read.
    """
    with _open_below(root, dict(zip(series._fields, series, strict=True))) as fd:
        yield fd


@contextmanager
def open_exchange(root: str, exchange: str) -> Iterator[int]:
    """A listable descriptor of the directory of an exchange for as long as the block runs.

    Raises:
        NotFoundError: the exchange is not a directory there.
        DataError: a directory on the way cannot be read.
    """
    with _open_below(root, {"exchange": exchange}) as fd:
        yield fd


@contextmanager
def open_symbol(root: str, exchange: str, symbol: str) -> Iterator[int]:
    """A listable descriptor of the directory of a symbol for as long as the block runs.

    Raises:
        NotFoundError: the exchange or the symbol is not a directory there.
        DataError: a directory on the way cannot be read.
    """
    with _open_below(root, {"exchange": exchange, "symbol": symbol}) as fd:
        yield fd


@contextmanager
def _open_below(root: str, names: dict[str, str]) -> Iterator[int]:
    """Go down by `names`, each with what it is called to a client."""
    fd = _open_root(root)
    try:
        last = [*names][-1]
        for field, name in names.items():
            try:
                step = os.open(name, _LISTABLE if field == last else _STEP, dir_fd=fd)
            except OSError as error:
                if error.errno in _ABSENT:
                    raise NotFoundError(f"{field} {name}: does not exist") from None
                raise data_error(error) from error
            close_file(fd)
            fd = step
        yield fd
    finally:
        close_file(fd)


def open_file(directory_fd: int, name: str) -> tuple[int, os.stat_result]:
    """A read-only descriptor of the regular file `name` in a directory, and its fstat.

    Raises:
        FileNotFoundError: there is no such regular file; a link or a fifo is none.
        DataError: it cannot be opened.
    """
    try:
        fd = os.open(name, _READ, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in _ABSENT:
            raise FileNotFoundError(errno.ENOENT, name) from None
        raise data_error(error) from error
    try:
        status = _stat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, name)
    except BaseException:
        close_file(fd)
        raise
    return fd, status


def close_file(fd: int) -> None:
    """Close a descriptor that has nothing to write; a fault of its file system changes nothing.

    The number is free again even where close(2) fails, and closing it once more could close what
    another thread has opened meanwhile.
    """
    try:
        os.close(fd)
    except OSError as error:
        if error.errno == errno.EBADF:
            raise  # a programmer's error


def _stat(fd: int) -> os.stat_result:
    try:
        return os.fstat(fd)
    except OSError as error:
        raise data_error(error) from error


def _open_root(root: str) -> int:
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise data_error(error) from error
