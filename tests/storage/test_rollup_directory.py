"""The files of roll-ups: which of them go when there are too many, and what never goes."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.storage.test_rollup_file import KEY, MADE, WANTED
from zerocopy.core.layout import day_label
from zerocopy.storage import rollup_file
from zerocopy.storage.rollup_directory import NOTED_S, RollupDirectory
from zerocopy.storage.rollup_file import Key, encode

SIZE = len(encode(MADE))
LONG_AGO_S = time.time() - 1_000_000

WRITER = """
import sys
from tests.storage.test_rollup_directory import SIZE, day
from tests.storage.test_rollup_file import MADE
from zerocopy.storage.rollup_directory import RollupDirectory
directory = RollupDirectory(sys.argv[1], 80 * SIZE)
print("ready", flush=True)
sys.stdin.readline()
for number in range(80):
    directory.write(day(int(sys.argv[2]) + number), MADE)
    if directory.is_due:
        directory.trim()
"""
"""One of several processes that write to one directory."""


def day(number: int) -> Key:
    """The key of one of many days."""
    return KEY._replace(day=number)


def file_of(path: Path, key: Key) -> Path:
    """Where a roll-up lies."""
    return path.joinpath(*key.series, f"{key.column}.{day_label(key.day)}.rollup")


def put(path: Path, key: Key, age_s: int, content: bytes | None = None) -> Path:
    """A file that was used `age_s` after some time long ago."""
    file = file_of(path, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(encode(MADE) if content is None else content)
    os.utime(file, (LONG_AGO_S + age_s,) * 2)
    return file


def there(path: Path) -> list[str]:
    """All files, below the directory."""
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())


@pytest.mark.parametrize("kept", range(8))
def test_least_recently_used_files_go_whatever_their_series(tmp_path: Path, kept: int) -> None:
    """Seven files in an order of use that is none of names; seven eighths of the bound stay."""
    order = [3, 0, 6, 2, 5, 1, 4]
    files = []
    for age_s, number in enumerate(order):
        series = KEY.series._replace(symbol=f"S{number % 3}")
        files.append(put(tmp_path, KEY._replace(series=series, day=number), age_s))
    directory = RollupDirectory(str(tmp_path), -(-kept * SIZE * 8 // 7))
    assert directory.trim() == (kept * SIZE, 7 - kept)
    assert [file.exists() for file in files] == [False] * (7 - kept) + [True] * kept
    assert directory.trim() == (kept * SIZE, 0)


def test_files_of_different_lengths_go_until_enough_is_free(tmp_path: Path) -> None:
    """A short one that is older goes, too; one that is younger than what is needed stays."""
    content = encode(MADE)
    sizes = [100, 5_000, 70_000, 300, 40_000, 200]
    files = [
        put(tmp_path, day(number), number, content + bytes(size))
        for number, size in enumerate(sizes)
    ]
    for spared in range(len(sizes) + 1):
        left = sum(file.stat().st_size for file in files[spared:])
        nbytes, _ = RollupDirectory(str(tmp_path), -(-left * 8 // 7)).trim()
        assert nbytes == left
        assert [file.exists() for file in files] == [
            number >= spared for number in range(len(sizes))
        ]


def test_use_is_noted_once_an_hour(tmp_path: Path) -> None:
    """The modification time of a file long unused becomes now; of one used lately it stays."""
    old, young = put(tmp_path, day(1), 0), put(tmp_path, day(2), 0)
    lately_s = time.time() - NOTED_S / 2
    os.utime(young, (lately_s, lately_s))
    directory = RollupDirectory(str(tmp_path), 1 << 30)
    for number in (1, 2, 3):  # the last is not there
        directory.note_use(day(number))
    assert abs(old.stat().st_mtime - time.time()) < 100
    assert young.stat().st_mtime == pytest.approx(lately_s, abs=0.01)


def test_what_is_no_roll_up_of_ours_stays(tmp_path: Path) -> None:
    """Files of other names, at other depths, links, fifos, and foreign content under our name."""
    roll_up = encode(MADE)
    put(tmp_path, day(1), 0)
    folder = file_of(tmp_path, day(1)).parent
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "target").write_bytes(roll_up)
    foreign = [
        folder / "notes.txt",
        folder / "price.31.02.25.rollup",
        folder / "price.rollup",
        folder / "price.01.01.25.rollup.bak",
        folder / ".01.01.25.rollup",
        folder / "deeper" / "price.01.01.25.rollup",
        folder.parent / "price.01.01.25.rollup",
        tmp_path / "price.01.01.25.rollup",
        tmp_path / ".hidden" / "X" / "MD" / "price.01.01.25.rollup",
    ]
    for file in foreign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(roll_up)
    (folder / "price.02.01.25.rollup").symlink_to(outside / "target")
    os.mkfifo(folder / "price.03.01.25.rollup")
    (folder / "price.04.01.25.rollup").mkdir()
    (tmp_path / "coinbase" / "LINK").symlink_to(folder.parent)
    put(tmp_path, day(7), 0, b"not ours " * 9)
    put(tmp_path, day(8), 0, b"")
    before = there(tmp_path)
    assert RollupDirectory(str(tmp_path), 0).trim().deleted == 1
    assert there(tmp_path) == [
        name for name in before if name != str(file_of(tmp_path, day(1)).relative_to(tmp_path))
    ]


def test_roll_up_of_another_version_goes_as_others_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody believes it any more, and it takes room."""
    monkeypatch.setattr(rollup_file, "VERSION", 99)
    put(tmp_path, day(1), 0)
    monkeypatch.undo()
    assert RollupDirectory(str(tmp_path), 0).trim() == (0, 1)


