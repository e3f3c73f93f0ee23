"""The system calls of the server, answered in memory.

Owns the descriptors of the simulated process and the one gate (`enter`) that every call passes:
there it is counted, may be made to fail, and there the rest of the world may act in between. It
takes the place of the modules `os`, `fcntl` and `socket` in the modules of the package; it knows
nothing of HTTP.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Self

from tests.simulation.faults import ERRORS, Faults, NoFaults
from tests.simulation.filesystem import FileSystem, Node, Status, failure
from tests.simulation.sockets import Listener, Socket, Spare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

    from tests.simulation.clock import Clock
    from tests.simulation.pagecache import FakePageCache

FIRST_FD = 10
WHOLE_BYTES = 32
CALL_NS = 2_000
"""What a system call costs: far less than a tick of the file system's clock."""


class OpenFile:
    """An open file or directory; `path_only` as O_PATH."""

    __slots__ = ("node", "path_only")

    def __init__(self, node: Node, *, path_only: bool) -> None:
        self.node = node
        self.path_only = path_only


class Watching:
    """Whatever else the event loop may watch."""

    readable = writable = False
    error: int | None = None


Descriptor = OpenFile | Socket | Listener | Spare | Watching
"""What a descriptor may stand for."""


class Entry:
    """What scandir gives: a name, and the type that readdir(3) told."""

    def __init__(self, kernel: Kernel, folder: Node, name: str, node: Node) -> None:
        self._kernel = kernel
        self._folder = folder
        self._node = node
        self.name = name

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it was a regular file."""
        assert not follow_symlinks, "nothing below the root is followed"
        return self._node.entries is None and self._node.target is None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it was a directory."""
        assert not follow_symlinks, "nothing below the root is followed"
        return self._node.entries is not None

    def stat(self, *, follow_symlinks: bool = True) -> Status:
        """Its status now, for the name is looked up again."""
        assert not follow_symlinks, "nothing below the root is followed"
        self._kernel.enter("stat")
        files = self._kernel.files
        return files.status(files.find(self.name, self._folder, follow=False))


class Entries:
    """What os.scandir returns."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    def __enter__(self) -> Self:
        """The entries themselves."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is left open: scandir's own descriptor is part of the call here."""

    def __iter__(self) -> Iterator[Entry]:
        """Each entry once."""
        return iter(self._entries)


class Kernel:
    """One simulated process: descriptors, calls, and what they gave."""

    def __init__(self, clock: Clock, files: FileSystem, rng: Random) -> None:
        self.clock = clock
        self.files = files
        self.rng = rng
        self.faults: Faults = NoFaults()
        self.between: Callable[..., None] = lambda _name="": None
        self.short_counts = 0.0  # how often a call moves less than it could
        self.calls = 0
        self.faults_struck = 0
        self.struck: list[tuple[int, str, int]] = []  # call, name, errno
        self.moved = dict.fromkeys(ERRORS, 0)  # bytes by the call that moved them
        self.open: dict[int, Descriptor] = {}
        self.lost: list[Socket] = []
        self.misused: list[int] = []  # no open files, and used as one
        self.cache: FakePageCache | None = None
        self.recent: Node | None = None  # what fstat was asked about last
        self.log: list[str] | None = None
        self.watched: Callable[[int], bool] = lambda _fd: False
        self._digest = hashlib.blake2b(digest_size=8)

    # ---- the gate

    def enter(self, name: str) -> None:
        """One call begins: the world may act first, and it may fail."""
        self.between(name)
        self.calls += 1
        self.clock.now_ns += CALL_NS
        code = self.faults.strike(name, self.calls)
        if code is not None:
            self.faults_struck += 1
            self.struck.append((self.calls, name, code))
            self.note(f"{name} {errno.errorcode[code]}")
            raise failure(code)
        self.note(name)

    def left(self, name: str, count: int) -> None:
        """A call moved `count` bytes."""
        self.moved[name] += count
        self.note(f"={count}")

    def note(self, what: str) -> None:
        """Make `what` part of the trace."""
        self._digest.update(what.encode())
        if self.log is not None:
            self.log.append(f"{self.clock.now_ns / 1e9:.6f} {what}")

    @property
    def trace(self) -> str:
        """A digest of everything that happened so far."""
        return self._digest.hexdigest()

    def cut(self, count: int) -> int:
        """`count`, or now and then fewer; a few bytes are one buffer and go whole."""
        if count > WHOLE_BYTES and self.rng.random() < self.short_counts:
            return self.rng.randint(1, count)
        return count

    # ---- descriptors

    def add(self, what: Descriptor) -> int:
        """The lowest free descriptor, as open(2) promises."""
        fd = FIRST_FD
        while fd in self.open:
            fd += 1
        self.open[fd] = what
        return fd

    def forget(self, fd: int) -> None:
        """Close a descriptor; one that the event loop still watches is a fault of the server."""
        assert not self.watched(fd), f"descriptor {fd} is closed while the event loop watches it"
        del self.open[fd]

    def count_files(self) -> int:
        """How many descriptors are files and directories."""
        return sum(isinstance(what, OpenFile) for what in self.open.values())

    def connect(self, listener: Listener, room: int) -> Socket:
        """A new connection in the backlog, with `room` bytes of send buffer."""
        assert not listener.closed, "somebody listens"
        connection = Socket(self, room)
        listener.backlog.append(connection)
        return connection

    def _file(self, fd: int) -> OpenFile:
        found = self.open.get(fd)
        if not isinstance(found, OpenFile):
            self.misused.append(fd)
            raise failure(errno.EBADF)
        return found


