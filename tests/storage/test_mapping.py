"""`Mapping` and `MappedFiles`: the right file, a bounded pool, and memory that goes when it may."""

from __future__ import annotations

import errno
import gc
import mmap
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.storage.memory import PAGE, REFUSING, FakeLibc, kernel_locked_bytes, mappings_of
from zerocopy.core.errors import DataChangedError
from zerocopy.storage.catalog import Stamp, stamp_of
from zerocopy.storage.libc.memlock import MemoryLocks
from zerocopy.storage.mapping import MappedFiles, Mapping

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("frozen")

CONTENT = os.urandom(3 * PAGE + 100)
LOCKED = 4 * PAGE


@pytest.fixture(name="paths")
def fixture_paths(tmp_path: Path) -> Iterator[list[str]]:
    """Five files; afterwards none is mapped, locked or open."""
    gc.collect()  # what earlier tests left in circles
    before = held_files(), kernel_locked_bytes()
    paths = [str(tmp_path / f"file{index}") for index in range(5)]
    for path in paths:
        with open(path, "wb") as file:
            file.write(CONTENT)
    yield paths
    gc.collect()  # what a failed assertion keeps
    assert [mappings_of(path) for path in paths] == [0] * 5
    assert (held_files() - before[0], kernel_locked_bytes()) == (set(), before[1])


def no_locks() -> MemoryLocks:
    """Locks without a budget."""
    return MemoryLocks(0, print)


def stamp(path: str) -> Stamp:
    """What a plan knows of a file."""
    return stamp_of(os.stat(path))


def mapped(files: MappedFiles, path: str) -> Mapping:
    """Map and keep, as a thread and the event loop do."""
    fd = os.open(path, os.O_RDONLY)
    try:
        mapping = files.map(fd, stamp(path))
    finally:
        os.close(fd)
    assert mapping is not None
    files.keep(mapping)
    return mapping


def has(files: MappedFiles, path: str) -> bool:
    """Whether the pool has a file, without using it."""
    return not files.wants(stamp(path))


def test_view_gives_exactly_the_bytes_asked_for(paths: list[str]) -> None:
    """Any offset and count inside the file, without a copy and read-only."""
    mapping = mapped(MappedFiles(1, no_locks()), paths[0])
    assert mapping.nbytes == len(CONTENT)
    for offset, count in [(0, len(CONTENT)), (0, 1), (PAGE - 1, 2), (len(CONTENT) - 1, 1)]:
        view = mapping.view(offset, count)
        assert view == CONTENT[offset : offset + count]
        assert view.readonly


def test_view_past_the_end_is_changed(paths: list[str]) -> None:
    """A mapping that is too short is never cut to size silently."""
    mapping = mapped(MappedFiles(1, no_locks()), paths[0])
    with pytest.raises(DataChangedError):
        mapping.view(len(CONTENT) - 3, 4)


