"""Computed bodies: exact bytes, a budget that holds, nothing left behind."""

from __future__ import annotations

import errno
import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.descriptors import held_files
from zerocopy.core.errors import DataError, OverloadError
from zerocopy.core.plan import BODIES_MAX
from zerocopy.core.window import Window
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.reading import Reading
from zerocopy.storage.residency import PageCache
from zerocopy.storage.spool import Draft, Spool, SpooledBody

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOTH = pytest.mark.parametrize("in_memory", [True, False], ids=["memfd", "path"])


class Nothing:
    """A page cache that holds nothing until it has read it in."""

    def __init__(self) -> None:
        self.read_bytes = 0

    def resident(self, _fd: int, _offset: int, count: int) -> int:
        """How many bytes are there."""
        return min(count, self.read_bytes)

    def read_now(self, _fd: int, _offset: int, _view: memoryview) -> bool:
        """Nothing is there at once."""
        return False

    def read(self, _fd: int, _offset: int, _view: memoryview) -> int:
        """Fail: nobody gathers."""
        raise NotImplementedError

    def read_in(self, _fd: int, _offset: int, count: int, is_unwanted: Callable[[], bool]) -> int:
        """Read it in."""
        assert not is_unwanted()
        self.read_bytes += count
        return count


def make(bytes_max: int, path: Path | None = None) -> Spool:
    """A spool of which nothing is kept."""
    return Spool(bytes_max, None if path is None else str(path), PageCache())


@BOTH
def test_a_body_is_what_was_written(tmp_path: Path, *, in_memory: bool) -> None:
    """By every way a transport reads it; no name in the directory, no descriptor left."""
    before = held_files()
    spool = make(1 << 20, None if in_memory else tmp_path)
    body = spool.open()
    pieces = [random.Random(seed).randbytes(seed) for seed in (0, 1, 7, 5_000)]
    for piece in pieces:
        body.write(piece)
    whole = b"".join(pieces)
    assert body.nbytes == spool.nbytes == len(whole)
    assert body.ready(3, 100) == 100
    assert body.read_in(0, len(whole), lambda: False) == 0
    assert body.read(3, 100) == bytes(body.view(3, 100)) == whole[3:103]
    assert os.pread(body.fileno(), len(whole) + 1, 0) == whole
    target = bytearray(10)
    body.scatter(5, [memoryview(target)[:4], memoryview(target)[4:]])
    assert target == whole[5:15]
    assert os.listdir(tmp_path) == []
    del body
    assert spool.has_dropped
    spool.close_dropped()
    assert spool.nbytes == 0
    assert not held_files() - before


def test_a_full_budget_is_refused_until_a_body_is_gone() -> None:
    """The bytes of all bodies count, to the byte."""
    spool = make(100)
    first, second = spool.open(), spool.open()
    first.write(bytes(60))
    second.write(bytes(40))
    with pytest.raises(OverloadError, match="no room"):
        second.write(b"x")
    assert spool.nbytes == 100
    del first
    second.write(bytes(60))
    assert spool.nbytes == 100


def test_what_is_kept_is_given_up_for_what_is_new() -> None:
    """One after the other, as many as are needed; then there is no room."""
    kept: list[SpooledBody] = []

    def give_up() -> bool:
        return bool(kept and kept.pop(0))

    spool = Spool(100, None, PageCache(), give_up)
    for _ in range(4):
        body = spool.open()
        body.write(bytes(25))
        kept.append(body)
    del body
    fresh = spool.open()
    fresh.write(bytes(26))
    assert (len(kept), spool.nbytes) == (2, 76)
    fresh.write(bytes(74))
    assert (len(kept), spool.nbytes) == (0, 100)
    with pytest.raises(OverloadError):
        fresh.write(b"x")


def test_bodies_are_bounded_in_number() -> None:
    """Each is a descriptor."""
    spool = make(100)
    bodies = [spool.open() for _ in range(BODIES_MAX)]
    with pytest.raises(OverloadError):
        spool.open()
    bodies.pop()
    spool.open()


def test_a_draft_needs_a_body_only_for_what_is_more_than_a_little() -> None:
    """The first bytes stay in memory, the others follow in one segment."""
    spool = make(1 << 10)
    little = Draft(spool, 10)
    for data in (b"", b"0123", b"456789"):
        little.write(data)
    assert little.finish() == (b"0123456789", ())
    assert Draft(spool, 10).finish() == (b"", ())
    more = Draft(spool, 10)
    for data in (b"0123", b"4567890", b"x"):
        more.write(data)
    content, [segment] = more.finish()
    assert content == b"0123"
    assert segment.source.read(segment.offset, segment.count) == b"4567890x"
    broken = Draft(spool, 0)
    broken.write(b"0123")
    broken.discard()
    little.discard()
    spool.close_dropped()
    assert spool.nbytes == 8, "what is discarded is gone, whoever knows it"


def test_a_body_on_disk_is_read_in_by_a_thread_before_it_is_sent(tmp_path: Path) -> None:
    """As a day file is: the event loop never waits for it."""
    cache = Nothing()
    spool = Spool(1 << 10, str(tmp_path), cache)
    draft = Draft(spool, 0)
    draft.write(b"0123456789")
    _, [segment] = draft.finish()
    assert segment.source.ready(0, 10) == 0
    window = Window([segment], (0, 0), (1, 0))
    reading = Reading(OpenFiles(str(tmp_path), 8), window)
    reading.run()
    reading.finish()
    assert (window.has_waited, window.missing_bytes) == (True, 10)
    assert segment.source.ready(0, 10) == 10


def test_a_directory_that_is_not_there_is_an_overload(tmp_path: Path) -> None:
    """The client may ask again; the operator reads the cause."""
    with pytest.raises(OverloadError) as raised:
        make(100, tmp_path / "none").open()
    assert isinstance(raised.value.__cause__, FileNotFoundError)


def test_a_full_disk_is_an_overload_and_a_lost_descriptor_a_fault() -> None:
    """/dev/full stands for the disk."""
    body = make(100).open()
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), body.fileno())
    with pytest.raises(OverloadError):
        body.write(b"x")
    reader, writer = os.pipe()
    os.dup2(reader, body.fileno())
    os.close(reader)
    os.close(writer)
    with pytest.raises(DataError):
        body.read(0, 1)


@pytest.mark.parametrize(("code", "kept"), [("ENOSPC", 1), ("ENOSPC", 0), ("EIO", 1)])
def test_what_is_kept_gives_way_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, kept: int
) -> None:
    """One body at a time, even below the budget; a disk that is broken gets nothing."""
    bodies: list[SpooledBody] = []

    def give_up() -> bool:
        if not bodies:
            return False
        bodies.pop().drop()
        return True

    spool = Spool(1 << 20, str(tmp_path), PageCache(), give_up)
    bodies += [spool.open() for _ in range(kept)]
    body = spool.open()
    write, error = os.write, OSError(getattr(errno, code), code)

    def write_or_fail(fd: int, data: memoryview) -> int:
        if spool.has_dropped or len(bodies) == kept:
            raise error
        return write(fd, data)

    monkeypatch.setattr(os, "write", write_or_fail)
    if code == "ENOSPC" and kept:
        body.write(b"words")
        assert body.read(0, 5) == b"words"
        assert spool.nbytes == 5
    else:
        with pytest.raises(OverloadError, match="no room"):
            body.write(b"words")
        assert len(bodies) == kept
