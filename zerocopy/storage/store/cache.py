"""The directory that files of the store are fetched into, at most so many bytes of them.

    {path}/data/{exchange}/{symbol}/{type}/{column}.{DD}.{MM}.{YY}.bin

Owns those files: each appears under its name whole and checked, by rename(2). What it is a copy of
is in the file itself: its length and its modification time, see `Entry`, and the sum of its
content, see `checks`. So nothing else has to be kept, a file that was written over is not believed,
one of before the server's start is read through before it is, and any number of processes share it.

- One flight: who fetches holds a lock of fcntl(2), in threads and processes alike. One that is
  killed leaves what it had fetched under a temporary name, which the next deletes, or a trim does.
- A use is noted in the access time, which is set, for it is often not kept by itself.
- An open file is held by a shared flock(2), and is not deleted while it is.
- Each process looks at the whole directory after each 64th of the bound that it wrote, or less
  where there are many, and deletes the least recently used down to seven eighths, as roll-ups do
  (decision 41).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import threading
import time
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import StoreError
from zerocopy.core.http.validators import NS_PER_S
from zerocopy.core.layout import parse_file_name
from zerocopy.storage.store.checks import Checks
from zerocopy.storage.store.tally import Tally
from zerocopy.storage.tree import close_file
from zerocopy.storage.trimming import Trimmed, files_below, least_recent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.storage.store.objectstore import Entry
    from zerocopy.storage.tree import Series

    ReadInto = Callable[[int], int | None]
    """Writes a file to a descriptor; its CRC-32 if that is known by then."""

NOTED_S = 600
"""Seconds for which a use is not noted again."""

SHARE_WRITTEN, SHARE_FREE = max(64, 16 * (os.cpu_count() or 1)), 8
"""Of the bound: what a process may add before it looks again, and what it leaves free then. Two
generations of a worker a processor may add as much as is free, and no more."""

GROWN_BYTES_MIN = 1 << 18
"""Bytes of a copy of which a file that has grown is made: smaller ones are fetched as fast."""

_PART = ".part"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of fcntl(2) on 64 bits: type, whence, start, length, process."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class CacheDirectory:
    """The files below `path`. Used by threads; all calls block.

    Raises:
        OSError: the directory cannot be made or written, or does not keep times.
    """

    def __init__(self, path: str, bytes_max: int, tally: Tally | None = None) -> None:
        self.root = os.path.join(path, "data")
        self._bytes_max = bytes_max
        self._tally = tally or Tally()
        self._lock = threading.Lock()
        self._left_bytes = 0
        """What may be written before the next look; the first file is followed by one."""
        os.makedirs(self.root, exist_ok=True)
        _check_times(path)
        self._flights_path = os.path.join(path, "flights.lock")
        self.checks = Checks(path)

    def open(self, series: Series, name: str, entry: Entry) -> int | None:
        """A descriptor of the copy of `entry`, the caller's to close; None if there is none.

        None as well if it was not checked since the start: `fill` does that.
        """
        fd = self._open(self._path_of(series, name), entry)
        if fd is not None and not self.checks.is_checked(fd):
            close_file(fd)
            return None
        return fd

    def _open(self, path: str, entry: Entry) -> int | None:
        """A descriptor of what is a copy of `entry` by its length and time, and is held."""
        try:
            fd = os.open(path, _READ)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        status = os.fstat(fd)
        if not is_copy(status, entry):
            close_file(fd)
            return None
        _hold(fd, entry, status)
        return fd

    def has(self, series: Series, name: str, entry: Entry, *, unchecked: bool = False) -> bool:
        """Whether `open` gives a copy of `entry` now; `unchecked`: or would once it is checked."""
        path = self._path_of(series, name)
        try:
            is_there = is_copy(os.lstat(path), entry)
        except OSError:
            return False
        return is_there and (unchecked or self.checks.is_checked(path))

    def make_directory(self, series: Series) -> str:
        """The directory of a series, which is there afterwards."""
        path = os.path.join(self.root, *series)
        os.makedirs(path, exist_ok=True)
        return path

    def copy_into(self, fd: int, series: Series, name: str, size: int) -> int:
        """Write the copy that is there to a descriptor, if it is large and shorter than `size`.

        Returns its bytes; 0 where there is nothing worth it.
        """
        if size <= GROWN_BYTES_MIN:
            return 0
        try:
            source_fd = os.open(self._path_of(series, name), _READ)
        except OSError:
            return 0
        try:
            nbytes = os.fstat(source_fd).st_size
            if not GROWN_BYTES_MIN <= nbytes < size:
                return 0
            done = 0
            while done < nbytes:  # within the file system: one that shares blocks copies nothing
                count = os.copy_file_range(source_fd, fd, nbytes - done, done, done)
                if not count:
                    break
                done += count
        except OSError:
            os.ftruncate(fd, 0)
            return 0
        finally:
            close_file(source_fd)
        return done

    def fill(self, series: Series, name: str, entry: Entry, read_into: ReadInto) -> int:
        """`open`, with a copy made by `read_into` where there is none; one at a time makes it.

        Raises:
            StoreError: `read_into` raised it, or the disk is full or fails.
        """
        try:
            return self._fill(series, name, entry, read_into)
        except OSError as error:
            if error.errno not in _FULL:
                raise StoreError("the cache of the object store cannot be written") from error
        self.trim(min(self._nbytes(), self._bytes_max) // 2)  # the disk may be less than the bound
        try:
            return self._fill(series, name, entry, read_into)
        except OSError as error:
            raise StoreError("the cache of the object store is full; try again") from error

    def _fill(self, series: Series, name: str, entry: Entry, read_into: ReadInto) -> int:
        path = self._path_of(series, name)
        with self._flight(path):
            # Another one may have made it meanwhile, or it has to be checked.
            fd = self._check(path, entry)
            if fd is not None:
                return fd
            try:
                fd = self._write(path, entry, read_into)
            except FileNotFoundError:  # the first of a series, or somebody deleted the cache
                self.make_directory(series)
                fd = self._write(path, entry, read_into)
        with self._lock:
            self._left_bytes -= entry.size
            is_due = self._left_bytes < 0
        if is_due:
            self.trim()
        return fd

    @contextmanager
    def _flight(self, path: str, command: int = fcntl.F_OFD_SETLKW) -> Iterator[None]:
        """Be the only one, of threads and processes, that makes or checks the copy at `path`.

        With F_OFD_SETLK it raises BlockingIOError where that is somebody else. A byte of one file
        is locked, for a file of its own would be made and deleted with each copy: ext4 does not use
        a deleted inode again for a while, and steps over all of them whenever a file is made.
        """
        try:
            fd = os.open(self._flights_path, _WRITE, 0o644)
        except FileNotFoundError:  # somebody deleted the cache
            os.makedirs(os.path.dirname(self._flights_path), exist_ok=True)
            fd = os.open(self._flights_path, _WRITE, 0o644)
        try:
            place = zlib.crc32(path.encode())
            fcntl.fcntl(fd, command, _FLOCK.pack(fcntl.F_WRLCK, 0, place, 1, 0))
            yield
        finally:
            os.close(fd)

    def _check(self, path: str, entry: Entry) -> int | None:
        """A descriptor of a copy of `entry` whose content is what was fetched."""
        fd = self._open(path, entry)
        if fd is None or self.checks.is_checked(fd):
            return fd
        if self.checks.check(fd, entry.size):
            self._tally.add(slots.STORE_CACHE_CHECKED)
            self._tally.add(slots.STORE_CACHE_HITS)
            return fd
        if self.checks.is_noted(fd):
            self._tally.add(slots.STORE_CACHE_RUINED)
        close_file(fd)
        with suppress(FileNotFoundError):  # it was trimmed meanwhile
            os.unlink(path)  # nobody else writes to it: this one has its lock
        return None

    def _write(self, path: str, entry: Entry, read_into: ReadInto) -> int:
        """Make the copy of `entry`, whole before it has its name; a descriptor of it, held."""
        temporary = _part_of(path)
        fd = _create(temporary)
        try:
            self.checks.note(fd, entry.size, read_into(fd))
            if not self.checks.are_kept:
                os.fsync(fd)
            os.utime(fd, ns=(time.time_ns(), entry.modified_ns))
            fcntl.flock(fd, fcntl.LOCK_SH)
            os.close(os.dup(fd))  # NFS tells of a write that failed when a descriptor is closed
            os.rename(temporary, path)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temporary)
            raise
        return fd

    def trim(self, bytes_max: int | None = None) -> Trimmed:
        """Delete the least recently used until seven eighths of the bound are taken at most."""
        bound = self._bytes_max if bytes_max is None else bytes_max
        with self._lock:
            self._left_bytes = self._bytes_max // SHARE_WRITTEN
        nbytes = self._nbytes()
        deleted, held = 0, set[str]()
        while (excess := nbytes - (bound - bound // SHARE_FREE)) > 0:
            free = (each for each in self._files() if each[0] not in held)
            oldest = least_recent(free, excess)
            if not oldest:
                break  # all that is left is open
            for path, size in oldest:
                is_deleted = _delete(path)
                deleted += is_deleted
                if is_deleted or not os.path.lexists(path):  # another process was faster
                    nbytes -= size
                else:
                    held.add(path)
                    _note_use(path)
        self._tally.tell(slots.STORE_CACHE_BYTES, nbytes)
        self._tally.add(slots.STORE_CACHE_DELETED, deleted)
        return Trimmed(nbytes, deleted)

    def discard(self, path: str, inode: int) -> None:
        """Delete a copy that is wrong, though it may be open; not one that has come meanwhile."""
        with suppress(OSError), self._flight(path):
            if os.lstat(path).st_ino == inode:
                os.unlink(path)

    def _nbytes(self) -> int:
        """The bytes of all copies."""
        return sum(size for _, _, size in self._files())

    def _files(self) -> Iterator[tuple[str, int, int]]:
        """Path, last use and bytes of each copy; what was left half made is deleted."""
        for entry, status in files_below(self.root):
            name = entry.name
            is_part = name.startswith(".") and name.endswith(_PART)
            if parse_file_name(name[1 : -len(_PART)] if is_part else name) is None:
                continue
            if is_part:
                self._delete_part(entry.path)
            else:
                yield entry.path, status.st_atime_ns, status.st_size

    def _delete_part(self, temporary: str) -> None:
        """Delete what was left half made, unless it is being made."""
        directory, name = os.path.split(temporary)
        path = os.path.join(directory, name[1 : -len(_PART)])
        with suppress(OSError), self._flight(path, fcntl.F_OFD_SETLK):
            os.unlink(temporary)

    def _path_of(self, series: Series, name: str) -> str:
        return os.path.join(self.root, *series, name)


def is_copy(status: os.stat_result, entry: Entry) -> bool:
    """Whether a file is a copy of `entry` by its length and time."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_size == entry.size
        and status.st_mtime_ns == entry.modified_ns
    )


