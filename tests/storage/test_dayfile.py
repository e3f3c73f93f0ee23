"""`DayFile`, `OpenFiles` and `TimeFile`: identity, bounds, and what a changed file does."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.storage.trees import (
    SERIES,
    append,
    folder,
    marks,
    path_of,
    put,
    replace,
    u32,
)
from zerocopy.core.errors import DataChangedError, DataError, OverloadError
from zerocopy.core.timeindex import lower_bound, upper_bound
from zerocopy.storage.dayfile import DayFile, OpenFiles, TimeFile
from zerocopy.storage.pread import read_exactly
from zerocopy.storage.tree import open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLUMNS = [f"c{index}" for index in range(8)]


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path) -> str:
    """One day of eight columns of four records."""
    root = str(tmp_path)
    put(root, {column: marks(4, base=10 * index) for index, column in enumerate(COLUMNS)})
    return root


@pytest.fixture(name="files")
def fixture_files(root: str) -> Iterator[OpenFiles]:
    """At most three open files; none is left open."""
    before = held_files()
    files = OpenFiles(root, 3)
    yield files
    files.close()
    assert len(files) == 0
    assert not held_files() - before


def planned(
    files: OpenFiles, column: str = "c0", *, is_closed: bool = False
) -> tuple[DayFile, int]:
    """A day file as planning makes it, with a descriptor of its own."""
    name = os.path.basename(path_of(files.root, column))
    with open_series(files.root, SERIES) as directory_fd:
        fd, status = open_file(directory_fd, name)
    return DayFile(files, SERIES, name, status, is_closed=is_closed), fd


def adopted(files: OpenFiles, column: str = "c0", *, is_closed: bool = False) -> DayFile:
    """A day file whose descriptor was handed over."""
    day_file, fd = planned(files, column, is_closed=is_closed)
    files.adopt(day_file, fd)
    return day_file


def evict(files: OpenFiles) -> None:
    """Open others until nothing of before is open."""
    for column in COLUMNS[-3:]:
        adopted(files, column)


def test_read_gives_exactly_the_bytes_asked_for(files: OpenFiles) -> None:
    """Any offset and count inside the file."""
    day_file = adopted(files)
    assert day_file.read(0, 16) == marks(4)
    assert day_file.read(4, 8) == marks(2, base=1)
    assert day_file.read(15, 1) == b"\0"


def test_fileno_of_one_file_is_one_descriptor(files: OpenFiles) -> None:
    """Two plans of the same file share a descriptor; the second one handed over is closed."""
    first, second = adopted(files), adopted(files)
    assert first.fileno() == second.fileno()
    assert len(files) == 1


def test_open_files_never_exceed_their_bound(files: OpenFiles) -> None:
    """In any order of use, adopted or reopened, there are at most three descriptors."""
    chance = random.Random(3)
    before = held_files()
    day_files = [adopted(files, column) for column in COLUMNS]
    for _ in range(300):
        column = chance.randrange(len(COLUMNS))
        if chance.random() < 0.3:
            day_files[column] = adopted(files, COLUMNS[column])
        assert day_files[column].read(0, 4) == u32(10 * column)
        assert 1 <= len(files) <= 3
        assert len(held_files() - before) <= 3


def test_open_files_close_the_least_recently_used(files: OpenFiles) -> None:
    """Use keeps a file open; the one not used for longest goes."""
    first, second, third = (adopted(files, column) for column in COLUMNS[:3])
    fds = {day_file: day_file.fileno() for day_file in (second, third, first)}
    adopted(files, COLUMNS[3])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[second])
    assert first.fileno() == fds[first]
    assert third.fileno() == fds[third]


def test_open_files_bound_of_one_still_serves_all(root: str) -> None:
    """The smallest cache: each use reopens, and the bytes are right."""
    files = OpenFiles(root, 1)
    day_files = [adopted(files, column) for column in COLUMNS]
    for _ in range(3):
        for index, day_file in enumerate(day_files):
            assert day_file.read(0, 16) == marks(4, base=10 * index)
            assert len(files) == 1
    files.close()


def test_sweep_closes_what_was_not_used_since_the_sweep_before_the_last(files: OpenFiles) -> None:
    """Used files stay open; unused ones go at the third sweep."""
    used = adopted(files, "c0", is_closed=True)
    unused = adopted(files, "c1", is_closed=True)
    for _ in range(2):
        files.sweep()
        used.fileno()
        assert len(files) == 2
    files.sweep()
    assert len(files) == 1
    assert unused.read(0, 4) == u32(10)
    assert len(files) == 2
    for _ in range(3):
        files.sweep()
    assert len(files) == 0


def test_sweep_keeps_files_of_an_open_day_for_an_hour(files: OpenFiles, root: str) -> None:
    """A slow transfer reaches them late, when they have grown and could not be opened again."""
    day_file = adopted(files)
    for _ in range(180):
        files.sweep()
    append(path_of(root, "c0"), marks(3, base=4))
    assert day_file.read(0, 16) == marks(4)
    for _ in range(181):
        files.sweep()
    assert len(files) == 0


def test_descriptor_of_a_closed_day_is_evicted_before_one_of_an_open_day(root: str) -> None:
    """However long ago the open day's was used: the other can be opened again."""
    files = OpenFiles(root, 2)
    day_file, closed = adopted(files, "c0"), adopted(files, "c1", is_closed=True)
    assert closed.read(0, 4) == u32(10)
    adopted(files, "c2", is_closed=True)
    append(path_of(root, "c0"), marks(3, base=4))
    assert day_file.read(0, 16) == marks(4)
    files.close()


