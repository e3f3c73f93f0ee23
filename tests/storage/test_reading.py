"""`Reading` of a window that gathers: the planned bytes of many small files, or none at all."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest

from tests.descriptors import held_files
from tests.storage.dayfiles import planned
from tests.storage.trees import append, path_of, put, replace
from zerocopy.core.errors import DataChangedError, DataError
from zerocopy.core.plan import Segment, in_memory
from zerocopy.core.window import Window
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.libc.memlock import MemoryLocks
from zerocopy.storage.mapping import MappedFiles
from zerocopy.storage.reading import Reading
from zerocopy.storage.residency import PageCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zerocopy.storage.dayfile import DayFile

pytestmark = pytest.mark.usefixtures("frozen")

CONTENTS = {f"c{index}": os.urandom(400 + index) for index in range(20)}


@pytest.fixture(name="root")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One day of twenty columns; afterwards no descriptor of it is open."""
    root = str(tmp_path_factory.mktemp("data"))
    put(root, CONTENTS)
    gc.collect()  # what earlier tests left in circles
    before = held_files()
    yield root
    assert not held_files() - before


@pytest.fixture(name="files")
def fixture_files(root: str) -> Iterator[OpenFiles]:
    """Room for few files, and a pool of mappings that nothing of this should use."""
    files = OpenFiles(root, 4, MappedFiles(3, MemoryLocks(0, print)))
    yield files
    assert files.mapped is not None
    assert len(files.mapped) == 0
    files.close()


def window_of(slices: Sequence[Segment]) -> Window:
    """Of an answer that consists of these slices."""
    window = Window(slices, (0, 0), (len(slices), 0), gathers=True)
    window.mapped = True
    return window


def slices_of(day_files: Sequence[DayFile]) -> list[Segment]:
    """Of each file what lies between its third byte and its last but one."""
    return [Segment(day_file, 3, day_file.size - 4) for day_file in day_files]


def gather(files: OpenFiles, window: Window) -> Reading:
    """What the event loop and a thread do, one after the other."""
    reading = Reading(files, window)
    try:
        reading.run()
    finally:
        reading.finish()
    return reading


@pytest.mark.parametrize("may_wait", [False, True])
def test_gathers_the_slices_in_order_and_keeps_nothing_open(root: str, *, may_wait: bool) -> None:
    """Twenty files, bytes from memory between them; whether or not it may wait for the disk."""
    files = OpenFiles(root, 4)
    pieces = slices_of([planned(files, column) for column in CONTENTS])
    window = window_of([*pieces[:7], in_memory(b"boundary"), *pieces[7:]])
    window.may_wait = may_wait
    gather(files, window)
    wanted = [content[3:-1] for content in CONTENTS.values()]
    assert bytes(window.content) == b"".join([*wanted[:7], b"boundary", *wanted[7:]])
    assert len(files) == 0
    assert window.missing_bytes == 0
    assert not window.has_waited


def test_what_is_not_in_memory_is_given_up_first_and_read_when_it_may_wait(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two files of which the second is not there; it is counted, although reading had begun."""
    files = OpenFiles(root, 4, residency=PageCache(lambda _fd, _offset, _count: 0))
    day_files = [planned(files, column) for column in ("c0", "c1")]
    cold = os.stat(path_of(root, "c1")).st_ino
    preadv = os.preadv

    def asked(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT and os.fstat(fd).st_ino == cold:
            raise BlockingIOError
        return preadv(fd, buffers, offset, flags)

    # Not by dropping its pages: whoever looks whether they are gone has the kernel read them.
    monkeypatch.setattr(os, "preadv", asked)
    window = window_of(slices_of(day_files))
    gather(files, window)
    assert not window.content
    assert window.has_waited
    window.may_wait = True
    gather(files, window)
    assert bytes(window.content) == CONTENTS["c0"][3:-1] + CONTENTS["c1"][3:-1]
    assert window.missing_bytes > 0
    assert window.has_waited
    files.close()


@pytest.mark.parametrize("change", ["replaced", "truncated", "appended", "removed"])
def test_file_of_a_closed_day_that_changed_gathers_nothing(
    files: OpenFiles, root: str, change: str
) -> None:
    """The promise was another state of it: the error of a changed file, and no bytes."""
    pieces = slices_of([planned(files, column) for column in CONTENTS])
    path = path_of(root, "c11")
    if change == "replaced":
        replace(path, CONTENTS["c11"])
    elif change == "truncated":
        os.truncate(path, 5)
    elif change == "appended":
        append(path, b"more")
    else:
        os.unlink(path)
    window = window_of(pieces)
    with pytest.raises(DataChangedError):
        gather(files, window)
    assert not window.content


def test_file_of_a_closed_day_that_changes_while_it_is_read_gathers_nothing(
    root: str,
) -> None:
    """It is looked at after its bytes were read, not only when it was opened."""

    class Overwritten(PageCache):
        def read_now(self, fd: int, offset: int, view: memoryview) -> bool:
            is_there = super().read_now(fd, offset, view)
            append(path_of(root, "c0"), b"x")
            return is_there

    files = OpenFiles(root, 4, None, Overwritten())
    window = window_of(slices_of([planned(files, "c0")]))
    with pytest.raises(DataChangedError):
        gather(files, window)
    assert not window.content


def test_file_of_an_open_day_that_has_grown_is_read_where_it_is_kept_open(
    files: OpenFiles, root: str
) -> None:
    """Its first bytes are those that were planned; one that is not kept open cannot be told."""
    kept = planned(files, "c0", is_closed=False)
    files.descriptor(kept)
    pieces = slices_of([kept])
    append(path_of(root, "c0"), b"more")
    window = window_of(pieces)
    gather(files, window)
    assert bytes(window.content) == CONTENTS["c0"][3:-1]
    assert len(files) == 1
    files.close()
    with pytest.raises(DataChangedError):
        gather(files, window_of(pieces))


def test_nobody_wants_it_any_more(files: OpenFiles) -> None:
    """A window that is cancelled is given up between two files."""
    window = window_of(slices_of([planned(files, column) for column in CONTENTS]))
    window.cancel()
    gather(files, window)
    assert not window.content


def test_disk_that_fails_is_an_error_of_the_data(files: OpenFiles) -> None:
    """A source that cannot be read ends the window, and what was opened before it is closed."""

    class Broken:
        def fileno(self) -> int:
            raise AssertionError

        def read(self, offset: int, count: int) -> bytes:
            raise DataError(f"{count} bytes from {offset} cannot be read")

        def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:
            raise AssertionError((count, mapped))

        def view(self, offset: int, count: int) -> memoryview:
            raise AssertionError((offset, count))

        def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
            raise AssertionError((offset, targets))

    pieces = [*slices_of([planned(files, "c0")]), Segment(Broken(), 0, 9)]
    with pytest.raises(DataError):
        gather(files, window_of(pieces))
