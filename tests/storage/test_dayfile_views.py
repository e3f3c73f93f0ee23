"""`DayFile.ready` and `view`, `OpenFiles.lend`, `fetch`, `keep`: closed days are mapped."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.storage.dayfiles import fetched, make_ready, mapped_of, planned
from tests.storage.memory import (
    PAGE,
    POWERLESS,
    REFUSING,
    SERVING,
    FakeLibc,
    child,
    kernel_locked_bytes,
    mappings_of,
)
from tests.storage.trees import append, path_of, put, replace
from zerocopy.core.errors import DataChangedError, DataError
from zerocopy.storage.dayfile import DayFile, OpenFiles
from zerocopy.storage.libc.memlock import MemoryLocks
from zerocopy.storage.mapping import MappedFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.core.plan import Source

pytestmark = pytest.mark.usefixtures("frozen")

SIZE = 3 * PAGE + 100
CONTENTS = {f"c{index}": os.urandom(SIZE) for index in range(6)}
COLUMNS = list(CONTENTS)
LOCKED = 4 * PAGE


@pytest.fixture(name="root")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One day of six columns; afterwards nothing of it is mapped, locked or open."""
    root = str(tmp_path_factory.mktemp("data"))
    gc.collect()  # what earlier tests left in circles
    before = held_files(), kernel_locked_bytes()
    put(root, {**CONTENTS, "empty": b""})
    yield root
    gc.collect()  # what a failed assertion keeps
    assert [mappings_of(path_of(root, column)) for column in COLUMNS] == [0] * 6
    assert (held_files() - before[0], kernel_locked_bytes()) == (set(), before[1])


@pytest.fixture(name="files")
def fixture_files(root: str) -> Iterator[OpenFiles]:
    """Four descriptors and three mappings at most, and room to lock two."""
    files = OpenFiles(root, 4, MappedFiles(3, MemoryLocks(2 * LOCKED, print)))
    yield files
    files.close()


def maps(files: OpenFiles, column: str = "c0") -> int:
    """How often a column is mapped."""
    return mappings_of(path_of(files.root, column))


def refuse(*_args: Any, **_kwargs: Any) -> int:
    """Fail as open(2) and mmap(2) do without descriptors."""
    raise OSError(errno.EMFILE, "Too many open files")


def test_day_file_is_a_source(files: OpenFiles) -> None:
    """In every method of the Protocol, for the type checker too."""
    day_file = planned(files)
    source: Source = day_file
    assert not source.ready(0, 1, mapped=True)
    make_ready(files, day_file)
    assert source.ready(0, 1, mapped=True)
    assert bytes(source.view(1, 5)) == source.read(1, 5) == CONTENTS["c0"][1:6]


@pytest.mark.parametrize("is_closed", [True, False])
def test_view_gives_exactly_the_bytes_asked_for(files: OpenFiles, *, is_closed: bool) -> None:
    """Any range of a closed or an open day, fetched or not, in any order of use and eviction."""
    chance = random.Random(5)
    day_files = {column: planned(files, column, is_closed=is_closed) for column in COLUMNS}
    for _ in range(500):
        column = chance.choice(COLUMNS)
        day_file = day_files[column]
        if not day_file.ready(0, 1, mapped=True) and chance.random() < 0.7:
            make_ready(files, day_file)
            assert day_file.ready(0, 1, mapped=True)
        first, stop = sorted(chance.randrange(SIZE + 1) for _ in range(2))
        assert bytes(day_file.view(first, stop - first)) == CONTENTS[column][first:stop]
        assert len(files) <= 4
        assert len(mapped_of(files)) <= 3
    assert (len(mapped_of(files)) == 3) == is_closed


def test_view_of_a_closed_day_is_of_its_mapping(files: OpenFiles) -> None:
    """Fetched and kept, it is mapped once, locked, and not copied."""
    day_file = fetched(files)
    assert isinstance(day_file.view(0, SIZE), memoryview)
    assert maps(files) == 1
    assert (mapped_of(files).mapped_bytes, mapped_of(files).locked_bytes) == (SIZE, LOCKED)


def test_view_of_an_open_day_never_maps(files: OpenFiles) -> None:
    """A file that a recorder writes to is read, however it is asked for."""
    day_file = fetched(files, is_closed=False)
    assert isinstance(day_file.view(0, SIZE), bytes)
    append(path_of(files.root, "c0"), b"more")
    assert day_file.ready(0, 1, mapped=True)
    assert day_file.view(0, SIZE) == CONTENTS["c0"]
    assert (maps(files), len(mapped_of(files))) == (0, 0)


def test_view_without_fetch_is_read(files: OpenFiles) -> None:
    """It may wait for the file to be opened, and is right."""
    day_file = planned(files)
    assert day_file.view(7, 9) == CONTENTS["c0"][7:16]
    assert maps(files) == 0
    assert not day_file.ready(0, 1, mapped=True)  # open by now, but to be mapped


