"""The file of a roll-up: what is believed of it, and what becomes of it when writing fails."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.storage.trees import SERIES
from zerocopy.core.layout import parse_dtype
from zerocopy.core.levels import Levels
from zerocopy.storage import rollup_file
from zerocopy.storage.catalog import Stamp
from zerocopy.storage.rollup_file import Key, Rollup, Wanted, decode, encode, rollup_of

if TYPE_CHECKING:
    from pathlib import Path

KEY = Key(SERIES, 20_000, "price")
TIME, VALUES = Stamp(11, 1, 400, 1_000_000_007), Stamp(12, 1, 400, 1_000_000_009)
WANTED = Wanted(KEY, parse_dtype("price", "f4"), TIME, VALUES)
LEVELS = Levels(b"d" * 36, b"h" * 24 * 36, b"m" * 1_440 * 36)
MADE = rollup_of(LEVELS, WANTED, (5, 9), 100)
COARSE = replace(MADE, minute=None)
OTHER = rollup_of(Levels(b"1", b"2", b"3"), WANTED, (1, 2), 3)

WRITER = """
import os, sys
from zerocopy.storage import rollup_file
rename, fsync = os.rename, os.fsync
def stop(*_):
    print("here", flush=True)
    sys.stdin.read()
setattr(rollup_file.os, sys.argv[1], stop)
rollup_file.write(sys.argv[2], b"x" * 50_000)
"""
"""Writes, and stops before the call that is named."""


def read_back(path: str) -> Rollup | None:
    """The whole roll-up of a file."""
    found = rollup_file.read(path)
    return None if found is None else rollup_file.read_minutes(path, found)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """In two reads: the coarse levels, then the minutes; nothing else lies in the directory."""
    path = str(tmp_path / "a" / "b" / "price.rollup")
    assert rollup_file.write(path, encode(MADE))
    assert rollup_file.read(path) == COARSE
    assert read_back(path) == MADE
    assert os.listdir(os.path.dirname(path)) == ["price.rollup"]


def test_roll_up_is_believed_of_the_same_files_alone() -> None:
    """Inode, length, change time of both, and the dtype; the number of the device may change."""
    assert MADE.is_of(WANTED)
    assert MADE.is_of(WANTED._replace(time=TIME._replace(device=7)))
    for field in ("inode", "size", "changed_ns"):
        assert not MADE.is_of(WANTED._replace(time=TIME._replace(**{field: 3})))
        assert not MADE.is_of(WANTED._replace(values=VALUES._replace(**{field: 3})))
    assert not MADE.is_of(WANTED._replace(dtype=parse_dtype("price", "i4")))


def test_every_byte_counts(tmp_path: Path) -> None:
    """A file with any one byte changed, of the head, the coarse levels or the minutes, is none."""
    content, path = encode(MADE), tmp_path / "price.rollup"
    coarse = len(content) - len(LEVELS.minute)
    for place in [*range(coarse), coarse, len(content) - 1]:
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :],
        )
        assert read_back(str(path)) is None, place


def test_truncated_file_is_none(tmp_path: Path) -> None:
    """Of any length."""
    content, path = encode(MADE), tmp_path / "price.rollup"
    for length in [*range(1_200), len(content) - 1]:
        path.write_bytes(content[:length])
        assert read_back(str(path)) is None, length


def test_other_version_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is right, and what it says is not for us."""
    monkeypatch.setattr(rollup_file, "VERSION", 2)
    content = encode(MADE)
    assert decode(content) == COARSE
    monkeypatch.setattr(rollup_file, "VERSION", 1)
    assert decode(content) is None


def test_foreign_files_are_none(tmp_path: Path) -> None:
    """Text, a directory, a fifo, a link, nothing at all."""
    path = tmp_path / "price.rollup"
    path.write_text("hello\n" * 9_999)
    assert rollup_file.read(str(path)) is None
    good = tmp_path / "good"
    good.write_bytes(encode(MADE))
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(good)
    for name in ("directory", "fifo", "link", "nothing"):
        assert rollup_file.read(str(tmp_path / name)) is None, name


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_writer_that_is_killed_leaves_what_was_there(tmp_path: Path, call: str) -> None:
    """SIGKILL amid writing: the old file is whole, and the next writer replaces it."""
    path = str(tmp_path / "price.rollup")
    assert rollup_file.write(path, encode(OTHER))
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, call, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"here\n"
        assert not rollup_file.write(path, encode(MADE)), "another process writes it"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert read_back(path) == OTHER
    assert rollup_file.write(path, encode(MADE))
    assert read_back(path) == MADE
    assert os.listdir(tmp_path) == ["price.rollup"]


@pytest.mark.parametrize("call", ["pwrite", "fsync", "rename", "ftruncate"])
def test_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """ENOSPC of any call is the caller's; the old file is whole, no temporary file is left."""
    path = str(tmp_path / "price.rollup")
    assert rollup_file.write(path, encode(MADE))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        rollup_file.write(path, encode(OTHER))
    monkeypatch.undo()
    assert read_back(path) == MADE
    assert os.listdir(tmp_path) == ["price.rollup"]


def test_writer_that_comes_amid_a_rename_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has opened what is published meanwhile: it must not truncate that."""
    path = str(tmp_path / "price.rollup")
    lock = fcntl.flock

    def rename_first(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        os.rename(path + ".tmp", path)
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    assert not rollup_file.write(path, b"new")
    with open(path, "rb") as file:
        assert file.read() == b""
    assert rollup_file.write(path, b"new")
