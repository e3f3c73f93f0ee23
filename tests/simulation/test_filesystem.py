"""The simulated file system against the real one: what the simulator assumes of Linux is true."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.clock import Clock
from tests.simulation.filesystem import FileSystem, failure
from tests.simulation.kernel import FakeOs, Kernel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
NAMES = ("f", "g", "d", "d/f", "d/e", "d/e/f", "link", "link/f", "f/x", "loop")


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives: its value, or the name of its error."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Pair:
    """One tree on disk and the same one simulated."""

    def __init__(self, root: str, seed: int) -> None:
        self.root = root
        self.clock = Clock(10**18)
        self.files = FileSystem(self.clock)
        self.kernel = Kernel(self.clock, self.files, random.Random(seed))
        self.fake = FakeOs(self.kernel)
        self.files.make_folder("/r/d/e")
        os.makedirs(f"{root}/d/e")
        self.link("loop", "loop")
        self.link("link", "d")
        self.write("f", b"abcdef", 4)
        self.write("d/f", b"ghijkl", 2)

    def write(self, name: str, stream: bytes, size: int) -> None:
        """A file in both."""
        self.files.make_file(f"/r/{name}", stream, size)
        with open(f"{self.root}/{name}", "wb") as file:
            file.write(stream[:size])

    def link(self, name: str, target: str) -> None:
        """A symbolic link in both."""
        self.files.make_link(f"/r/{name}", target)
        os.symlink(target, f"{self.root}/{name}")

    def change(self, rng: random.Random) -> None:
        """One change to both, the same."""
        files = [path for path in self.files.states[-1].files if not path.endswith(".x")]
        path = rng.choice(sorted(files))
        real = self.root + path[len("/r") :]
        node = self.files.find(path)
        kind = rng.randrange(4)
        if kind == 0:
            size = rng.randint(0, len(node.stream))
            content = node.stream[:size]
            self.files.resize(path, size)
            with open(real, "r+b") as file:
                file.truncate(0)
                file.write(content)
        elif kind == 1:
            self.files.make_file(path + ".x", b"replaced", 8)
            with open(real + ".x", "wb") as file:
                file.write(b"replaced")
            self.files.rename(path + ".x", path)
            os.rename(real + ".x", real)
        elif kind == 2 and len(files) > 1:
            self.files.remove(path)
            os.unlink(real)
        elif "/r/d" in self.files.states[-1].folders:
            self.files.rename("/r/d", "/r/g")
            os.rename(f"{self.root}/d", f"{self.root}/g")
        else:
            self.files.rename("/r/g", "/r/d")
            os.rename(f"{self.root}/g", f"{self.root}/d")

    def look(self, system: Any, root: str, name: str, flags: int) -> list[Any]:
        """Everything the server can learn of a name, in a form that can be compared."""
        found: list[Any] = [outcome(lambda: system.lstat(f"{root}/{name}").st_mode >> 12)]
        root_fd = system.open(root, os.O_RDONLY | os.O_DIRECTORY)
        fd = outcome(lambda: system.open(name, flags, dir_fd=root_fd))
        found.append(
            outcome(lambda: system.stat(name, dir_fd=root_fd, follow_symlinks=False).st_mode >> 12)
        )
        system.close(root_fd)
        if isinstance(fd, str):
            return [*found, fd]
        status = system.fstat(fd)
        found.append(status.st_mode >> 12)
        if flags == READ and status.st_mode >> 12 == 8:
            found += [status.st_size, system.pread(fd, 3, 1), system.pread(fd, 9, 99)]
        elif flags == LIST:
            with system.scandir(fd) as entries:
                found.append(
                    sorted(
                        (e.name, e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False))
                        for e in entries
                    )
                )
        system.close(fd)
        return found


@pytest.mark.parametrize("seed", range(12))
def test_simulated_calls_answer_as_linux_does(tmp_path: Path, seed: int) -> None:
    """open, fstat, lstat, stat, pread and scandir tell the same of the same tree as it changes."""
    pair = Pair(str(tmp_path), seed)
    rng = random.Random(seed)
    for _ in range(15):
        for name in NAMES:
            for flags in (READ, LIST, STEP):
                real = pair.look(os, str(tmp_path), name, flags)
                assert pair.look(pair.fake, "/r", name, flags) == real, (name, flags)
        pair.change(rng)


def test_unlinked_file_is_whole_while_it_is_open(tmp_path: Path) -> None:
    """A descriptor keeps an unlinked file; its number is free only when that is closed."""
    pair = Pair(str(tmp_path), 0)
    fd = pair.fake.open("/r/f", READ)
    number = pair.fake.fstat(fd).st_ino
    pair.files.remove("/r/f")
    pair.files.make_file("/r/n", b"n", 1)
    assert pair.fake.lstat("/r/n").st_ino != number
    assert pair.fake.pread(fd, 9, 0) == b"abcd"
    pair.fake.close(fd)
    pair.files.make_file("/r/m", b"m", 1)
    assert pair.fake.lstat("/r/m").st_ino == number


@pytest.mark.parametrize("how", ["append", "replace", "create", "remove", "folder"])
def test_change_times_move_where_those_of_linux_do(tmp_path: Path, how: str) -> None:
    """Each change moves the change time of the file, of its folder, of both or of neither."""
    pair = Pair(str(tmp_path), 0)
    real = str(tmp_path)

    def times(system: Any, root: str) -> tuple[int, int]:
        return system.lstat(f"{root}/d/f").st_ctime_ns, system.lstat(f"{root}/d").st_ctime_ns

    before = times(pair.fake, "/r"), times(os, real)
    pair.clock.now_ns += 10**9
    _wait_for_a_tick(real)
    if how == "append":
        pair.files.resize("/r/d/f", 3)
        with open(f"{real}/d/f", "ab") as file:
            file.write(b"i")
    elif how == "replace":
        pair.write("d/h", b"h", 1)
        pair.files.rename("/r/d/h", "/r/d/f")
        os.rename(f"{real}/d/h", f"{real}/d/f")
    elif how == "create":
        pair.write("d/h", b"h", 1)
    elif how == "remove":
        pair.files.remove("/r/d/e")
        os.rmdir(f"{real}/d/e")
    else:
        pair.files.rename("/r/d", "/r/x")
        os.rename(f"{real}/d", f"{real}/x")
        pair.files.rename("/r/x", "/r/d")
        os.rename(f"{real}/x", f"{real}/d")
    after = times(pair.fake, "/r"), times(os, real)
    moved = [
        tuple(b < a for b, a in zip(*both, strict=True)) for both in zip(before, after, strict=True)
    ]
    assert moved[0] == moved[1]


def _wait_for_a_tick(folder: str) -> None:
    """Until the clock of the real file system has moved on since the last change in `folder`."""
    start = max(os.lstat(f"{folder}/{name}").st_ctime_ns for name in ("d", "d/f", "d/e"))
    probe = f"{folder}/probe"
    while True:
        with open(probe, "wb") as file:
            file.write(b"p")
        if os.lstat(probe).st_ctime_ns > start:
            os.unlink(probe)
            return
        os.unlink(probe)


def test_failure_is_what_cpython_raises() -> None:
    """An errno becomes the subclass of OSError that its call would raise."""
    assert isinstance(failure(errno.EAGAIN), BlockingIOError)
    assert isinstance(failure(errno.ECONNRESET), ConnectionResetError)
    assert isinstance(failure(errno.ENOENT), FileNotFoundError)
