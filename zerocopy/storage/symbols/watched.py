"""The directories below the root in memory, each with the newest modification of its `.bin` files.

Owns the watched copy of the tree and the rules by which events change it. It must never know who
asks, nor how a response is written. It blocks on the disk and is used by one thread at a time.

A directory is watched before it is read, and the queue of events is read before anything is looked
at. So whatever happens after a look is in the queue of the next refresh, and a look that a rename
led astray is repeated there. A directory keeps the name and time of its newest file only. It is
read again only if that file is no longer the newest.

No event reports some things, so each refresh asks for them: which directory the root is, what is
mounted, and the times of files with several names (a write is reported only under the name it goes
through).
"""

from __future__ import annotations

import os
import stat
from typing import Final

from zerocopy.storage.symbols.directory import (
    EXCHANGE,
    ROOT,
    SYMBOL,
    Directory,
    Way,
    is_bin,
    read_contents,
    seconds_of,
)
from zerocopy.storage.symbols.walk import open_directory
from zerocopy.storage.tree import close_file
from zerocopy.storage.watch.inotify import (
    IN_ATTRIB,
    IN_CREATE,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    WATCHED,
    Inotify,
)
from zerocopy.storage.watch.mounts import LOCAL_TYPES, MountTable, filesystem_type

_PENDING_MAX = 65_536
"""Names with an event that wait for a refresh, some 200 bytes each; more count as an overflow."""

_NEW_NAME: Final = IN_CREATE | IN_MOVED_TO


class UnwatchableError(Exception):
    """The tree cannot be watched, and the words for the operator say why."""


class StaleError(Exception):
    """The tree can no longer be brought up to date: only a new one knows."""


