"""What is mounted where, and whether its changes are told.

Owns the mount table of this process (proc_pid_mountinfo(5)) and the list of file systems on which
every change goes through this kernel, so that inotify(7) hears of it. It knows no directory's
meaning.
"""

from __future__ import annotations

import ctypes
import os
import re

TMPFS = 0x0102_1994
LOCAL_TYPES = {
    0xEF53: "ext2, ext3, ext4",
    0x5846_5342: "xfs",
    0x9123_683E: "btrfs",
    0xF2F5_2010: "f2fs",
    TMPFS: "tmpfs",
}
"""Magic numbers of statfs(2). Not among them, because files change there without an event: NFS,
SMB, 9p, FUSE, clusters (written elsewhere), overlayfs (written below it), ZFS (a dataset is rolled
back or received as a whole)."""

_TABLE = "/proc/self/mountinfo"
_POLLPRI = 0x2
_STATFS_BYTES = 512  # struct statfs has 120 and begins with f_type, a word
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_LIBC = ctypes.CDLL(None, use_errno=True)


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


class MountTable:
    """The mount table, and whether it has changed. Takes a descriptor."""

    def __init__(self) -> None:
        """Open the table.

        Raises:
            OSError: it cannot be opened; where /proc is not mounted, for example.
        """
        self._fd = os.open(_TABLE, os.O_RDONLY | os.O_CLOEXEC)

    def has_changed(self) -> bool:
        """Whether anything was mounted or unmounted anywhere since this was last asked."""
        # poll(2) of this file reports POLLPRI once after each change.
        polled = _PollFd(self._fd, _POLLPRI, 0)
        return bool(_LIBC.poll(ctypes.byref(polled), ctypes.c_ulong(1), 0))

    def around(self, path: bytes) -> list[tuple[bytes, ...]]:
        """The mounts that decide what lies at and below `path`, in the order of the table.

        Raises:
            OSError: the table cannot be read.
        """
        with open(_TABLE, "rb") as table:
            mounts = [tuple(line.split(b" ", 5)[:5]) for line in table]
        return [mount for mount in mounts if _concerns(_unescape(mount[4]), path)]

    def close(self) -> None:
        """Give the descriptor back; once."""
        os.close(self._fd)


def filesystem_type(fd: int) -> int:
    """The magic number of the file system of an open file (statfs(2)).

    Raises:
        OSError: the system does not tell.
    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _LIBC.fstatfs(fd, buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "fstatfs")
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFF_FFFF


def _concerns(point: bytes, path: bytes) -> bool:
    below, above = path.rstrip(b"/") + b"/", point.rstrip(b"/") + b"/"
    return point.startswith(below) or below.startswith(above)


def _unescape(point: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), point)