def test_view_without_a_pool_is_read(root: str) -> None:
    """Plain HTTP/1.1 maps nothing, and is ready once the file is open."""
    files = OpenFiles(root, 2)
    day_file = fetched(files)
    assert isinstance(day_file.view(0, SIZE), bytes)
    assert maps(files) == 0
    files.close()


def test_view_of_an_empty_file_is_read(files: OpenFiles) -> None:
    """It cannot be mapped and has nothing to give; asking for more is a change."""
    day_file = fetched(files, "empty")
    assert day_file.view(0, 0) == b""
    with pytest.raises(DataChangedError):
        day_file.view(0, 1)


def test_ready_needs_descriptor_and_mapping(files: OpenFiles) -> None:
    """Either may be evicted alone; fetching again brings back what is missing."""
    day_file = fetched(files)
    for column in COLUMNS[1:5]:
        fetched(files, column, is_closed=column != "c4")
    assert not day_file.ready(0, 1, mapped=True)
    for column in COLUMNS[1:4]:
        fetched(files, column)
    assert maps(files) == 0
    assert bytes(fetched(files).view(0, 9)) == CONTENTS["c0"][:9]


def test_fetch_of_a_mapped_file_does_not_map_it_again(files: OpenFiles) -> None:
    """Only its descriptor was evicted, by files of an open day."""
    day_file = fetched(files)
    for column in COLUMNS[1:5]:
        fetched(files, column, is_closed=False)
    assert not day_file.ready(0, 1, mapped=True)
    result = files.fetch(day_file)
    assert maps(files) == 1
    files.keep(day_file, result)
    assert day_file.ready(0, 1, mapped=True)
    assert maps(files) == 1


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.parametrize("size", [0, PAGE, SIZE - 1])
def test_view_of_a_truncated_file_is_changed(
    files: OpenFiles, size: int, *, is_closed: bool
) -> None:
    """It raises where touching the mapping would end this very process."""
    day_file = fetched(files, is_closed=is_closed)
    os.truncate(path_of(files.root, "c0"), size)
    with pytest.raises(DataChangedError):
        day_file.view(SIZE - 10, 10)


def test_naive_access_to_a_truncated_mapping_dies(root: str) -> None:
    """What the look at the file is for: the same without it is SIGBUS."""
    code = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
os.truncate(sys.argv[1], 0)
mapped[:1]
"""
    assert child(code, path_of(root, "c0")).returncode == -signal.SIGBUS


@pytest.mark.parametrize("change", ["rewritten", "grown", "touched"])
def test_view_of_a_closed_file_that_differs_at_all_is_changed(
    files: OpenFiles, change: str
) -> None:
    """A shared mapping would show the new bytes, so they are never asked of it."""
    path = path_of(files.root, "c0")
    os.utime(path, (1, 1))
    view = (day_file := fetched(files)).view(0, 9)
    if change == "rewritten":
        with open(path, "r+b") as file:
            file.write(bytes(9))
        assert view == bytes(9)
    elif change == "grown":
        append(path, b"more")
    else:
        os.utime(path, (2, 2))
    with pytest.raises(DataChangedError):
        day_file.view(0, 9)


@pytest.mark.parametrize("change", ["truncated", "rewritten", "replaced", "removed"])
def test_fetch_of_a_changed_file_is_changed(files: OpenFiles, change: str) -> None:
    """Found in the thread, before anything is mapped; no descriptor is left."""
    day_file = planned(files)
    path = path_of(files.root, "c0")
    if change == "truncated":
        os.truncate(path, 5)
    elif change == "rewritten":
        os.utime(path, ns=(day_file.modified_ns, day_file.modified_ns))
    elif change == "replaced":
        replace(path, CONTENTS["c0"], day_file.modified_ns)
    else:
        os.unlink(path)
    before = held_files()
    with pytest.raises(DataChangedError):
        files.fetch(day_file)
    assert not held_files() - before
    assert maps(files) == 0


def test_fetch_of_a_file_that_changes_before_it_is_mapped_is_changed(
    files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened as planned, truncated at once: neither mapped short nor left open."""
    day_file = planned(files)
    opened = files._reopen

    def reopen(wanted: DayFile, directory_fd: int | None) -> int:
        fd = opened(wanted, directory_fd)
        os.truncate(path_of(files.root, "c0"), 5)
        return fd

    monkeypatch.setattr(files, "_reopen", reopen)
    before = held_files()
    with pytest.raises(DataChangedError):
        files.fetch(day_file)
    assert not held_files() - before


def test_file_replaced_while_open_is_read_from_its_descriptor(files: OpenFiles) -> None:
    """Rename leaves the planned file whole for whoever has it open, mapped or not."""
    day_file = planned(files)
    assert day_file.view(0, 5) == CONTENTS["c0"][:5]
    replace(path_of(files.root, "c0"), bytes(SIZE))
    assert not day_file.ready(0, 1, mapped=True)
    make_ready(files, day_file)
    assert day_file.ready(0, 1, mapped=True)
    assert day_file.view(0, SIZE) == CONTENTS["c0"]
    assert maps(files) == 0