def test_sweep_frees_a_deleted_file(files: OpenFiles, root: str) -> None:
    """After three sweeps nothing holds the blocks of a file that was removed."""
    fd = adopted(files, is_closed=True).fileno()
    os.unlink(path_of(root, "c0"))
    assert os.readlink(f"/proc/self/fd/{fd}").endswith("(deleted)")
    for _ in range(3):
        files.sweep()
    assert not os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "evicted"])
def test_fileno_truncated_file_is_changed(
    files: OpenFiles, root: str, *, is_closed: bool, is_open: bool
) -> None:
    """A file shorter than planned is never sent from, open or reopened."""
    day_file = adopted(files, is_closed=is_closed)
    if not is_open:
        evict(files)
    os.truncate(path_of(root, "c0"), 15)
    with pytest.raises(DataChangedError):
        day_file.fileno()


@pytest.mark.parametrize("is_closed", [True, False])
def test_fileno_replaced_while_open_is_still_the_old_file(
    files: OpenFiles, root: str, *, is_closed: bool
) -> None:
    """Rename leaves the planned file as it was for whoever has it open."""
    day_file = adopted(files, is_closed=is_closed)
    replace(path_of(root, "c0"), marks(4, base=99))
    assert day_file.read(0, 16) == marks(4)


@pytest.mark.parametrize("is_closed", [True, False])
def test_fileno_replaced_after_eviction_is_changed(
    files: OpenFiles, root: str, *, is_closed: bool
) -> None:
    """The same name is another file now: same size and time do not make it the planned one."""
    day_file = adopted(files, is_closed=is_closed)
    evict(files)
    path = path_of(root, "c0")
    replace(path, marks(4, base=99), os.stat(path).st_mtime_ns)
    before = held_files()
    with pytest.raises(DataChangedError):
        day_file.fileno()
    assert not held_files() - before


@pytest.mark.parametrize("gone", ["file", "type", "root"])
def test_fileno_removed_after_eviction_is_changed(files: OpenFiles, root: str, gone: str) -> None:
    """What cannot be opened again cannot be sent; nothing leaks."""
    day_file = adopted(files)
    evict(files)
    path = {"file": path_of(root, "c0"), "type": folder(root), "root": root}[gone]
    os.rename(path, path + ".gone")
    before = held_files()
    with pytest.raises(DataChangedError):
        day_file.fileno()
    assert not held_files() - before
    os.rename(path + ".gone", path)
    if gone == "file":  # its change time moved, as that of another file would have
        with pytest.raises(DataChangedError):
            day_file.fileno()
    else:
        assert day_file.read(0, 4) == u32(0)


def test_fileno_link_in_its_place_is_changed(files: OpenFiles, root: str) -> None:
    """Even a link to the very same file is not followed."""
    day_file = adopted(files)
    evict(files)
    path = path_of(root, "c0")
    os.rename(path, path + ".away")
    os.symlink(path + ".away", path)
    with pytest.raises(DataChangedError):
        day_file.fileno()


