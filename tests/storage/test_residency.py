"""`PageCache`: what is in memory is told exactly and never promised too much; reading in works."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from zerocopy.core.errors import DataError
from zerocopy.storage.residency import SCRATCH_BYTES, UNKNOWN, Cachestat, PageCache
from zerocopy.storage.watch.mounts import TMPFS, filesystem_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = mmap.PAGESIZE
NBYTES = 3 << 20


def wanted() -> bool:
    """Nobody has cancelled."""
    return False


@pytest.fixture(name="fd")
def fixture_fd(tmp_path: Path) -> Iterator[int]:
    """A file on the disk of the tests, written through."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(NBYTES))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    yield fd
    os.close(fd)


def without_cachestat(_fd: int, _offset: int, _count: int) -> int:
    """An old kernel, or one that does not tell us."""
    return UNKNOWN


def test_what_was_read_is_resident_to_the_byte(fd: int) -> None:
    """Any range of it, with cachestat(2) and without."""
    os.pread(fd, NBYTES, 0)
    for cache in (PageCache(), PageCache(without_cachestat)):
        for offset, count in ((0, 1), (0, NBYTES), (PAGE - 1, 2), (SCRATCH_BYTES + 7, 900_000)):
            assert cache.resident(fd, offset, count) == count


@pytest.fixture(name="shared_memory")
def fixture_shared_memory() -> Iterator[int]:
    """A file on tmpfs, in which RWF_NOWAIT is not known."""
    with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        if filesystem_type(file.fileno()) != TMPFS:
            pytest.skip("/dev/shm is no tmpfs here")
        file.write(os.urandom(NBYTES))
        file.flush()
        yield file.fileno()


def test_what_lies_in_memory_alone_is_given_at_once(shared_memory: int) -> None:
    """On tmpfs no thread is needed, as long as cachestat(2) says that nothing is in swap."""
    cache, view = PageCache(), memoryview(bytearray(70_000))
    if Cachestat()(shared_memory, 0, 1) == UNKNOWN:
        pytest.skip("the kernel has no cachestat(2)")
    assert cache.read_now(shared_memory, 5, view)
    assert bytes(view) == os.pread(shared_memory, len(view), 5)
    assert cache.resident(shared_memory, 0, NBYTES) == NBYTES
    assert not cache.read_now(shared_memory, NBYTES - 5, view), "the file ends before that"
    for count_cached in (without_cachestat, lambda _fd, _offset, _count: 1):
        assert not PageCache(count_cached).read_now(shared_memory, 0, view)


@pytest.mark.parametrize("cached", range(9))
def test_resident_is_the_part_before_the_first_missing_page(fd: int, cached: int) -> None:
    """Never more than is there; something of it wherever the first page is there."""
    os.pread(fd, NBYTES, 0)

    def count_cached(_fd: int, offset: int, count: int) -> int:
        first, last = offset // PAGE, (offset + count - 1) // PAGE
        return max(0, min(last + 1, cached) - first)

    cache = PageCache(count_cached)
    for offset in (0, 5, PAGE + 1):
        told = cache.resident(fd, offset, 8 * PAGE)
        there = min(max(0, cached * PAGE - offset), 8 * PAGE)
        assert told <= there
        assert bool(told) == bool(there)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [1, SCRATCH_BYTES, NBYTES])
def test_read_in_makes_a_dropped_range_resident(fd: int, count: int, *, known: bool) -> None:
    """What the kernel was asked to drop is there again, and was counted if it was missing."""
    cache = PageCache() if known else PageCache(without_cachestat)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    before = cache.resident(fd, 0, count)
    missing = cache.read_in(fd, 0, count, wanted)
    assert cache.resident(fd, 0, count) == count
    assert 0 <= missing <= count
    assert bool(missing) or before or known is False
    assert cache.read_in(fd, 0, count, wanted) == 0


def test_read_in_that_nobody_wants_reads_nothing(fd: int) -> None:
    """It looks before each piece."""
    asked: list[int] = []

    def unwanted() -> bool:
        asked.append(1)
        return True

    PageCache().read_in(fd, 0, NBYTES, unwanted)
    assert asked == [1]


def test_read_in_ends_where_the_file_ends(fd: int) -> None:
    """A file that was truncated holds nobody up: whoever sends it will find out."""
    os.ftruncate(fd, 100_000)
    assert PageCache().read_in(fd, 0, NBYTES, wanted) <= NBYTES


def test_read_in_of_what_cannot_be_read_is_a_data_error(tmp_path: Path) -> None:
    """A directory stands for a disk that fails."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(DataError):
            PageCache().read_in(fd, 0, 10, wanted)
    finally:
        os.close(fd)


def test_cachestat_of_no_file_is_unknown() -> None:
    """Whatever the kernel says but a number is no answer."""
    assert Cachestat()(-1, 0, PAGE) == UNKNOWN