def test_mapped_file_that_was_replaced_is_still_the_planned_one(files: OpenFiles) -> None:
    """The mapping and the descriptor are of the old file until both are gone."""
    day_file = fetched(files)
    replace(path_of(files.root, "c0"), bytes(SIZE))
    assert bytes(day_file.view(0, SIZE)) == CONTENTS["c0"]
    files.close()
    with pytest.raises(DataChangedError):
        day_file.view(0, 5)


def test_view_held_over_an_eviction_keeps_its_bytes(files: OpenFiles) -> None:
    """Nothing is unmapped under whoever still sends it; afterwards it is."""
    view = fetched(files).view(10, SIZE - 10)
    for column in COLUMNS[1:]:
        fetched(files, column)
    files.close()
    assert maps(files) == 1
    assert bytes(view) == CONTENTS["c0"][10:]
    del view
    assert maps(files) == 0


def test_file_that_cannot_be_mapped_is_read(
    files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And counts as ready, or the transport would fetch for ever; later it is tried again."""
    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        day_file = fetched(files)
    assert day_file.view(0, SIZE) == CONTENTS["c0"]
    for _ in range(3):
        assert day_file.ready(0, 1, mapped=True)
        day_file.fileno()
        files.sweep()
    assert not day_file.ready(0, 1, mapped=True)
    assert isinstance(fetched(files).view(0, SIZE), memoryview)


def test_fetched_and_never_kept_leaks_nothing(files: OpenFiles) -> None:
    """A client that went away meanwhile leaves neither descriptor, nor mapping, nor lock."""
    before = held_files()
    result = files.fetch(planned(files))
    assert held_files() - before
    assert maps(files) == 1
    del result
    assert not held_files() - before
    assert (maps(files), mapped_of(files).locked_bytes) == (0, 0)


def test_keep_takes_only_what_was_fetched_for_it(files: OpenFiles) -> None:
    """Anything else is a programmer's error, and is closed."""
    with pytest.raises(AssertionError):
        files.keep(planned(files, "c0"), files.fetch(planned(files, "c1")))


def test_fetch_in_many_threads_at_once(files: OpenFiles) -> None:
    """Of the same files and others: each result is right, and the caches stay in their bounds."""
    day_files = [planned(files, column, is_closed=column != "c5") for column in COLUMNS] * 10
    before = held_files()
    with ThreadPoolExecutor(4) as executor:
        for day_file, result in zip(day_files, executor.map(files.fetch, day_files), strict=True):
            files.keep(day_file, result)
            del result
            column = day_file.name.partition(".")[0]
            assert bytes(day_file.view(1, SIZE - 1)) == CONTENTS[column][1:]
            assert len(files) <= 4
            assert len(mapped_of(files)) <= 3
    gc.collect()
    assert len(held_files() - before) == len(files) + len(mapped_of(files))
    assert mapped_of(files).locked_bytes <= 2 * LOCKED
    assert maps(files, "c5") == 0


def test_sweep_and_close_reach_the_mappings(files: OpenFiles) -> None:
    """The worker's timer and its end tell `OpenFiles` only."""
    before = held_files()
    fetched(files)
    for _ in range(3):
        files.sweep()
    assert (len(files), maps(files)) == (0, 0)
    fetched(files)
    files.close()
    assert (len(files), maps(files), held_files() - before) == (0, 0, set())


def test_refused_locks_do_not_show_in_the_bytes(root: str) -> None:
    """Whatever locking says, the answer is the same; the operator is told once."""
    said: list[str] = []
    locks = MemoryLocks(100 * PAGE, said.append, FakeLibc(**REFUSING))
    files = OpenFiles(root, 6, MappedFiles(6, locks))
    for column, content in CONTENTS.items():
        assert bytes(fetched(files, column).view(0, SIZE)) == content
    files.close()
    assert len(said) == 1


@pytest.mark.parametrize(("limit", "cause"), [(0, "(EPERM)"), (2 * PAGE, "(ENOMEM)")])
def test_process_without_the_right_to_lock_serves_all_the_same(
    root: str, limit: int, cause: str
) -> None:
    """By the real kernel: RLIMIT_MEMLOCK of 0 or too little, without CAP_IPC_LOCK."""
    done = child(f"LIMIT = {limit}\n{POWERLESS}\n{SERVING}", root, path_of(root, "c0"))
    assert done.returncode == 0, done.stderr
    said, served = done.stdout.splitlines()
    assert said.startswith("said A mapped day file is not locked")
    assert cause in said
    assert served == "served"


def test_fetch_that_cannot_open_is_a_data_error(
    files: OpenFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of descriptors in the thread: the transport is told by an exception of ours."""
    day_file = planned(files)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(DataError):
            files.fetch(day_file)
