"""Files of a day that grow: whatever a crash left of them is mended, and nothing shown is lost."""

from __future__ import annotations

import itertools
import os
import random
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import Dtypes
from zerocopy.ingest.daywriter import SeriesWriter
from zerocopy.ingest.recording.appending import PIECE_RECORDS, SeriesAppender

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DTYPES = Dtypes({"id": "u8"})
DTYPE = np.dtype([("time", "<u4"), ("price", "<f4"), ("id", "<u8")])
SIZES = {"price": 4, "id": 8, "time": 4}  # in the order in which they are written
DAY, AT_S = 20_240, 20_240 * 86_400
LABEL = "01.06.25"


def rows_of(first: int, count: int) -> np.ndarray:
    """Records that encode their number."""
    return np.array([(AT_S + i, i, i << 33) for i in range(first, first + count)], DTYPE)


def path_of(folder: Path, column: str) -> Path:
    """The file of a column."""
    return folder / f"{column}.{LABEL}.bin"


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each column."""
    return {column: path_of(folder, column).read_bytes() for column in SIZES}


def columns_of(count: int) -> dict[str, bytes]:
    """What the files of `count` records hold."""
    rows = rows_of(0, count)
    return {column: rows[column].tobytes() for column in SIZES}


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of the day as they are."""
    for column, content in files.items():
        path_of(folder, column).write_bytes(content)


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """The directory of a series."""
    folder = tmp_path / "e" / "s" / "T"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(name="writer")
def fixture_writer(tmp_path: Path, folder: Path) -> Iterator[SeriesWriter]:
    """The lock of the series."""
    assert folder.is_dir()
    with SeriesWriter(str(tmp_path), ("e", "s", "T")) as writer:
        yield writer


def appender(writer: SeriesWriter, *, syncs_each: bool = False) -> SeriesAppender:
    """As after a start."""
    return SeriesAppender(writer, ("time", "price", "id"), DTYPES, syncs_each=syncs_each)


def test_a_crash_at_any_byte_is_mended_to_the_records_that_were_complete(
    folder: Path, writer: SeriesWriter
) -> None:
    """Three records, then two more of which each number of bytes was written, in the order written.

    No file of records that were shown is replaced or shorter than before.
    """
    before, after = columns_of(3), columns_of(5)
    added = [(column, size * 2) for column, size in SIZES.items()]
    for written in range(sum(count for _, count in added) + 1):
        left = written
        for column, count in added:
            part = min(left, count)
            left -= part
            put(folder, {column: after[column][: len(before[column]) + part]})
        whole = path_of(folder, "time").stat().st_size // 4
        inodes = {column: path_of(folder, column).stat().st_ino for column in SIZES}
        appender(writer).append(DAY, rows_of(whole, 4))
        assert contents(folder) == columns_of(whole + 4)
        assert inodes == {column: path_of(folder, column).stat().st_ino for column in SIZES}