def test_fileno_grown_file_of_an_open_day_is_fine(files: OpenFiles, root: str) -> None:
    """A recorder appends: what was planned is still there."""
    day_file = adopted(files)
    append(path_of(root, "c0"), marks(3, base=4))
    assert day_file.read(0, 16) == marks(4)


def test_fileno_file_of_an_open_day_that_grew_after_eviction_is_changed(
    files: OpenFiles, root: str
) -> None:
    """Its inode number may have gone to another file, and nothing else could tell."""
    day_file = adopted(files)
    evict(files)
    append(path_of(root, "c0"), marks(3, base=4))
    with pytest.raises(DataChangedError):
        day_file.fileno()


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "evicted"])
@pytest.mark.parametrize("change", ["grown", "touched", "overwritten"])
def test_fileno_sealed_file_that_differs_at_all_is_changed(
    files: OpenFiles, root: str, change: str, *, is_open: bool
) -> None:
    """A closed day's file must be exactly what was planned."""
    path = path_of(root, "c0")
    os.utime(path, (1, 1))
    day_file = adopted(files, is_closed=True)
    assert day_file.read(0, 16) == marks(4)
    if not is_open:
        evict(files)
    if change == "grown":
        append(path, marks(1))
    elif change == "touched":
        os.utime(path, (2, 2))
    else:
        with open(path, "r+b") as file:
            file.write(marks(1, base=5))
    with pytest.raises(DataChangedError):
        day_file.fileno()


def test_descriptor_out_of_descriptors_is_a_data_error(
    files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reopening that fails for want of descriptors ends the transfer, and leaks none."""
    day_file = adopted(files)
    evict(files)
    before = held_files()

    def refuse(*_args: Any, **_kwargs: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises((DataError, OverloadError)):
            day_file.fileno()
    assert not held_files() - before
    assert day_file.read(0, 4) == u32(0)


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "evicted"])
def test_descriptor_fstat_that_fails_is_a_data_error(
    files: OpenFiles, monkeypatch: pytest.MonkeyPatch, *, is_open: bool
) -> None:
    """EIO and ESTALE of a network file system cut the transfer off; the cause is kept."""
    day_file = adopted(files)
    if not is_open:
        evict(files)
    before = held_files()

    def fail(*_args: Any) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(DataError) as caught:
            day_file.fileno()
    assert isinstance(caught.value.__cause__, OSError)
    assert "nput/output" not in caught.value.detail
    assert not held_files() - before
    assert day_file.read(0, 4) == u32(0)


def test_read_exactly_past_the_end_is_changed(files: OpenFiles) -> None:
    """Fewer bytes than asked for means that the file is not what it was."""
    day_file = adopted(files)
    with pytest.raises(DataChangedError):
        read_exactly(day_file.fileno(), 12, 5)
    with pytest.raises(DataChangedError):
        day_file.read(16, 1)


def test_read_exactly_failing_disk_is_a_data_error(
    files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO is our fault, and says so without its own wording."""
    day_file = adopted(files)

    def fail(*_args: Any) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(DataError) as caught:
            day_file.read(0, 4)
    assert "nput/output" not in caught.value.detail


def test_time_file_is_a_column_of_seconds(root: str) -> None:
    """Length, single records and windows, and the search over them, to the last second."""
    times = [0, 0, 5, 5, 5, 4_294_967_295]
    put(root, {"time": u32(*times) + b"\xff\xff"})
    with open(path_of(root, "time"), "rb") as file:
        column = TimeFile(file.fileno(), len(times))
        assert len(column) == 6
        assert [column.at(index) for index in range(6)] == times
        assert list(column.window(1, 5)) == times[1:5]
        assert list(column.window(3, 3)) == []
        assert [lower_bound(column, key) for key in (0, 1, 5, 6, 4_294_967_295)] == [0, 2, 2, 5, 5]
        assert [upper_bound(column, key) for key in (0, 4, 5, 4_294_967_295)] == [2, 2, 5, 6]


def test_time_file_truncated_while_searched_is_changed(root: str) -> None:
    """A search beyond the end of the file raises; it never makes up a time."""
    put(root, {"time": u32(*range(10))})
    with open(path_of(root, "time"), "rb") as file:
        column = TimeFile(file.fileno(), 10)
        os.truncate(path_of(root, "time"), 20)
        assert column.at(4) == 4
        with pytest.raises(DataChangedError):
            column.at(5)
        with pytest.raises(DataChangedError):
            column.window(3, 7)
