"""A file system in memory that keeps every state it was in.

Owns names, inodes, times and sizes, as Linux has them: an inode lives while a name or a descriptor
has it, its number is given to the next new file at once, and times move by the kernel's coarse
clock. In memory, because on a real one neither change times nor inode numbers can come from a
seed, and the states of a moment ago could not be looked at. `test_filesystem` proves it against a
real one.

The bytes of a file are a prefix of a stream. So appending gives more of it, and a file cut short
and grown again has its old bytes; only `rewrite` changes bytes in place.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.clock import Clock

DEVICE = 1
DIRECTORY_BYTES = 4_096
LINKS_MAX = 8


def failure(code: int) -> OSError:
    """The exception CPython makes of an errno."""
    return OSError(code, os.strerror(code))


@dataclass(eq=False, slots=True)
class Node:
    """An inode: a file (`stream`, `size`), a directory (`entries`) or a symbolic link."""

    number: int
    stream: bytes = b""
    size: int = 0
    entries: dict[str, Node] | None = None
    target: str | None = None
    modified_ns: int = 0
    changed_ns: int = 0
    names: int = 0
    opened: int = 0

    @property
    def mode(self) -> int:
        """What st_mode tells of the type."""
        if self.entries is not None:
            return stat.S_IFDIR
        return stat.S_IFREG if self.target is None else stat.S_IFLNK


class Status(NamedTuple):
    """The members of stat_result that the package reads."""

    st_mode: int
    st_ino: int
    st_dev: int
    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


class FileState(NamedTuple):
    """One file in one state of the tree."""

    node: Node
    stream: bytes
    size: int
    modified_ns: int

    @property
    def content(self) -> bytes:
        """The bytes it held then."""
        return self.stream[: self.size]


@dataclass(slots=True)
class State:
    """The whole tree at one moment: files by path, the names in each folder, and the links."""

    files: dict[str, FileState] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)


class FileSystem:
    """The tree below `/`; `states[version]` is what it was after so many changes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free: list[int] = []
        self._last = 1
        self._root = Node(1, entries={}, names=1)
        self.states: list[State] = [State(folders={"/": []})]
        self.in_the_making = False

    @property
    def version(self) -> int:
        """How many changes there were."""
        return len(self.states) - 1

    @contextmanager
    def as_one_change(self) -> Iterator[None]:
        """Whatever is changed meanwhile makes one state."""
        self.in_the_making = True
        yield
        self.in_the_making = False
        self._note()

    # ---- looking

    def find(
        self, path: str, at: Node | None = None, *, follow: bool = True, depth: int = 0
    ) -> Node:
        """The node of `path`, from `at` if it is relative.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP, as path_resolution(7) has them.
        """
        node = self._root if at is None or path.startswith("/") else at
        if node.entries is not None and not node.names:
            raise failure(errno.ENOENT)  # a directory that was removed holds nothing
        parts = [part for part in path.split("/") if part]
        for index, part in enumerate(parts):
            if node.entries is None:
                raise failure(errno.ENOTDIR)
            child = node.entries.get(part)
            if child is None:
                raise failure(errno.ENOENT)
            if child.target is not None and (follow or index < len(parts) - 1):
                if depth > LINKS_MAX:
                    raise failure(errno.ELOOP)
                child = self.find(child.target, node, depth=depth + 1)
            node = child
        return node

    def status(self, node: Node) -> Status:
        """What fstat(2) tells of a node."""
        size = node.size if node.entries is None else DIRECTORY_BYTES
        return Status(node.mode, node.number, DEVICE, size, node.modified_ns, node.changed_ns)

    # ---- changing

    def make_folder(self, path: str) -> None:
        """As mkdir -p."""
        at = self._root
        for part in [part for part in path.split("/") if part]:
            assert at.entries is not None, "a folder"
            if part not in at.entries:
                self._add(at, part, Node(self._number(), entries={}))
            at = at.entries[part]
        self._note()

    def make_file(self, path: str, stream: bytes, size: int) -> None:
        """Write a new file of the first `size` bytes of `stream`; the path must be free."""
        parent, name = self._parent(path)
        self._add(parent, name, Node(self._number(), stream, size))
        self._note()

    def make_link(self, path: str, target: str) -> None:
        """The system call."""
        parent, name = self._parent(path)
        self._add(parent, name, Node(self._number(), target=target, size=len(target)))
        self._note()

    def resize(self, path: str, size: int) -> None:
        """Append or truncate to `size` bytes."""
        node = self.find(path)
        assert node.entries is None, "a file"
        assert size <= len(node.stream), "no longer than its stream"
        node.size = size
        node.modified_ns = node.changed_ns = self._clock.coarse_ns()
        self._note()

    def rewrite(self, path: str, stream: bytes) -> None:
        """Write over the bytes of a file in place."""
        node = self.find(path)
        assert len(stream) == len(node.stream), "the same length"
        node.stream = stream
        node.modified_ns = node.changed_ns = self._clock.coarse_ns()
        self._note()

    def set_modified(self, path: str, modified_ns: int) -> None:
        """The system call, as `cp -p` and rsync use it."""
        node = self.find(path)
        node.modified_ns, node.changed_ns = modified_ns, self._clock.coarse_ns()
        self._note()

    def rename(self, source: str, target: str) -> None:
        """The system call, over what is there."""
        old_parent, old_name = self._parent(source)
        parent, name = self._parent(target)
        assert old_parent.entries is not None, "a folder"
        assert parent.entries is not None, "a folder"
        node = old_parent.entries.pop(old_name)
        replaced = parent.entries.pop(name, None)
        parent.entries[name] = node
        now_ns = self._clock.coarse_ns()
        node.changed_ns = now_ns
        for folder in (old_parent, parent):
            folder.modified_ns = folder.changed_ns = now_ns
        if replaced is not None:
            self._lose_name(replaced)
        self._note()

    def remove(self, path: str) -> None:
        """The system call, or rmdir(2) of a folder with all that is in it."""
        parent, name = self._parent(path)
        assert parent.entries is not None, "a folder"
        self._lose_name(parent.entries.pop(name))
        parent.modified_ns = parent.changed_ns = self._clock.coarse_ns()
        self._note()

    def release(self, node: Node) -> None:
        """A descriptor or a name is gone; the number of what nobody has is free again."""
        if not node.names and not node.opened:
            self._free.append(node.number)

    def _add(self, parent: Node, name: str, node: Node) -> None:
        assert parent.entries is not None, "a folder"
        assert name not in parent.entries, "a free name"
        parent.entries[name] = node
        node.names = 1
        now_ns = self._clock.coarse_ns()
        for touched in (node, parent):
            touched.modified_ns = touched.changed_ns = now_ns

    def _lose_name(self, node: Node) -> None:
        for child in (node.entries or {}).values():
            self._lose_name(child)
        if node.entries is not None:
            node.entries.clear()
        node.names = 0
        node.changed_ns = self._clock.coarse_ns()
        self.release(node)

    def _number(self) -> int:
        if self._free:
            return self._free.pop()
        self._last += 1
        return self._last

    def _parent(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def _note(self) -> None:
        if self.in_the_making:
            return
        state = State()
        self._collect("", self._root, state)
        self.states.append(state)

    def _collect(self, path: str, node: Node, state: State) -> None:
        assert node.entries is not None, "a folder"
        state.folders[path or "/"] = list(node.entries)
        for name, child in node.entries.items():
            below = f"{path}/{name}"
            if child.entries is not None:
                self._collect(below, child, state)
            elif child.target is not None:
                state.links.add(below)
            else:
                state.files[below] = FileState(child, child.stream, child.size, child.modified_ns)
