"""One inotify(7) instance: which names in which directories have changed.

Owns the descriptor, its system calls and the form of an event. It must never know what a directory
means. The kernel queues an event before the writer's system call returns. So reading the whole
queue after a request arrived reveals every change that was made before it.

By ctypes, as the standard library has none of these calls. A directory is watched by descriptor, as
/proc/self/fd/N: what is watched is what was opened, wherever its name leads meanwhile.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# <sys/inotify.h>
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ISDIR = 0x4000_0000
_IN_ONLYDIR = 0x0100_0000
_IN_MASK_CREATE = 0x1000_0000  # Linux 4.18: EEXIST for a directory that is watched already

# Without IN_EXCL_UNLINK: a file that lost one of two names here is still written through the other.
WATCHED = IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
_MASK = WATCHED | _IN_ONLYDIR | _IN_MASK_CREATE

_HEAD = struct.Struct("iIII")  # wd, mask, cookie, bytes of the name with its padding
_READ_BYTES = 262_144
"""Bytes of one read(2): some 8,000 events of day files."""

_LIBC = ctypes.CDLL(None, use_errno=True)


class InotifyError(OSError):
    """A call of inotify(7) failed, and not the directory."""


class Event(NamedTuple):
    """Something happened to `name` in the directory of a watch; no name: to that directory."""

    watch: int
    mask: int
    name: bytes


class Inotify:
    """Used by one thread at a time; but another may call `add`, the kernel keeps them apart."""

    def __init__(self) -> None:
        """Make an instance.

        Raises:
            InotifyError: EMFILE or ENOMEM, the limit of instances or descriptors
                (inotify_init(2)); ENOSYS where there is no such call.
        """
        make = getattr(_LIBC, "inotify_init1", None)
        self._fd = -1 if make is None else make(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _error(errno.ENOSYS if make is None else ctypes.get_errno(), "inotify_init1")

    def fileno(self) -> int:
        """The descriptor, which is readable when events wait."""
        return self._fd

    def add(self, directory_fd: int) -> int | None:
        """Watch an open directory and the names in it; None if this instance does so already.

        Raises:
            InotifyError: ENOSPC or ENOMEM, the limit of watches (inotify_add_watch(2)); EINVAL
                before Linux 4.18; ENOENT where /proc is not mounted.
        """
        path = b"/proc/self/fd/%d" % directory_fd
        watch = int(_LIBC.inotify_add_watch(self._fd, path, ctypes.c_uint32(_MASK)))
        if watch >= 0:
            return watch
        code = ctypes.get_errno()
        if code == errno.EEXIST:
            return None
        raise _error(code, "inotify_add_watch")

    def remove(self, watch: int) -> None:
        """No longer watch; one that went with its directory is no error (EINVAL)."""
        _LIBC.inotify_rm_watch(self._fd, watch)

    def queued_bytes(self) -> int:
        """How much waits to be read."""
        count = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, count)
        return count[0]

    def read(self) -> Iterator[Event]:
        """Read what is queued now, perhaps with some newer events. Ends however many are written.

        Raises:
            OSError: the events cannot be read.
        """
        left = self.queued_bytes()
        while left > 0:
            try:
                content = os.read(self._fd, min(left, _READ_BYTES))
            except BlockingIOError:
                return
            left -= len(content)
            at = 0
            while at < len(content):
                watch, mask, _, length = _HEAD.unpack_from(content, at)
                at += _HEAD.size + length
                yield Event(watch, mask, content[at - length : at].rstrip(b"\0"))

    def close(self) -> None:
        """Give descriptor and watches back; once."""
        with suppress(OSError):
            os.close(self._fd)


def _error(code: int, call: str) -> InotifyError:
    return InotifyError(code, os.strerror(code), call)
