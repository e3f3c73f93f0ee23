"""A disk that can fail: the system calls of zerocopy.storage, with a hook before each.

Owns what storage believes of the file system. The files are real; descriptors are numbers of our
own that are never given twice, so that one used after its end is found; change times are those of
the simulated clock, because nobody can set the kernel's.
"""

from __future__ import annotations

import errno
import mmap
import os
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from hypercorn import config as hypercorn_config
from hypercorn.protocol import http_stream

from tests.simulation.fetched import Fetched
from zerocopy.service import planned, service
from zerocopy.storage import catalog, dayfile, mapping, planner, pread, proof, tree
from zerocopy.storage.symbols import walk as symbols
from zerocopy.transport.tls import server as tls_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ERRORS: dict[str, tuple[int, ...]] = {
    "open": (
        errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.ENOENT
    ),
    "pread": (errno.EIO, errno.ENOMEM),
    "preadv": (errno.EIO, errno.ENOMEM),
    "lstat": (errno.EIO, errno.EACCES, errno.ENOENT, errno.ENOMEM),
    "stat": (errno.EIO, errno.EACCES, errno.ENOENT, errno.ENOMEM),
    "scandir": (errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ENOENT),
    "mmap": (errno.ENOMEM, errno.EMFILE, errno.ENODEV, errno.EACCES),
    "fstat": (errno.EIO, errno.ENOMEM),
    "dup": (errno.EMFILE,),
    "readahead": (errno.EIO, errno.ENOMEM),
}  # fmt: skip
"""What each call may fail with, as in section 2 of the manual."""

FIRST_FD = 100_000
TICK_NS = 4_000_000
"""A tick of the kernel's clock (HZ=250): two changes within one have the same time."""

_OS_USERS = (tree, dayfile, pread, catalog, planner, proof, mapping, symbols)
_TIME_USERS = (planner, catalog, service, planned, tls_server)
_TIME_CALLERS = (hypercorn_config, http_stream)


class Status(NamedTuple):
    """What storage reads of stat(2)."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


class Disk:
    """The calls of one run; `before` is called with the name of each and may raise OSError."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.now_ns = now_ns
        self.before: Callable[[str], None] = lambda _call: None
        self.calls = 0
        self.fds: dict[int, int] = {}
        self._next_fd = FIRST_FD
        self._changed: dict[int, int] = {}  # by inode

    # ---- for the one who changes files

    def tick_ns(self) -> int:
        """What the kernel would note as the time of a change now."""
        return self.now_ns() // TICK_NS * TICK_NS

    def note_change(self, path: str, changed_ns: int | None = None) -> None:
        """A file or directory changed, now unless told otherwise."""
        self._changed[os.lstat(path).st_ino] = self.tick_ns() if changed_ns is None else changed_ns

    # ---- for storage

    def _call(self, name: str) -> None:
        self.calls += 1
        self.before(name)

    def _real(self, fd: int) -> int:
        assert fd in self.fds, f"descriptor {fd} is used after its end"
        return self.fds[fd]

    def _status(self, found: os.stat_result) -> Status:
        return Status(
            found.st_mode,
            found.st_ino,
            found.st_dev,
            found.st_size,
            found.st_mtime_ns,
            self._changed[found.st_ino],
        )

    def open(self, path: str, flags: int, *, dir_fd: int | None = None) -> int:
        """A descriptor, whose number is ours."""
        self._call("open")
        real = os.open(path, flags, dir_fd=None if dir_fd is None else self._real(dir_fd))
        self._next_fd += 1
        self.fds[self._next_fd] = real
        return self._next_fd

    def close(self, fd: int) -> None:
        """The end of a descriptor, once."""
        os.close(self._real(fd))
        del self.fds[fd]

    def fstat(self, fd: int) -> Status:
        """What an open file is."""
        self._call("fstat")
        return self._status(os.fstat(self._real(fd)))

    def dup(self, fd: int) -> int:
        """Another descriptor, whose number is ours too."""
        self._call("dup")
        self._next_fd += 1
        self.fds[self._next_fd] = os.dup(self._real(fd))
        return self._next_fd

    def identify(self, fd: int) -> tuple[int, int]:
        """Inode and size of an open file, for the page cache."""
        found = os.fstat(self._real(fd))
        return found.st_ino, found.st_size

    def lstat(self, path: str) -> Status:
        """What a path leads to."""
        self._call("lstat")
        return self._status(os.lstat(path))

    def stat(self, name: str, *, dir_fd: int, follow_symlinks: bool) -> Status:
        """What a name in a directory leads to."""
        self._call("stat")
        found = os.stat(name, dir_fd=self._real(dir_fd), follow_symlinks=follow_symlinks)
        return self._status(found)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """Bytes of an open file."""
        self._call("pread")
        return os.pread(self._real(fd), count, offset)

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        """Bytes of an open file, scattered."""
        self._call("preadv")
        return os.preadv(self._real(fd), buffers, offset)

    def scandir(self, fd: int) -> nullcontext[list[os.DirEntry[str]]]:
        """getdents(2), to the end."""
        self._call("scandir")
        with os.scandir(self._real(fd)) as entries:
            return nullcontext(sorted(entries, key=lambda entry: entry.name))

    def mmap(self, fd: int, nbytes: int, **how: int) -> mmap.mmap:
        """A mapping of an open file."""
        self._call("mmap")
        return mmap.mmap(self._real(fd), nbytes, **how)

    def close_all(self) -> None:
        """Give back what a run that failed has left."""
        for real in self.fds.values():
            os.close(real)
        self.fds.clear()


class _Instead:
    """A module with some of its functions replaced."""

    def __init__(self, module: object, **functions: object) -> None:
        self.__dict__.update(vars(module))
        self.__dict__.update(functions)


class _Silent:
    """A log for nobody."""

    def error(self, *_: object, **__: object) -> None:
        """Nothing."""

    warning = error


@contextmanager
def installed(disk: Disk) -> Iterator[None]:
    """Storage and the clocks of the package use `disk` for as long as the block runs."""
    fake_os = _Instead(
        os,
        **{name: getattr(disk, name) for name in ERRORS if name not in {"mmap", "readahead"}},
        close=disk.close,
    )
    fake_time = _Instead(
        time,
        time=lambda: disk.now_ns() / 1e9,
        time_ns=disk.now_ns,
        sleep=lambda _seconds: None,
    )
    places: list[tuple[Any, str, object]] = [(module, "os", fake_os) for module in _OS_USERS]
    places += [(module, "time", fake_time) for module in _TIME_USERS]
    places.append((mapping, "mmap", _Instead(mmap, mmap=disk.mmap)))
    places.append((service, "_log", _Silent()))
    places.append((dayfile, "Fetched", Fetched))
    places += [(module, "time", fake_time.__dict__["time"]) for module in _TIME_CALLERS]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, fake in places:
        setattr(module, name, fake)
    try:
        yield
    finally:
        Fetched.forget_all()
        for (module, name, _), real in zip(places, before, strict=True):
            setattr(module, name, real)
