"""What a copy in the cache was when it was fetched, and whether it has been looked at since.

Each copy carries an extended attribute: the CRC-32 of its content, and the start of the server at
which the content last had that sum. A copy is believed once it was checked at this start. So what
rotted, or was not on disk yet when the power went, is never sent, and a copy need not be forced to
the disk one by one. The number of the start lies in `{path}/start`, for workers and commands alike.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

ATTRIBUTE = "user.zerocopy.checked"
CHUNK_BYTES = 262_144
"""Bytes that are summed at a time: they stay in the cache of a core."""

Read = Callable[[int, int, int], bytes]
"""Reads of a descriptor so many bytes from an offset, as os.pread does."""

_NOTE = struct.Struct("<QI")
_NUMBER = re.compile(rb"([0-9]{20}) ([0-9a-f-]*)\n")
_BOOT_PATH = "/proc/sys/kernel/random/boot_id"


def start_of(path: str, *, is_new: bool = False) -> int:
    """The number of the server's last start over the cache at `path`; a later one is larger.

    With `is_new` this is a start. So is the first time that anybody asks, and the first since the
    machine was started: what was in memory when the power went may be missing on the disk.

    Raises:
        OSError: it cannot be kept there.
    """
    fd = os.open(os.path.join(path, "start"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        told, boot = _NUMBER.fullmatch(os.pread(fd, 100, 0)), _boot()
        known = 0 if told is None else int(told[1])
        if told is not None and told[2] == boot and not is_new:
            return known
        number = max(known + 1, time.time_ns())  # without the file, too, it is a later one
        line = b"%020d %s\n" % (number, boot)
        os.pwrite(fd, line, 0)
        os.ftruncate(fd, len(line))
        os.fsync(fd)
        return number
    finally:
        os.close(fd)


def _boot() -> bytes:
    """What tells one start of the machine from the next; see random(4)."""
    try:
        with open(_BOOT_PATH, "rb") as file:
            return file.read().strip()
    except OSError:
        return b""


class Checks:
    """The attributes of the copies below `path`, as of its last start. Safe to use from threads.

    Raises:
        OSError: `path` cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.start = start_of(path)
        self.are_kept = _keeps_attributes(path)
        """Whether the file system has extended attributes; if not, copies are believed."""

    def is_checked(self, copy: int | str) -> bool:
        """Whether a copy, by descriptor or path, was written or checked since the start."""
        if not self.are_kept:
            return True
        note = _read(copy)
        return note is not None and note[0] >= self.start

    def note(self, fd: int, size: int, found: int | None = None) -> None:
        """Note the sum of what was written just now, which is `found` or is read back.

        Raises:
            OSError: there is no room for it.
        """
        if self.are_kept:
            found = sum_of(fd, size) if found is None else found
            os.setxattr(fd, ATTRIBUTE, _NOTE.pack(self.start, found))

    @staticmethod
    def is_noted(fd: int) -> bool:
        """Whether a copy has a sum: without one nothing tells that it is wrong, or right.

        One that was copied without its attributes has none.
        """
        return _read(fd) is not None

    def check(self, fd: int, size: int, read: Read = os.pread) -> bool:
        """Whether a copy has the content that was fetched; reads all of it, by `read`."""
        note = _read(fd)
        try:
            if note is None or sum_of(fd, size, read) != note[1]:
                return False
        except OSError:  # the disk gives it no more
            return False
        with suppress(OSError):  # another user's, or there is no room: it is checked each time
            os.setxattr(fd, ATTRIBUTE, _NOTE.pack(self.start, note[1]))
        return True


def sum_of(fd: int, size: int, read: Read = os.pread) -> int:
    """The CRC-32 of the first `size` bytes of a file; of what there is if it is shorter.

    Raises:
        OSError: it cannot be read.
    """
    found = offset = 0
    while offset < size:
        piece = read(fd, min(CHUNK_BYTES, size - offset), offset)
        if not piece:
            break
        found = zlib.crc32(piece, found)
        offset += len(piece)
    return found


def _read(copy: int | str) -> tuple[int, int] | None:
    try:
        told = os.getxattr(copy, ATTRIBUTE)
    except OSError:
        return None
    if len(told) != _NOTE.size:
        return None
    start, found = _NOTE.unpack(told)
    return start, found


def _keeps_attributes(path: str) -> bool:
    probe = os.path.join(path, f".attributes.{os.getpid()}.{threading.get_ident()}")
    fd = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.setxattr(fd, ATTRIBUTE, b"")
    except OSError as error:
        return error.errno in {errno.ENOSPC, errno.EDQUOT}  # it has them, and no room now
    finally:
        os.unlink(probe)
        os.close(fd)
    return True