class FakeOs:
    """The module `os` for the package: the calls below are the kernel's, the rest is os itself."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        """Constants and os.path."""
        is_constant = name.startswith(("O_", "SEEK_")) or name in {"path", "stat_result"}
        assert is_constant, f"os.{name} is not faked"
        return getattr(os, name)

    def open(self, path: str, flags: int, *, dir_fd: int | None = None) -> int:
        """The system call."""
        kernel = self._kernel
        kernel.enter("open")
        at = None if dir_fd is None else kernel._file(dir_fd).node
        node = kernel.files.find(path, at, follow=not flags & os.O_NOFOLLOW)
        if flags & os.O_DIRECTORY and node.entries is None:
            raise failure(errno.ENOTDIR)
        if node.target is not None:
            raise failure(errno.ELOOP)
        node.opened += 1
        fd = kernel.add(OpenFile(node, path_only=bool(flags & os.O_PATH)))
        kernel.note(f"={fd}")
        return fd

    def close(self, fd: int) -> None:
        """The system call: the descriptor is gone even if it tells of an error."""
        kernel = self._kernel
        node = kernel._file(fd).node
        kernel.forget(fd)
        node.opened -= 1
        kernel.files.release(node)
        kernel.enter("close")

    def dup(self, fd: int) -> int:
        """The system call."""
        kernel = self._kernel
        kernel.enter("dup")
        opened = kernel._file(fd)
        opened.node.opened += 1
        return kernel.add(OpenFile(opened.node, path_only=opened.path_only))

    def fstat(self, fd: int) -> Status:
        """The system call."""
        kernel = self._kernel
        kernel.enter("fstat")
        kernel.recent = kernel._file(fd).node
        return kernel.files.status(kernel.recent)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        """The system call: only ever the end of a file is asked for."""
        assert (offset, whence) == (0, os.SEEK_END), "nobody moves an offset"
        self._kernel.enter("lseek")
        return self._kernel._file(fd).node.size

    def lstat(self, path: str) -> Status:
        """The system call."""
        self._kernel.enter("lstat")
        return self._kernel.files.status(self._kernel.files.find(path, follow=False))

    def stat(self, path: str, *, dir_fd: int, follow_symlinks: bool) -> Status:
        """The system call."""
        assert not follow_symlinks, "nothing below the root is followed"
        self._kernel.enter("stat")
        at = self._kernel._file(dir_fd).node
        return self._kernel.files.status(self._kernel.files.find(path, at, follow=False))

    def scandir(self, fd: int) -> Entries:
        """The system call and readdir(3), which promises no order."""
        kernel = self._kernel
        kernel.enter("scandir")
        opened = kernel._file(fd)
        assert not opened.path_only, "an O_PATH descriptor cannot be read"
        assert opened.node.entries is not None, "a directory"
        entries = [
            Entry(kernel, opened.node, name, node) for name, node in opened.node.entries.items()
        ]
        kernel.rng.shuffle(entries)
        return Entries(entries)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        """The system call."""
        self._kernel.enter("pread")
        node = self._kernel._file(fd).node
        data = node.stream[offset : min(offset + count, node.size)]
        if self._kernel.cache is not None:
            self._kernel.cache.fill(node, node.size, offset, len(data))
        self._kernel.left("pread", len(data))
        return data

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        """The system call."""
        data = self.pread(fd, sum(map(len, buffers)), offset)
        at = 0
        for buffer in buffers:
            piece = data[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            at += len(piece)
        return at

    def sendfile(self, out_fd: int, in_fd: int, offset: int, count: int) -> int:
        """The system call."""
        kernel = self._kernel
        kernel.enter("sendfile")
        out = kernel.open.get(out_fd)
        assert isinstance(out, Socket), f"descriptor {out_fd} is no socket"
        node = kernel._file(in_fd).node
        data = node.stream[offset : min(offset + count, node.size)]
        if not data:
            kernel.left("sendfile", 0)
            return 0
        sent = out.put_file(data)
        if kernel.cache is not None:
            kernel.cache.touch(node, node.size, offset, sent)
        return sent


class FakeFcntl:
    """The module `fcntl` for the package: ioctl(2) of SIOCOUTQ."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def ioctl(self, fd: int, _request: int, _argument: bytes) -> bytes:
        """How many bytes the client has not taken yet."""
        self._kernel.enter("ioctl")
        out = self._kernel.open.get(fd)
        assert isinstance(out, Socket), f"descriptor {fd} is no socket"
        return struct.pack("i", len(out.outbox))


class FakeSockets:
    """The module `socket` for the package: constants, and sockets that nobody connects."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        """Constants."""
        assert name.isupper(), f"socket.{name} is not faked"
        return getattr(socket, name)

    def socket(self) -> Spare:
        """The system call."""
        self._kernel.enter("socket")
        return Spare(self._kernel)
