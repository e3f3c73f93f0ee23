"""A directory that a recorder writes and inotify(7) watches, on the simulated file system.

`SimulatedPath` has what `tests.service.live.recorder` calls of a `Path`; each change is one call of
the file system, and its event is queued at once, as Linux does.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Self

from tests.simulation.filesystem import failure
from tests.simulation.kernel import Watching
from zerocopy.storage.watch.inotify import (
    IN_CREATE,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    Event,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.filesystem import FileSystem, Node, Status
    from tests.simulation.kernel import Kernel


class Watches:
    """The instances of inotify(7) of a world."""

    def __init__(self) -> None:
        self.instances: list[SimulatedInotify] = []

    def tell(self, folder: Node, mask: int, name: str) -> None:
        """Something happened to a name."""
        for instance in self.instances:
            instance.tell(folder, mask, name)


class SimulatedInotify(Watching):
    """One instance; its queue holds `queue_max` events, then one that says that some are lost."""

    def __init__(self, kernel: Kernel, watches: Watches, queue_max: int) -> None:
        self._kernel = kernel
        self._watches = watches
        self._queue_max = queue_max
        self._folders: dict[int, Node] = {}
        self._queue: list[Event] = []
        self._last = 0
        self.overflows = 0
        self._fd = kernel.add(self)
        watches.instances.append(self)

    @property
    def readable(self) -> bool:  # type: ignore[override]
        """EPOLLIN."""
        return bool(self._queue)

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def add(self, directory_fd: int) -> int | None:
        """inotify_add_watch(2)."""
        self._kernel.enter("inotify_add")
        folder = self._kernel._file(directory_fd).node
        if folder in self._folders.values():
            return None
        self._last += 1
        self._folders[self._last] = folder
        return self._last

    def remove(self, watch: int) -> None:
        """inotify_rm_watch(2)."""
        self._folders.pop(watch, None)

    def read(self) -> Iterator[Event]:
        """All that is queued."""
        self._kernel.enter("inotify_read")
        queue, self._queue = self._queue, []
        yield from queue

    def close(self) -> None:
        """Give the descriptor back."""
        self._kernel.forget(self._fd)
        self._watches.instances.remove(self)

    def tell(self, folder: Node, mask: int, name: str) -> None:
        """Queue an event; one equal to the last is left out (inotify(7))."""
        for watch, watched in self._folders.items():
            event = Event(watch, mask, name.encode())
            if watched is not folder or (self._queue and self._queue[-1] == event):
                continue
            if len(self._queue) < self._queue_max:
                self._queue.append(event)
            elif self._queue[-1].mask != IN_Q_OVERFLOW:
                self.overflows += 1
                self._queue.append(Event(-1, IN_Q_OVERFLOW, b""))


class SimulatedFile:
    """A file opened to be written."""

    def __init__(self, path: SimulatedPath) -> None:
        self._path = path

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is buffered."""

    def write(self, data: bytes) -> None:
        """Append."""
        node = self._path.node()
        size = node.size + len(data)
        node.stream = node.stream[: node.size] + data
        self._path.resize(size)

    def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        self._path.resize(size)


class SimulatedPath:
    """A path below the root of a world."""

    def __init__(self, files: FileSystem, watches: Watches, path: str) -> None:
        self._files = files
        self._watches = watches
        self._path = path

    def __truediv__(self, name: str) -> SimulatedPath:
        """A name in this directory."""
        return SimulatedPath(self._files, self._watches, f"{self._path}/{name}")

    def node(self) -> Node:
        """What it leads to."""
        return self._files.find(self._path)

    def mkdir(self, *, parents: bool) -> None:
        """With what is above it."""
        assert parents
        self._files.make_folder(self._path)

    def touch(self) -> None:
        """Make it, if it is not there."""
        with contextlib.suppress(OSError):
            self.node()
            return
        self._files.make_file(self._path, b"", 0)
        self._tell(IN_CREATE)

    def open(self, mode: str) -> SimulatedFile:
        """To append to it, or to cut it."""
        if mode == "ab":
            self.touch()
        return SimulatedFile(self)

    def write_bytes(self, data: bytes) -> None:
        """A new file."""
        self.touch()
        if data:
            SimulatedFile(self).write(data)

    def with_suffix(self, suffix: str) -> SimulatedPath:
        """The name with another ending."""
        return SimulatedPath(self._files, self._watches, self._path.rpartition(".")[0] + suffix)

    def rename(self, target: SimulatedPath) -> None:
        """Over what is there."""
        self._files.rename(self._path, target._path)
        self._tell(IN_MOVED_FROM)
        target._tell(IN_MOVED_TO)

    def resize(self, size: int) -> None:
        """Append or cut."""
        self._files.resize(self._path, size)
        self._tell(IN_MODIFY)

    def stat(self) -> Status:
        """Its status."""
        return self._files.status(self.node())

    def _tell(self, mask: int) -> None:
        folder, _, name = self._path.rpartition("/")
        self._watches.tell(self._files.find(folder), mask, name)


def refused() -> SimulatedInotify:
    """inotify_init(2) where there are too many instances."""
    raise failure(24)
