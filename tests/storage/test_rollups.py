"""Roll-ups in memory and in files: which one is believed, and how much is kept."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.storage.test_rollup_file import COARSE, KEY, LEVELS, MADE, WANTED
from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.layout import day_label
from zerocopy.storage import rollup_file
from zerocopy.storage.rollup_file import Wanted, rollup_of
from zerocopy.storage.rollups import ENTRY_BYTES, Rollups

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MUCH = 1 << 30


class Told:
    """Roll-ups below a directory, or in memory alone; what was counted and warned."""

    def __init__(
        self, path: Path | None, bytes_max: int = MUCH, disk_bytes_max: int = MUCH
    ) -> None:
        self.counters = [0] * len(SLOTS)
        self.warnings: list[str] = []
        self.rollups = Rollups(
            bytes_max=bytes_max,
            path=None if path is None else str(path),
            disk_bytes_max=disk_bytes_max,
            counters=self.counters,
            on_unwritable=self.warnings.append,
        )

    @property
    def nbytes(self) -> int:
        """The gauge."""
        return self.counters[slots.ROLLUP_BYTES]


def file_of(path: Path) -> Path:
    """Where the roll-up of `KEY` lies."""
    return path.joinpath(*KEY.series, f"price.{day_label(KEY.day)}.rollup")


def other(day: int) -> Wanted:
    """What is wanted of another day."""
    return WANTED._replace(key=KEY._replace(day=day))


def test_roll_up_is_found_in_memory_and_by_another_process_in_its_file(tmp_path: Path) -> None:
    """The other one reads the coarse levels first; the minutes when they are asked for."""
    here = Told(tmp_path)
    assert here.rollups.find(WANTED) is None
    assert here.rollups.save(KEY, MADE)
    assert here.rollups.find(WANTED) is MADE
    assert file_of(tmp_path).is_file()
    there = Told(tmp_path)
    assert there.rollups.find(WANTED) == COARSE
    assert there.nbytes == ENTRY_BYTES + len(LEVELS.day + LEVELS.hour)
    assert there.rollups.find(WANTED, minutes=True) == MADE
    assert there.nbytes == ENTRY_BYTES + sum(map(len, LEVELS))
    file_of(tmp_path).unlink()
    assert there.rollups.find(WANTED, minutes=True) == MADE
    assert Told(tmp_path).rollups.find(WANTED) is None


def test_roll_up_of_a_day_that_was_replaced_is_not_found(tmp_path: Path) -> None:
    """Neither in memory nor in its file; the new one takes its place in both."""
    told = Told(tmp_path)
    told.rollups.save(KEY, MADE)
    wanted = WANTED._replace(values=WANTED.values._replace(inode=99))
    for rollups in (told.rollups, Told(tmp_path).rollups):
        assert rollups.find(wanted) is None
        assert rollups.find(wanted, minutes=True) is None
    new = rollup_of(LEVELS, wanted, (5, 9), 100)
    told.rollups.save(KEY, new)
    assert told.rollups.find(wanted) is new
    assert Told(tmp_path).rollups.find(wanted) == replace(new, minute=None)
    assert told.rollups.find(WANTED) is None
    assert told.nbytes == ENTRY_BYTES + new.nbytes


def test_minutes_that_are_wrong_are_not_found(tmp_path: Path) -> None:
    """The coarse levels of the same file are right, and stay of use."""
    Told(tmp_path).rollups.save(KEY, MADE)
    os.truncate(file_of(tmp_path), file_of(tmp_path).stat().st_size - 1)
    rollups = Told(tmp_path).rollups
    assert rollups.find(WANTED) == COARSE
    assert rollups.find(WANTED, minutes=True) is None
    assert rollups.find(WANTED) == COARSE


def test_memory_has_a_bound_and_the_least_recently_used_goes() -> None:
    """Four are used in turn where three fit, then one again and again."""
    each = ENTRY_BYTES + MADE.nbytes
    told = Told(None, bytes_max=4 * each + each - 1)
    for day in range(4):
        told.rollups.save(other(day).key, MADE)
    assert told.nbytes == 4 * each
    assert told.rollups.find(other(0)) is MADE
    told.rollups.save(other(4).key, MADE)
    assert told.nbytes == 4 * each
    found = [told.rollups.find(other(day)) is not None for day in range(5)]
    assert found == [True, False, True, True, True]


def test_roll_up_as_large_as_a_quarter_of_the_bound_is_not_kept(tmp_path: Path) -> None:
    """Nor is anything with a bound of 0; the file is there all the same."""
    told = Told(tmp_path, bytes_max=0)
    assert told.rollups.is_of_use
    assert told.rollups.save(KEY, MADE)
    assert told.nbytes == 0
    assert told.rollups.find(WANTED, minutes=True) == MADE
    assert not Told(None, bytes_max=0).rollups.is_of_use
    small = Told(None, bytes_max=MADE.nbytes * 2)
    small.rollups.save(KEY, MADE)
    assert small.rollups.find(WANTED) is None


def test_directory_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in its place, then a full disk: one warning, and memory has them."""
    (tmp_path / "file").touch()
    told = Told(tmp_path / "file")
    assert not told.rollups.save(KEY, MADE)
    assert told.rollups.find(WANTED) is MADE

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rollup_file, "write", fail)
    assert not told.rollups.save(other(1).key, MADE)
    assert told.warnings == [f"{tmp_path}/file: Not a directory; roll-ups are not kept there"]
    assert told.counters[slots.ROLLUPS_MADE] == 2


