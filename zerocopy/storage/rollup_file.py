"""One roll-up as bytes, and as a file: the levels of one column of one closed day.

    digest | head | rows of the day | rows of the hours | rows of the minutes

Owns the layout, and what makes a roll-up believable: a digest over all but the minutes, which have
a digest of their own in the head, and the identity of the two day files that it was made of. So the
coarse levels of a day cost one read of some KB. Whatever does not fit is no roll-up; nothing here
raises for what a file holds. It knows no numpy: rows are bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from zerocopy.core.layout import Dtype
    from zerocopy.core.levels import Levels
    from zerocopy.storage.catalog import Stamp
    from zerocopy.storage.tree import Series

_MAGIC = b"ZCROLLUP"
VERSION = 1
"""To be raised when the layout changes, or what the rows mean: the order of sums, a key."""

_IDENTITY = "QQq"
_HEAD = struct.Struct(f"<8sI8sQII{_IDENTITY}{_IDENTITY}III32s")
_DIGEST_BYTES = 32

MARKED_BYTES = _DIGEST_BYTES + len(_MAGIC)
"""Bytes of a file by which a roll-up of any version is told from other files."""

COARSE_BYTES_MAX = 16_384
"""More than all but the minutes: two levels of `core.levels.HOURS_MAX` rows of 52 bytes."""


class Key(NamedTuple):
    """Which roll-up: a column of a day of a series."""

    series: Series
    day: int
    column: str


class Wanted(NamedTuple):
    """A roll-up that is believed only if it was made of the files with these stamps.

    `time` is that of the times, `values` that of the column, whose records are of `dtype`.
    """

    key: Key
    dtype: Dtype
    time: Stamp
    values: Stamp


class Identity(NamedTuple):
    """By what a day file is known again: its `Stamp` but for the device.

    A device may have another number after a restart. Two files of one inode number and length that
    changed in the same nanosecond are copies of one disk, and equal.
    """

    inode: int
    size: int
    changed_ns: int


def identity_of(stamp: Stamp) -> Identity:
    """What of a stamp survives a restart."""
    return Identity(stamp.inode, stamp.size, stamp.changed_ns)


@dataclass(frozen=True, slots=True)
class Rollup:
    """The levels of a column of a day, and what they are true of.

    `records` are as many as the shorter of the two files has, `first_s` and `last_s` the times of
    the first and the last of them in unix seconds. `minute` is None while it was not read.
    """

    dtype: str
    records: int
    first_s: int
    last_s: int
    time: Identity
    column: Identity
    day: bytes
    hour: bytes
    minute: bytes | None
    minute_bytes: int
    minute_digest: bytes

    def is_of(self, wanted: Wanted) -> bool:
        """Whether it was made of the very files that are wanted, and read in the same way."""
        return (
            self.dtype == wanted.dtype.name
            and self.time == identity_of(wanted.time)
            and self.column == identity_of(wanted.values)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the levels that are here."""
        return len(self.day) + len(self.hour) + len(self.minute or b"")


def rollup_of(levels: Levels, wanted: Wanted, span: tuple[int, int], records: int) -> Rollup:
    """What to keep of `levels`, which were made of `records` records from and to the `span`."""
    return Rollup(
        dtype=wanted.dtype.name,
        records=records,
        first_s=span[0],
        last_s=span[1],
        time=identity_of(wanted.time),
        column=identity_of(wanted.values),
        day=levels.day,
        hour=levels.hour,
        minute=levels.minute,
        minute_bytes=len(levels.minute),
        minute_digest=_digest(levels.minute),
    )


def encode(rollup: Rollup) -> bytes:
    """The file of a roll-up whose minutes are here."""
    assert rollup.minute is not None, "it was made, not read"
    coarse = _HEAD.pack(
        _MAGIC,
        VERSION,
        rollup.dtype.encode(),
        rollup.records,
        rollup.first_s,
        rollup.last_s,
        *rollup.time,
        *rollup.column,
        len(rollup.day),
        len(rollup.hour),
        rollup.minute_bytes,
        rollup.minute_digest,
    )
    coarse += rollup.day + rollup.hour
    assert _DIGEST_BYTES + len(coarse) <= COARSE_BYTES_MAX, "bounded by HOURS_MAX"
    return b"".join((_digest(coarse), coarse, rollup.minute))


def decode(data: bytes) -> Rollup | None:
    """The roll-up of the first `COARSE_BYTES_MAX` bytes of a file, without its minutes, or None."""
    rows = _DIGEST_BYTES + _HEAD.size
    if len(data) < rows:
        return None
    magic, version, dtype, records, first_s, last_s, *rest = _HEAD.unpack_from(data, _DIGEST_BYTES)
    time, column = Identity(*rest[:3]), Identity(*rest[3:6])
    day_bytes, hour_bytes, minute_bytes, minute_digest = rest[6:]
    end = rows + day_bytes + hour_bytes
    if (magic, version) != (_MAGIC, VERSION) or end > min(len(data), COARSE_BYTES_MAX):
        return None
    if data[:_DIGEST_BYTES] != _digest(memoryview(data)[_DIGEST_BYTES:end]):
        return None
    return Rollup(
        dtype.rstrip(b"\0").decode("ascii"),
        records,
        first_s,
        last_s,
        time,
        column,
        data[rows : rows + day_bytes],
        data[rows + day_bytes : end],
        None,
        minute_bytes,
        minute_digest,
    )


def is_marked(begin: bytes) -> bool:
    """Whether a file with these first `MARKED_BYTES` bytes was written to be a roll-up."""
    return begin[_DIGEST_BYTES:MARKED_BYTES] == _MAGIC


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def read(path: str) -> Rollup | None:
    """The roll-up that a file holds, without its minutes; None if it holds none."""
    data = _read(path, 0, COARSE_BYTES_MAX)
    return None if data is None else decode(data)


def read_minutes(path: str, rollup: Rollup) -> Rollup | None:
    """`rollup`, which was read from `path`, with its minutes; None if they are not there."""
    offset = _DIGEST_BYTES + _HEAD.size + len(rollup.day) + len(rollup.hour)
    data = _read(path, offset, rollup.minute_bytes)
    if data is None or _digest(data) != rollup.minute_digest:
        return None
    return replace(rollup, minute=data)


def _read(path: str, offset: int, count: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.pread(fd, count, offset)
    except OSError:
        return None
    finally:
        os.close(fd)


def write(path: str, content: bytes) -> bool:
    """Make `path` a file of `content`, as a whole or not at all; False if another process does.

    The temporary file has one name, so there is at most one beside each roll-up, whatever became of
    its writers; flock(2) tells whether one is at work.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = path + ".tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Its writer may have renamed it between the two calls above.
        if not _is_named(temporary, fd):
            return False
        try:
            os.ftruncate(fd, 0)
            written = 0
            while written < len(content):
                written += os.pwrite(fd, memoryview(content)[written:], written)
            os.fsync(fd)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    finally:
        os.close(fd)
    return True


def _is_named(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False