def _hold(fd: int, entry: Entry, status: os.stat_result) -> None:
    """Note a use, and keep the file from being deleted while it is open."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        now_ns = time.time_ns()
        if abs(now_ns - status.st_atime_ns) > NOTED_S * NS_PER_S:
            os.utime(fd, ns=(now_ns, entry.modified_ns))
    except OSError:  # it is being deleted: an open file stays whole nevertheless
        pass


def _part_of(path: str) -> str:
    """Where the copy at `path` is made; whoever does that is alone there, see `_flight`."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}{_PART}")


def _create(path: str) -> int:
    """A descriptor of a new file at `path`; one that was left there is deleted.

    It is not emptied, for ext4 writes a file that was to the disk when it is closed.
    """
    try:
        return os.open(path, _WRITE | os.O_EXCL, 0o644)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, _WRITE | os.O_EXCL, 0o644)


def _check_times(path: str) -> None:
    """Whether the file system keeps a modification time to the nanosecond.

    Raises:
        OSError: it does not.
    """
    wanted_ns = 1_234_567_890_123_456_789
    probe = os.path.join(path, f".times.{os.getpid()}")
    fd = os.open(probe, _WRITE, 0o600)
    try:
        os.utime(fd, ns=(wanted_ns, wanted_ns))
        kept_ns = os.fstat(fd).st_mtime_ns
    finally:
        os.unlink(probe)
        os.close(fd)
    if kept_ns != wanted_ns:
        raise OSError(errno.ENOTSUP, "its file system does not keep times to the nanosecond")


def _note_use(path: str) -> None:
    """Note that a file is used now, which was opened long ago."""
    with suppress(OSError):
        fd = os.open(path, _READ)
        try:
            os.utime(fd, ns=(time.time_ns(), os.fstat(fd).st_mtime_ns))
        finally:
            os.close(fd)


def _delete(path: str) -> bool:
    """Delete a file that nobody holds."""
    try:
        fd = os.open(path, _READ)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path, follow_symlinks=False).st_ino != os.fstat(fd).st_ino:
            return False  # replaced meanwhile
        os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
