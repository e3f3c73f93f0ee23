"""`CacheDirectory`: whole files under their names, one flight, bounded, held while open."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.storage.trees import SERIES
from zerocopy.core.errors import StoreError
from zerocopy.storage.store.cache import CacheDirectory
from zerocopy.storage.store.objectstore import Entry
from zerocopy.storage.tree import close_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAME = "price.01.01.25.bin"
CONTENT = b"0123456789" * 10
ENTRY = Entry(len(CONTENT), 1_700_000_000_123_456_789, '"tag"')
GENEROUS = 1 << 30

KILLED = """
import os, sys
from tests.storage.store.test_cache import CONTENT, ENTRY, NAME, SERIES, CacheDirectory

def read_into(fd):
    os.pwrite(fd, CONTENT[:50], 0)
    print("half", flush=True)
    sys.stdin.read()

CacheDirectory(sys.argv[1], 1 << 30).fill(SERIES, NAME, ENTRY, read_into)
"""


def writes(content: bytes = CONTENT) -> Callable[[int], None]:
    """What fetches `content`."""

    def read_into(fd: int) -> None:
        os.pwrite(fd, content, 0)

    return read_into


def fails(number: int) -> Callable[[int], None]:
    """What cannot be written."""

    def read_into(fd: int) -> None:
        os.pwrite(fd, CONTENT[:50], 0)
        raise OSError(number, os.strerror(number))

    return read_into


def content_of(fd: int | None) -> bytes:
    """All of a descriptor, which is closed."""
    assert fd is not None
    try:
        return os.pread(fd, 10_000, 0)
    finally:
        close_file(fd)


def number(index: int) -> str:
    """The name of one of many files."""
    return f"price.{index + 1:02}.01.25.bin"


def names(path: Path) -> list[str]:
    """Every file of a series below, temporary ones too."""
    return sorted(each.name for each in (path / "data").rglob("*") if each.is_file())


def test_file_is_fetched_once_however_many_ask(tmp_path: Path) -> None:
    """Threads of two caches over one directory, as of two workers; the second asks no store."""
    caches = [CacheDirectory(str(tmp_path), GENEROUS) for _ in range(2)]
    flights: list[int] = []
    all_ask = threading.Barrier(8)

    def read_into(fd: int) -> None:
        flights.append(fd)
        os.pwrite(fd, CONTENT, 0)

    def ask(cache: CacheDirectory) -> bytes:
        all_ask.wait()
        return content_of(cache.fill(SERIES, NAME, ENTRY, read_into))

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, caches * 4)) == {CONTENT}
    assert len(flights) == 1
    assert names(tmp_path) == [NAME]


def test_waiting_for_a_file_does_not_outlast_its_arrival(tmp_path: Path) -> None:
    """Those who waited get it while the one who fetched it still holds it open."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    begun, go = threading.Event(), threading.Event()

    def read_into(fd: int) -> None:
        begun.set()
        assert go.wait(30)
        os.pwrite(fd, CONTENT, 0)

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(cache.fill, SERIES, NAME, ENTRY, read_into)
        assert begun.wait(30)
        waiting = [threads.submit(cache.fill, SERIES, NAME, ENTRY, writes(b"")) for _ in range(2)]
        go.set()
        fds = [future.result(30) for future in (first, *waiting)]
    assert [content_of(fd) for fd in fds] == [CONTENT] * 3


def test_copy_survives_and_is_believed_only_of_what_it_is_a_copy_of(tmp_path: Path) -> None:
    """Another length or another time of the store is another file."""
    close_file(CacheDirectory(str(tmp_path), GENEROUS).fill(SERIES, NAME, ENTRY, writes()))
    again = CacheDirectory(str(tmp_path), GENEROUS)
    assert content_of(again.open(SERIES, NAME, ENTRY)) == CONTENT
    assert again.open(SERIES, NAME, ENTRY._replace(modified_ns=ENTRY.modified_ns + 1)) is None
    assert again.open(SERIES, NAME, ENTRY._replace(size=99)) is None
    assert again.open(SERIES, number(7), ENTRY) is None


@pytest.mark.parametrize("ruin", ["overwritten", "truncated", "grown", "removed", "a directory"])
def test_copy_that_somebody_ruined_is_fetched_again(tmp_path: Path, ruin: str) -> None:
    """Whatever moves its length or its time."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    close_file(cache.fill(SERIES, NAME, ENTRY, writes()))
    path = tmp_path / "data" / "/".join(SERIES) / NAME
    if ruin == "overwritten":
        path.write_bytes(b"x" * len(CONTENT))
    elif ruin == "truncated":
        os.truncate(path, 10)
    elif ruin == "grown":
        path.write_bytes(CONTENT + b"x")
    else:
        path.unlink()
        if ruin == "a directory":
            path.mkdir()
    assert cache.open(SERIES, NAME, ENTRY) is None
    if ruin == "a directory":
        with pytest.raises(StoreError):
            cache.fill(SERIES, NAME, ENTRY, writes())
    else:
        assert content_of(cache.fill(SERIES, NAME, ENTRY, writes())) == CONTENT


def test_least_recently_used_go_first_down_to_seven_eighths(tmp_path: Path) -> None:
    """A use counts even where the file system writes no access times."""
    cache = CacheDirectory(str(tmp_path), 10 * len(CONTENT))
    for index in range(8):
        entry = ENTRY._replace(modified_ns=ENTRY.modified_ns + index)
        close_file(cache.fill(SERIES, number(index), entry, writes()))
        used_ns = (1_000 + index) * 10**9
        path = tmp_path / "data" / "/".join(SERIES) / number(index)
        os.utime(path, ns=(used_ns, entry.modified_ns))
    assert content_of(cache.open(SERIES, number(0), ENTRY)) == CONTENT
    close_file(cache.fill(SERIES, number(8), ENTRY, writes()))
    kept = names(tmp_path)
    assert len(kept) * len(CONTENT) <= 10 * len(CONTENT) * 7 // 8
    assert number(0) in kept
    assert number(8) in kept
    assert number(1) not in kept


def test_open_file_is_not_deleted(tmp_path: Path) -> None:
    """It is held until its last descriptor is closed, a duplicate too."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    fd = cache.fill(SERIES, NAME, ENTRY, writes())
    lent = os.dup(fd)
    assert cache.trim(0).deleted == 0
    close_file(fd)
    assert cache.trim(0).deleted == 0
    assert content_of(lent) == CONTENT
    assert cache.trim(0).deleted == 1
    assert names(tmp_path) == []


