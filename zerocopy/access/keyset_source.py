"""Where a worker has the key set of tokens from: a file, or a memory that the supervisor fills.

Owns both, and the form of that memory. A set is read again when it has changed; the age of the last
good look tells how long its source has been away.

The memory is a memfd(2) of a fixed length that supervisor and workers map. The supervisor writes,
workers read, with no lock: a reader takes what its hash proves to be whole, else it looks again.

    8 bytes   when the set was last fetched: nanoseconds of CLOCK_MONOTONIC, 0 for never
    8 bytes   length of the set
    32 bytes  SHA-256 of the set
    …         the set

An eventfd(2) beside it is how workers ask for it to be fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import struct
import time
from typing import TYPE_CHECKING, Protocol

from zerocopy.access.key_file import RACY_NS
from zerocopy.access.keyset import read_key_set
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from zerocopy.access.keyset import KeySet

KEY_SET_BYTES_MAX = 262_144
"""Bytes of a key set; those of large directories, with certificates, take a tenth of it."""

_HEADER = struct.Struct("<QQ32s")
MEMORY_BYTES = _HEADER.size + KEY_SET_BYTES_MAX


class KeySetSource(Protocol):
    """Where a key set comes from."""

    def read_if_changed(self) -> KeySet | None:
        """The set as it is now, or None if that was read before, or there is none yet; blocks.

        Raises:
            ConfigError: it cannot be read. The next call tries again.
        """

    @property
    def age_s(self) -> float:
        """Seconds since the source last had the set."""

    def ask(self) -> None:
        """A token names a key that is not in the set: look sooner. Returns at once."""


class KeySetFile:
    """A file, looked at in each call."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None
        self._read_at_s = -math.inf

    def read_if_changed(self) -> KeySet | None:
        """See `KeySetSource`."""
        try:
            found = os.stat(self._path)
            seen = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
            if seen == self._seen:
                self._read_at_s = time.monotonic()
                return None
            self._seen = None
            with open(self._path, "rb") as file:
                text = file.read(KEY_SET_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigError(
                f"{self._path}: the key set cannot be read: {error.strerror}"
            ) from error
        if len(text) > KEY_SET_BYTES_MAX:
            raise ConfigError(f"{self._path}: a key set has at most {KEY_SET_BYTES_MAX:,} bytes")
        try:
            keys = read_key_set(text)
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error.detail}") from error
        if abs(time.time_ns() - found.st_ctime_ns) > RACY_NS:
            self._seen = seen
        self._read_at_s = time.monotonic()
        return keys

    @property
    def age_s(self) -> float:
        """See `KeySetSource`."""
        return time.monotonic() - self._read_at_s

    def ask(self) -> None:
        """Nothing: the file is looked at each second."""


class KeySetMemory:
    """The workers' end of a memory; `wanted_fd` is of the eventfd."""

    def __init__(self, memory_fd: int, wanted_fd: int) -> None:
        self._memory = mmap.mmap(memory_fd, MEMORY_BYTES, prot=mmap.PROT_READ)
        self._wanted_fd = wanted_fd
        self._seen = b""

    def read_if_changed(self) -> KeySet | None:
        """See `KeySetSource`."""
        _, length, digest = _HEADER.unpack_from(self._memory)
        if digest == self._seen:
            return None
        text = self._memory[_HEADER.size : _HEADER.size + length]
        if hashlib.sha256(text).digest() != digest:  # never written, or being written
            return None
        keys = read_key_set(text)
        self._seen = digest
        return keys

    @property
    def age_s(self) -> float:
        """See `KeySetSource`."""
        fetched_at_ns = int.from_bytes(self._memory[:8], "little")
        return (time.monotonic_ns() - fetched_at_ns) / 1e9 if fetched_at_ns else math.inf

    def ask(self) -> None:
        """See `KeySetSource`."""
        with contextlib.suppress(BlockingIOError):  # it was asked 2**64 times: that will do
            os.eventfd_write(self._wanted_fd, 1)


def make_memory() -> int:
    """A memory without a set; its descriptor.

    Raises:
        OSError: there is no room for one.
    """
    memory_fd = os.memfd_create("zerocopy-key-set")
    os.ftruncate(memory_fd, MEMORY_BYTES)
    return memory_fd


def write_memory(memory_fd: int, text: bytes) -> None:
    """Let the workers have the set `text`, fetched now."""
    assert len(text) <= KEY_SET_BYTES_MAX, "checked by whoever fetched it"
    header = _HEADER.pack(time.monotonic_ns(), len(text), hashlib.sha256(text).digest())
    os.pwrite(memory_fd, header + text, 0)