@pytest.mark.parametrize("change", ["other", "shorter", "longer", "rewritten"])
def test_map_only_the_planned_file(paths: list[str], change: str) -> None:
    """A descriptor of any other file, or of the planned one after a change, is refused."""
    planned = stamp(paths[0])
    os.utime(paths[0])  # moves the change time, as a rewrite does
    if change == "shorter":
        os.truncate(paths[0], PAGE)
    elif change == "longer":
        os.truncate(paths[0], 9 * PAGE)
    fd = os.open(paths[1] if change == "other" else paths[0], os.O_RDONLY)
    try:
        with pytest.raises(DataChangedError):
            MappedFiles(1, no_locks()).map(fd, planned)
    finally:
        os.close(fd)


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EMFILE, errno.ENODEV, errno.EPERM])
def test_map_refused_by_the_system_is_none(
    paths: list[str], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The file can still be read, so nothing is raised."""

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(code, "refused")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with open(paths[0], "rb") as file:
        assert MappedFiles(1, no_locks()).map(file.fileno(), stamp(paths[0])) is None


def test_pool_is_bounded_and_drops_the_least_recently_used(paths: list[str]) -> None:
    """Use keeps a file mapped; the one not used for longest is unmapped at once."""
    files = MappedFiles(3, no_locks())
    for path in paths[:3]:
        mapped(files, path)
    assert files.get(stamp(paths[0])) is not None
    mapped(files, paths[3])
    assert [has(files, path) for path in paths] == [True, False, True, True, False]
    assert [mappings_of(path) for path in paths] == [1, 0, 1, 1, 0]
    assert (len(files), files.mapped_bytes) == (3, 3 * len(CONTENT))
    files.close()
    assert (len(files), files.mapped_bytes) == (0, 0)


def test_pool_keeps_one_mapping_of_a_file(paths: list[str]) -> None:
    """Two threads may map the same file; the second one is let go."""
    files = MappedFiles(3, no_locks())
    first, second = mapped(files, paths[0]), mapped(files, paths[0])
    assert files.get(stamp(paths[0])) is first
    assert mappings_of(paths[0]) == 2
    del second
    assert mappings_of(paths[0]) == 1
    assert (len(files), files.mapped_bytes) == (1, len(CONTENT))


def test_pool_tells_files_apart_by_their_whole_stamp(paths: list[str]) -> None:
    """The same inode after a change is another file."""
    files = MappedFiles(3, no_locks())
    mapped(files, paths[0])
    planned = stamp(paths[0])
    assert files.get(planned) is not None
    assert files.get(planned._replace(changed_ns=planned.changed_ns + 1)) is None
    assert files.get(planned._replace(size=1)) is None


def test_evicted_mapping_lives_as_long_as_a_view_of_it(paths: list[str]) -> None:
    """Bytes in flight stay readable after eviction, close and removal; then they are unmapped."""
    files = MappedFiles(1, MemoryLocks(LOCKED, print))
    view = mapped(files, paths[0]).view(PAGE - 5, 10)
    part = view[2:8]
    assert files.locked_bytes == LOCKED
    mapped(files, paths[1])
    files.close()
    os.unlink(paths[0])
    assert mappings_of(paths[0]) == 1
    assert files.locked_bytes == LOCKED
    assert view == CONTENT[PAGE - 5 : PAGE + 5]
    del view
    assert part == CONTENT[PAGE - 3 : PAGE + 3]
    assert mappings_of(paths[0]) == 1
    del part
    assert mappings_of(paths[0]) == 0
    assert files.locked_bytes == 0


def test_sweep_drops_what_was_not_used_since_the_sweep_before_the_last(paths: list[str]) -> None:
    """Used files stay mapped; unused ones go at the third sweep, and free a deleted file."""
    files = MappedFiles(3, no_locks())
    mapped(files, paths[0])
    mapped(files, paths[1])
    used = stamp(paths[0])
    os.unlink(paths[1])
    for _ in range(2):
        files.sweep()
        assert files.get(used) is not None
        assert len(files) == 2
    files.sweep()
    assert (len(files), files.mapped_bytes) == (1, len(CONTENT))
    assert mappings_of(paths[1]) == 0
    for _ in range(3):
        files.sweep()
    assert (len(files), files.mapped_bytes) == (0, 0)


def test_file_that_failed_is_wanted_again_after_some_sweeps(paths: list[str]) -> None:
    """Not at every turn, and not never; as many are remembered as may be mapped."""
    files = MappedFiles(2, no_locks())
    for path in paths[:3]:
        files.give_up(stamp(path))
    assert [files.wants(stamp(path)) for path in paths[:3]] == [True, False, False]
    for _ in range(2):
        files.sweep()
        assert not files.wants(stamp(paths[2]))
    files.sweep()
    assert files.wants(stamp(paths[2]))


def test_empty_file_is_never_wanted(tmp_path: Path) -> None:
    """mmap(2) refuses a length of 0."""
    (tmp_path / "empty").touch()
    assert not MappedFiles(1, no_locks()).wants(stamp(str(tmp_path / "empty")))


def test_locked_memory_rises_and_falls_with_the_mappings(paths: list[str]) -> None:
    """The kernel's count and ours, in whole pages, and back to nothing."""
    before = kernel_locked_bytes()
    files = MappedFiles(2, MemoryLocks(100 * PAGE, print))
    for path in paths:
        assert mapped(files, path).locked_bytes == LOCKED
    gc.collect()
    assert files.locked_bytes == 2 * LOCKED
    assert kernel_locked_bytes() - before == 2 * LOCKED
    files.close()
    assert files.locked_bytes == 0
    assert kernel_locked_bytes() == before


def test_file_beyond_the_budget_is_mapped_and_not_locked(paths: list[str]) -> None:
    """The bytes are the same; only room for one was asked for."""
    before = kernel_locked_bytes()
    files = MappedFiles(5, MemoryLocks(LOCKED, print))
    assert [mapped(files, path).locked_bytes for path in paths[:3]] == [LOCKED, 0, 0]
    assert kernel_locked_bytes() - before == LOCKED
    mapping = files.get(stamp(paths[2]))
    assert mapping is not None
    assert mapping.view(0, len(CONTENT)) == CONTENT


def test_file_that_cannot_be_locked_is_mapped_all_the_same(paths: list[str]) -> None:
    """A refusal is told to the operator once and to nobody else."""
    said: list[str] = []
    files = MappedFiles(5, MemoryLocks(100 * PAGE, said.append, FakeLibc(**REFUSING)))
    for path in paths:
        assert mapped(files, path).view(5, 10) == CONTENT[5:15]
    assert files.locked_bytes == 0
    assert len(said) == 1


def test_mapping_is_populated_where_it_is_to_be_sent(paths: list[str]) -> None:
    """Whole pages around a range, and nothing when it is made: the rest may never be asked for."""
    libc = FakeLibc()
    mapping = mapped(MappedFiles(1, MemoryLocks(100 * PAGE, print, libc)), paths[0])
    [(_, address, _)] = libc.calls
    mapping.populate(PAGE + 5, 10)
    mapping.populate(3, len(CONTENT) - 3)
    assert libc.calls[1:] == [
        ("populate", address + PAGE, 15),
        ("populate", address, len(CONTENT)),
    ]