def test_files_of_any_lengths_are_mended_to_the_shortest(
    folder: Path, writer: SeriesWriter, caplog: pytest.LogCaptureFixture
) -> None:
    """As a power cut or another recorder leaves them: `time` may be the longest."""
    full = columns_of(3)
    lengths = [range(len(full[column]) + 1) for column in SIZES]
    chance = random.Random(5)
    for cuts in chance.sample([*itertools.product(*lengths)], 25):
        files = {c: full[c][:n] for c, n in zip(SIZES, cuts, strict=True)}
        put(folder, files)
        whole = min(len(files[column]) // size for column, size in SIZES.items())
        complete = len(files["time"]) // 4
        caplog.clear()
        inode = path_of(folder, "time").stat().st_ino
        appender(writer).append(DAY, rows_of(whole, 2))
        assert contents(folder) == columns_of(whole + 2)
        # What was shown is cut off by a rename, and that is told.
        assert (path_of(folder, "time").stat().st_ino != inode) == (whole < complete)
        assert bool(caplog.records) == (whole < complete)


def test_what_a_reader_has_open_stays_as_it_was_when_shown_records_are_cut_off(
    folder: Path, writer: SeriesWriter
) -> None:
    """A server that is sending the longer file sends it to its end."""
    full = columns_of(4)
    put(folder, full | {"id": full["id"][:8]})
    with path_of(folder, "time").open("rb") as shown:
        appender(writer).append(DAY, rows_of(1, 1))
        assert shown.read() == full["time"]
    assert contents(folder) == columns_of(2)


def test_a_disk_that_takes_part_of_a_piece_gets_the_same_records_to_the_same_place(
    folder: Path, writer: SeriesWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is full after each number of bytes; readers see a prefix, and in the end there is all."""
    pwrite, room = os.pwrite, 0

    def scarce(fd: int, data: memoryview, offset: int) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        count = pwrite(fd, data[:room], offset)
        room -= count
        return count

    monkeypatch.setattr("zerocopy.ingest.recording.appending.os.pwrite", scarce)
    files = appender(writer)
    for taken in range(16 * 2):
        first = taken * 2
        room = taken
        with pytest.raises(OSError, match="No space"):
            files.append(DAY, rows_of(first, 2))
        now = contents(folder)
        shown = len(now["time"]) // 4
        assert {c: now[c][: shown * size] for c, size in SIZES.items()} == columns_of(shown)
        room = 1 << 20
        files.append(DAY, rows_of(first, 2))
        assert contents(folder) == columns_of(first + 2)


def test_a_file_that_is_replaced_or_removed_meanwhile_is_opened_anew(
    folder: Path, writer: SeriesWriter
) -> None:
    """Nothing is appended to a file that has lost its name."""
    files = appender(writer)
    files.append(DAY, rows_of(0, 3))
    assert writer.days() == {DAY: {*SIZES}}
    writer.write(DAY, {name: rows_of(0, 2)[name].copy() for name in SIZES})
    files.append(DAY, rows_of(2, 2))
    assert contents(folder) == columns_of(4)
    for column in SIZES:
        path_of(folder, column).unlink()
    files.append(DAY, rows_of(0, 1))
    assert contents(folder) == columns_of(1)


def test_another_program_that_appends_to_the_series_is_told(
    folder: Path, writer: SeriesWriter
) -> None:
    """What it wrote is not written over."""
    files = appender(writer)
    files.append(DAY, rows_of(0, 3))
    with path_of(folder, "time").open("ab") as other:
        other.write(bytes(400))
    with pytest.raises(IngestError, match="changed by another program"):
        files.append(DAY, rows_of(3, 2))
    assert path_of(folder, "time").stat().st_size == 412


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"volume": bytes(12)}, "has a column that is not recorded: volume"),
        ({"id": None}, "lacks a column that is recorded: id"),
        ({"price": bytes(8 * 100), "time": bytes(400), "id": bytes(800)}, "too many to cut off"),
        ({"price": bytes(4 * PIECE_RECORDS + 40)}, "too many to cut off"),
    ],
    ids=["more columns", "fewer", "another width", "far too long"],
)
def test_a_day_that_nobody_can_mend_is_refused_and_left_as_it_is(
    folder: Path, writer: SeriesWriter, files: dict[str, bytes | None], words: str
) -> None:
    """The sentence says why."""
    put(folder, columns_of(3))
    for column, content in files.items():
        if content is None:
            path_of(folder, column).unlink()
        else:
            put(folder, {column: content})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(IngestError) as refused:
        appender(writer).append(DAY, rows_of(3, 1))
    assert words in refused.value.detail
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_each_piece_is_on_the_disk_before_its_times_are_written(
    writer: SeriesWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fsync after each flush a power cut cannot leave a time without its record either."""
    calls: list[str] = []

    def name_of(fd: int) -> str:
        return os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2].partition(".")[0]

    pwrite = os.pwrite

    def noted_pwrite(fd: int, data: memoryview, offset: int) -> int:
        calls.append(f"write {name_of(fd)}")
        return pwrite(fd, data, offset)

    monkeypatch.setattr("os.pwrite", noted_pwrite)
    monkeypatch.setattr("os.fdatasync", lambda fd: calls.append(f"sync {name_of(fd)}"))
    appender(writer, syncs_each=True).append(DAY, rows_of(0, 2))
    assert calls == [
        *("write price", "write id", "sync price", "sync id", "write time", "sync time"),
    ]


def test_the_newest_record_is_found_behind_days_without_any(
    folder: Path, writer: SeriesWriter
) -> None:
    """A torn tail and a later day that has no time yet are no records."""
    assert appender(writer).newest_s() is None
    put(folder, columns_of(3))
    path_of(folder, "time").write_bytes(struct.pack("<III", AT_S, AT_S, AT_S + 7) + b"??")
    (folder / "time.03.06.25.bin").write_bytes(b"")
    (folder / "price.04.06.25.bin").write_bytes(bytes(4))
    assert appender(writer).newest_s() == AT_S + 7