def test_use_in_memory_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered from memory alone is told to those who delete files, once an hour."""
    told = Told(tmp_path)
    told.rollups.save(KEY, MADE)
    now_s = time.monotonic()
    for hours, is_noted in ((0.9, False), (1.1, True), (1.2, False), (2.2, True)):
        os.utime(file_of(tmp_path), (1, 1))
        monkeypatch.setattr(time, "monotonic", lambda s=now_s + hours * 3_600: s)
        assert told.rollups.find(WANTED) is MADE
        assert (file_of(tmp_path).stat().st_mtime > 1) is is_noted, hours
    told = Told(tmp_path)
    os.utime(file_of(tmp_path), (1, 1))
    assert told.rollups.find(WANTED) == COARSE
    assert file_of(tmp_path).stat().st_mtime > 1


def test_files_have_a_bound_of_their_own(tmp_path: Path) -> None:
    """What is above it goes when something is written, or when told; memory has it still."""
    told = Told(tmp_path)
    for day in range(4):
        told.rollups.save(other(day).key, MADE)
    size = file_of(tmp_path).parent.joinpath("price.01.01.70.rollup").stat().st_size
    told = Told(tmp_path, disk_bytes_max=3 * size)
    told.rollups.trim()
    assert told.counters[slots.ROLLUP_FILE_BYTES] == 2 * size
    assert told.counters[slots.ROLLUP_FILES_DELETED] == 2
    told.rollups.save(other(5).key, MADE)
    assert told.counters[slots.ROLLUP_FILE_BYTES] == 2 * size
    assert told.counters[slots.ROLLUP_FILES_DELETED] == 3
    assert [told.rollups.find(other(day)) is None for day in range(6)] == [True] * 3 + [
        False,
        True,
        False,
    ]
    Told(None).rollups.trim()  # has no files


def test_directory_that_is_read_only_is_read(tmp_path: Path) -> None:
    """As another user's is: what is there is found, what is made stays in memory."""
    Told(tmp_path).rollups.save(KEY, MADE)
    series = file_of(tmp_path).parent
    series.chmod(0o500)
    try:
        told = Told(tmp_path)
        assert told.rollups.find(WANTED, minutes=True) == MADE
        if os.geteuid():
            assert not told.rollups.save(other(1).key, MADE)
            assert len(told.warnings) == 1
    finally:
        series.chmod(0o700)