def test_bound_holds_where_the_oldest_files_are_open(tmp_path: Path) -> None:
    """Others go in their place; and an open file is one that is used."""
    cache = CacheDirectory(str(tmp_path), 10 * len(CONTENT))
    held = []
    for index in range(30):
        fd = cache.fill(SERIES, number(index), ENTRY, writes())
        held.append(fd) if index < 6 else close_file(fd)
        path = tmp_path / "data" / "/".join(SERIES) / number(index)
        os.utime(path, ns=((1_000 + index) * 10**9, ENTRY.modified_ns))
    assert len(names(tmp_path)) <= 10
    assert names(tmp_path)[:6] == [number(index) for index in range(6)]
    for fd in held:
        close_file(fd)
    close_file(cache.fill(SERIES, number(30), ENTRY, writes()))
    assert number(0) in names(tmp_path)


def test_disk_that_is_smaller_than_the_bound_makes_room(tmp_path: Path) -> None:
    """Half of what is there goes."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    for index in range(4):
        close_file(cache.fill(SERIES, number(index), ENTRY, writes()))
    tries = iter([fails(errno.ENOSPC), writes()])
    close_file(cache.fill(SERIES, number(9), ENTRY, lambda out: next(tries)(out)))  # noqa: PLW0108
    assert len(names(tmp_path)) == 2


def test_killed_while_fetching_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    """The next one takes over, at once; so does a trim."""
    repository = os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=repository,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.kill()
        process.wait()
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    assert cache.open(SERIES, NAME, ENTRY) is None
    assert names(tmp_path) == [f".{NAME}.part"]
    assert content_of(cache.fill(SERIES, NAME, ENTRY, writes())) == CONTENT
    assert names(tmp_path) == [NAME]


def test_trim_deletes_what_was_left_over_and_nothing_foreign(tmp_path: Path) -> None:
    """Only names of day files, and of their beginnings, are the cache's."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    directory = tmp_path / "data" / "/".join(SERIES)
    directory.mkdir(parents=True)
    for name in (f".{NAME}.part", NAME, "notes.txt", ".hidden"):
        (directory / name).write_bytes(b"x")
    cache.trim(0)
    assert names(tmp_path) == [".hidden", "notes.txt"]


def test_trim_leaves_what_is_being_fetched(tmp_path: Path) -> None:
    """As another process would; a temporary name alone does not make it left over."""
    cache, other = (CacheDirectory(str(tmp_path), GENEROUS) for _ in range(2))
    seen: list[list[str]] = []

    def read_into(fd: int) -> None:
        os.pwrite(fd, CONTENT, 0)
        other.trim(0)
        seen.append(names(tmp_path))

    assert content_of(cache.fill(SERIES, NAME, ENTRY, read_into)) == CONTENT
    assert seen == [[f".{NAME}.part"]]
    assert names(tmp_path) == [NAME]


def test_full_disk_makes_room_once_and_then_says_so(tmp_path: Path) -> None:
    """Half of the cache goes; where that does not help it is an error, and no piece is left."""
    cache = CacheDirectory(str(tmp_path), 4 * len(CONTENT))
    for index in range(3):
        close_file(cache.fill(SERIES, number(index), ENTRY, writes()))
    tries = iter([fails(errno.ENOSPC), writes()])
    fd = cache.fill(SERIES, number(9), ENTRY, lambda out: next(tries)(out))  # noqa: PLW0108
    assert content_of(fd) == CONTENT
    assert len(names(tmp_path)) == 2
    with pytest.raises(StoreError, match="full"):
        cache.fill(SERIES, number(20), ENTRY, fails(errno.ENOSPC))
    assert not any(name.startswith(".") for name in names(tmp_path))
    with pytest.raises(StoreError, match="written"):
        cache.fill(SERIES, number(20), ENTRY, fails(errno.EIO))


def test_use_is_noted_and_leaves_the_time_of_the_store_alone(tmp_path: Path) -> None:
    """By the access time."""
    cache = CacheDirectory(str(tmp_path), GENEROUS)
    close_file(cache.fill(SERIES, NAME, ENTRY, writes()))
    path = tmp_path / "data" / "/".join(SERIES) / NAME
    os.utime(path, ns=(10**9, ENTRY.modified_ns))
    close_file(cache.open(SERIES, NAME, ENTRY) or -1)
    assert abs(path.stat().st_atime - time.time()) < 60
    assert path.stat().st_mtime_ns == ENTRY.modified_ns