class SymbolTree:
    """What lies below the directory that `root_fd` was opened on, at most `directories_max` of it.

    After any exception it is of no use but to be closed.
    """

    def __init__(self, root_fd: int, directories_max: int) -> None:
        """Read and watch everything.

        Raises:
            UnwatchableError: there are too many directories, or changes of one are not told.
            OSError: a directory cannot be read; InotifyError: nor watched.
        """
        self._directories_max = directories_max
        self._watched: dict[int, Directory] = {}
        self._unwatched: set[Directory] = set()
        self._linked: set[Directory] = set()
        self._pending: dict[int, dict[bytes, int]] = {}
        self._pending_count = 0
        self._devices: set[int] = set()
        self._is_built = False
        self.changed: dict[str, set[str] | None] = {}
        """Symbols of each exchange that may have changed since this was emptied; None is all."""
        try:
            self._mounts = MountTable()
        except (FileNotFoundError, PermissionError) as error:
            raise UnwatchableError("/proc/self/mountinfo cannot be read") from error
        try:
            self._inotify = Inotify()
        except OSError:
            self._mounts.close()
            raise
        try:
            self._identity = _identity(root_fd)
            self._mounted = self._mounts.around(self._identity[2])
            self.root = Directory("", None)
            self._enter(self.root, root_fd)
        except BaseException:
            self.close()
            raise
        self._is_built = True

    def __len__(self) -> int:
        """Directories."""
        return len(self._watched) + len(self._unwatched)

    def close(self) -> None:
        """Give descriptors and memory back; once."""
        self._inotify.close()
        self._mounts.close()
        # They refer to each other, and the garbage collector visits old objects late.
        for directory in (*self._watched.values(), *self._unwatched):
            directory.parent = None
            directory.children = {}

    # ---- events

    def collect(self) -> None:
        """Empty the kernel's queue, which is bounded, and remember what it said.

        Raises:
            StaleError: something was lost.
        """
        for watch, mask, name in self._inotify.read():
            if mask & (IN_Q_OVERFLOW | IN_UNMOUNT):
                raise StaleError
            if not name:
                if watch == self.root.watch and mask & IN_ATTRIB:
                    raise StaleError  # the permissions of the root have changed
                continue  # the directory above has it by name
            names = self._pending.get(watch)
            if names is None:
                names = self._pending[watch] = {}
            known = names.get(name)
            if known is None:
                self._pending_count += 1
                if self._pending_count > _PENDING_MAX:
                    raise StaleError
            names[name] = mask if known is None else known | mask

    def queued_bytes(self) -> int:
        """How much the kernel's queue holds."""
        return self._inotify.queued_bytes()

    def refresh(self, root_fd: int) -> None:
        """Learn every change that was made before this was called.

        Raises:
            StaleError: the root or a mount is another, or events were lost.
            UnwatchableError: as at the beginning.
            OSError: a directory cannot be read; InotifyError: nor watched.
        """
        if _identity(root_fd) != self._identity:
            raise StaleError
        if self._mounts.has_changed() and self._mounts.around(self._identity[2]) != self._mounted:
            raise StaleError
        self.collect()
        pending, self._pending, self._pending_count = self._pending, {}, 0
        # All that is gone goes first: a directory that has moved is still watched at its old place.
        entered = self._leave(pending)
        with Way(root_fd) as way:
            self._look(way, pending)
            for directory, names in entered.items():
                fd = way.to(directory) if self._is_here(directory) else None
                if fd is not None:
                    for name in names:
                        self._enter_child(directory, name, fd)

    # ---- looking

    def _look(self, way: Way, pending: dict[int, dict[bytes, int]]) -> None:
        """Ask for the times of the files that had an event, or may have changed without."""
        for watch, names in pending.items():
            directory = self._watched.get(watch)
            if directory is None or directory.depth < SYMBOL:
                continue
            wanted = _NEW_NAME if directory.is_linked else WATCHED
            bins = [
                (text, mask)
                for name, mask in names.items()
                if mask & wanted and is_bin(text := os.fsdecode(name))
            ]
            fd = way.to(directory) if bins else None
            if fd is not None and not self._look_at(directory, fd, bins):
                self._read(directory, fd)
        for directory in [*self._linked]:
            fd = way.to(directory)
            if fd is not None:
                self._read(directory, fd)

    def _look_at(
        self, directory: Directory, directory_fd: int, names: list[tuple[str, int]]
    ) -> bool:
        """Whether the newest is known from these files alone."""
        is_known = True
        for name, mask in names:
            try:
                status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
            except FileNotFoundError:
                # Written, and gone under this name: perhaps there is another one.
                is_known = is_known and name != directory.newest and not mask & IN_MODIFY
                continue
            if not stat.S_ISREG(status.st_mode):
                is_known = is_known and name != directory.newest
                continue
            if status.st_nlink > 1:
                raise StaleError  # where its other names are is not known
            modified_s = seconds_of(status)
            if directory.newest_s is None or modified_s >= directory.newest_s:
                directory.newest, directory.newest_s = name, modified_s
                self._mark(directory)
            elif name == directory.newest:
                is_known = False
        return is_known

    def _read(self, directory: Directory, directory_fd: int) -> list[str]:
        """Look at all that a directory holds; the names of those below."""
        newest, newest_s, is_linked, below = read_contents(directory, directory_fd)
        if is_linked and not directory.is_linked and self._is_built:
            raise StaleError  # see _look_at
        directory.newest, directory.newest_s, directory.is_linked = newest, newest_s, is_linked
        (self._linked.add if is_linked else self._linked.discard)(directory)
        self._mark(directory)
        return below

    # ---- directories that come and go

    def _enter(self, directory: Directory, fd: int) -> None:
        """Watch and read a directory and all below."""
        if len(self) >= self._directories_max:
            raise UnwatchableError(
                f"there are more than {self._directories_max} directories: raise "
                "[memory] watched_directories_max"
            )
        self._check_device(fd)
        directory.watch = self._inotify.add(fd)
        if directory.watch is None:
            self._unwatched.add(directory)
        else:
            self._watched[directory.watch] = directory
        for name in self._read(directory, fd):
            self._enter_child(directory, name, fd)

    def _enter_child(self, parent: Directory, name: str, parent_fd: int) -> None:
        fd = open_directory(name, parent_fd)
        if fd is None:
            return
        try:
            child = Directory(name, parent)
            # Above its own: what failed halfway is found when the tree is closed.
            parent.children[name] = child
            self._enter(child, fd)
        finally:
            close_file(fd)

    def _check_device(self, fd: int) -> None:
        device = os.fstat(fd).st_dev
        if device not in self._devices:
            magic = filesystem_type(fd)
            if magic not in LOCAL_TYPES:
                known = "; ".join(LOCAL_TYPES.values())
                raise UnwatchableError(
                    f"some of it lies on a file system (type {magic:#x}) whose changes are not all "
                    f"told to this kernel's inotify(7), as they are on {known}"
                )
            self._devices.add(device)

    def _leave(self, pending: dict[int, dict[bytes, int]]) -> dict[Directory, set[str]]:
        """Drop the directories that may have been replaced. Returns the names to enter again."""
        entered: dict[Directory, set[str]] = {}
        for directory in [*self._unwatched]:
            if directory.parent is not None:
                self._forget(directory.parent, directory.name, entered)
        for watch, names in pending.items():
            for name, mask in names.items():
                parent = self._watched.get(watch)
                if parent is None:
                    break
                text = os.fsdecode(name)
                if text in parent.children or (mask & IN_ISDIR and parent.may_hold(text)):
                    self._forget(parent, text, entered)
        return entered

    def _forget(self, parent: Directory, name: str, entered: dict[Directory, set[str]]) -> None:
        """Drop a directory and all below, and note its name in `entered` to look at it again."""
        entered.setdefault(parent, set()).add(name)
        child = parent.children.pop(name, None)
        if parent.depth == ROOT:
            self.changed[name] = None
        if child is None:
            return
        self._mark(child)
        leaving = [child]
        while leaving:
            directory = leaving.pop()
            leaving += directory.children.values()
            if directory.watch is not None:
                del self._watched[directory.watch]
                self._inotify.remove(directory.watch)
            self._unwatched.discard(directory)
            self._linked.discard(directory)
            directory.parent, directory.children = None, {}

    def _is_here(self, directory: Directory) -> bool:
        return directory is self.root or directory.parent is not None

    def _mark(self, directory: Directory) -> None:
        if directory.depth == EXCHANGE:
            self.changed.setdefault(directory.name, set())
        elif directory.depth >= SYMBOL:
            exchange, symbol, *_ = directory.way()
            symbols = self.changed.setdefault(exchange.name, set())
            if symbols is not None:
                symbols.add(symbol.name)


def _identity(root_fd: int) -> tuple[int, int, bytes]:
    """Which directory the root is, and where: mounts are found by its path."""
    status = os.fstat(root_fd)
    return status.st_dev, status.st_ino, os.readlink(b"/proc/self/fd/%d" % root_fd)