def test_temporary_file_that_nobody_writes_goes(tmp_path: Path) -> None:
    """Those of writers that were killed an hour ago; not one that is locked, young or foreign."""
    contents = {1: b"", 2: encode(MADE)[:1_000], 3: b"", 4: b"", 5: b"foreign"}
    files = {
        number: put(tmp_path, day(number), 0, content).rename(
            f"{file_of(tmp_path, day(number))}.tmp"
        )
        for number, content in contents.items()
    }
    os.utime(files[4])
    with files[3].open() as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        assert RollupDirectory(str(tmp_path), 1 << 30).trim() == (0, 0)
    assert [number for number, file in files.items() if file.exists()] == [3, 4, 5]


def test_directory_that_is_not_there_or_cannot_be_read_holds_nothing(tmp_path: Path) -> None:
    """So a first start, and a path that is a file, are no error."""
    (tmp_path / "file").touch()
    for name in ("nothing", "file", "file/below"):
        assert RollupDirectory(str(tmp_path / name), 0).trim() == (0, 0)


def test_look_is_due_after_a_64th_of_the_bound_and_after_the_first_write(tmp_path: Path) -> None:
    """What was written since the last look counts, whatever it replaced."""
    directory = RollupDirectory(str(tmp_path), 64 * 3 * SIZE)
    due = []
    for _ in range(9):
        assert directory.write(KEY, MADE)
        due.append(directory.is_due)
        if directory.is_due:
            directory.trim()
    assert due == [True, False, False, False, True, False, False, False, True]


def test_file_that_goes_while_it_is_used_is_not_found(tmp_path: Path) -> None:
    """Between its coarse levels and its minutes; what was found is of use, nothing is raised."""
    directory = RollupDirectory(str(tmp_path), 0)
    directory.write(KEY, MADE)
    found = directory.read(WANTED)
    assert found is not None
    directory.trim()
    assert directory.read(WANTED) is None
    assert directory.read_minutes(KEY, found) is None
    directory.note_use(KEY)


def test_several_processes_bound_one_directory_together(tmp_path: Path) -> None:
    """Three write 240 files where 80 fit, and none fails; at no time are there more."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(number * 1_000)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]
    is_over = threading.Event()
    most = [0]

    def watch() -> None:
        while not is_over.wait(0.01):
            most[0] = max(most[0], len(list(Path(tmp_path).rglob("*.rollup"))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            writer.communicate(b"go\n", timeout=60)
    finally:
        is_over.set()
        watcher.join()
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0] * 3
    assert most[0] <= 80
    left = list(tmp_path.rglob("*"))
    assert 60 <= len([file for file in left if file.is_file()]) <= 80
