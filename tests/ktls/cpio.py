"""Archives that the Linux kernel unpacks as its first file system (cpio "newc", initramfs).

Owns the format: Documentation/driver-api/early-userspace/buffer-format.rst. Several archives may
follow each other in one file; a later one adds to, and replaces of, the earlier.
"""

from __future__ import annotations

import os
import stat
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIRECTORY = stat.S_IFDIR | 0o755
EXECUTABLE = stat.S_IFREG | 0o755
CHARACTER_DEVICE = stat.S_IFCHR | 0o600


class Archive:
    """Writes one archive. Paths are those inside; parents are made as they are needed."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._count = 0
        self._there = {"/"}

    def directory(self, path: str) -> None:
        """A directory and its parents."""
        if path not in self._there:
            self._parents(path)
            self._entry(path, DIRECTORY)

    def file(self, path: str, content: bytes, mtime: int = 0) -> None:
        """A file, executable. The first one of a path stays."""
        if path not in self._there:
            self._parents(path)
            self._entry(path, EXECUTABLE, content, mtime=mtime)

    def copy(self, host_path: str, path: str | None = None) -> None:
        """A file of this machine with its time of change, by which Python trusts a .pyc."""
        with open(host_path, "rb") as source:
            mtime = int(os.fstat(source.fileno()).st_mtime)
            self.file(path or host_path, source.read(), mtime)

    def tree(self, host_path: str, path: str, skip: Callable[[str], bool]) -> None:
        """The files below a directory, but those that `skip` is true of; links are followed."""
        for found in walk(host_path, skip):
            self.copy(found, path + found.removeprefix(host_path))

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self._parents(path)
        self._entry(path, CHARACTER_DEVICE, device=(major, minor))

    def finish(self) -> None:
        """Write the end. Zeros up to a multiple of 512 bytes may follow, and another archive."""
        self._entry("/TRAILER!!!", 0)
        self._out.write(bytes(-self._out.tell() % 512))

    def _parents(self, path: str) -> None:
        self.directory(os.path.dirname(path))

    def _entry(
        self,
        path: str,
        mode: int,
        content: bytes = b"",
        *,
        mtime: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self._there.add(path)
        self._count += 1
        name = path.lstrip("/").encode() + b"\0"
        numbers = (
            self._count, mode, 0, 0, 1, mtime, len(content), 0, 0, *device, len(name), 0,
        )  # fmt: skip
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        self._out.write(head + bytes(-len(head) % 4))
        self._out.write(content)
        self._out.write(bytes(-len(content) % 4))


def walk(directory: str, skip: Callable[[str], bool]) -> Iterator[str]:
    """The paths of the files below a directory, but those that `skip` is true of."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if skip(entry.path):
            continue
        if entry.is_dir():
            yield from walk(entry.path, skip)
        elif entry.is_file():
            yield entry.path
