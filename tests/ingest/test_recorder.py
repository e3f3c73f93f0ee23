"""Rows given to a recorder are in the files, in order, once: compared with a list."""

from __future__ import annotations

import itertools
import os
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.client import poll
from tests.ingest.memory import memory_directory
from zerocopy.core.errors import BadRequestError, ConfigError, IngestError
from zerocopy.ingest import Counts, Recorder, RecorderFullError

if TYPE_CHECKING:
    from pathlib import Path

AT_S = 20_240 * 86_400
LABELS = ("01.06.25", "02.06.25", "03.06.25")
SERIES: dict[str, Any] = {"exchange": "e", "symbol": "s", "type": "T"}

Row = tuple[int, float]


def recorder(root: Path | str, **options: Any) -> Recorder:
    """One of `time` and `price` that flushes when told, unless `options` say otherwise."""
    wanted: dict[str, Any] = {"columns": ("price",), "flush_ms": None, "fsync": "never"}
    return Recorder(str(root), **SERIES, **(wanted | options))


def rows_in(root: Path | str, label: str = LABELS[0]) -> list[Row]:
    """The aligned records of a day."""
    found = []
    for column in ("time", "price"):
        path = os.path.join(root, "e", "s", "T", f"{column}.{label}.bin")
        if not os.path.exists(path):
            return []
        with open(path, "rb") as file:
            found.append(file.read())
    count = len(found[0]) // 4
    assert len(found[1]) >= 4 * count, "a time is the last of its record"
    times = struct.unpack(f"<{count}I", found[0][: 4 * count])
    return [*zip(times, struct.unpack(f"<{count}f", found[1][: 4 * count]), strict=True)]


STEPS: st.SearchStrategy[tuple[str, list[int]]] = st.one_of(
    st.lists(st.integers(-3, 200_000), min_size=1, max_size=5).map(lambda rows: ("rows", rows)),
    st.lists(st.integers(-3, 200_000), max_size=8).map(lambda rows: ("batch", rows)),
    st.just(("flush", [])),
    st.just(("restart", [])),
)


@given(st.lists(STEPS, max_size=12), st.sampled_from([0, 30]))
@settings(max_examples=15)
def test_all_rows_in_time_are_in_the_files_of_their_days(
    steps: list[tuple[str, list[int]]], reorder_s: int
) -> None:
    """Rows, batches, flushes and restarts in any order, over midnights, late rows among them."""
    expected: list[Row] = []
    late = newest = floor = 0
    number = itertools.count()
    run: list[Row] = []  # since the last start

    def close(opened: Recorder) -> None:
        nonlocal late, floor, newest
        opened.__exit__(None, None, None)
        run.sort(key=lambda row: row[0])
        expected.extend(run)
        assert opened.counts == (len(run), late, 0, 0)
        run.clear()
        late, newest = 0, 0
        floor = expected[-1][0] if expected else 0

    with memory_directory() as root:
        opened = recorder(root, reorder_s=reorder_s).__enter__()
        for kind, offsets in steps:
            rows = [(AT_S + offset + 3, float(next(number))) for offset in offsets]
            for row in rows:
                if row[0] < max(newest - reorder_s, floor):
                    late += 1
                else:
                    newest = max(newest, row[0])
                    run.append(row)
            if kind == "rows":
                for row in rows:
                    opened.append(row)
            elif kind == "batch":
                times, prices = zip(*rows, strict=True) if rows else ((), ())
                opened.extend(
                    {"time": np.array(times, "i8"), "price": np.array(prices, "f8")},
                )
            elif kind == "flush":
                opened.flush()
            else:
                close(opened)
                opened = recorder(root, reorder_s=reorder_s).__enter__()
        close(opened)
        assert [row for label in LABELS for row in rows_in(root, label)] == expected


def test_rows_are_in_the_files_by_themselves_after_flush_ms(tmp_path: Path) -> None:
    """Nobody calls flush, and no further row comes."""
    with recorder(tmp_path, flush_ms=1) as opened:
        opened.append((AT_S, 1.0))
        poll(lambda: rows_in(tmp_path) == [(AT_S, 1.0)], "the row")


def test_held_back_rows_are_written_by_themselves_after_reorder_s(tmp_path: Path) -> None:
    """Though no newer row comes to push them."""
    with recorder(tmp_path, flush_ms=1, reorder_s=1) as opened:
        opened.append((AT_S + 1, 1.0))
        opened.append((AT_S, 2.0))
        poll(lambda: rows_in(tmp_path) == [(AT_S, 2.0), (AT_S + 1, 1.0)], "both rows")


def test_callers_in_several_threads_lose_no_row(tmp_path: Path) -> None:
    """Each of four has its own rows, beside the thread that flushes."""
    count = 3_000
    with recorder(tmp_path, flush_ms=1) as opened:

        def work(which: int) -> None:
            for index in range(count):
                opened.append((AT_S, which * count + index))
                if index % 500 == 0:
                    opened.flush()

        threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    prices = [int(price) for _, price in rows_in(tmp_path)]
    assert sorted(prices) == [*range(4 * count)]
    for which in range(4):
        mine = [price for price in prices if price // count == which]
        assert mine == sorted(mine)


def test_one_recorder_writes_a_series(tmp_path: Path) -> None:
    """A second one is refused, until the first has closed; another series is free."""
    with recorder(tmp_path) as first:
        with pytest.raises(IngestError, match="e/s/T: another process writes it"):
            recorder(tmp_path).__enter__()
        with Recorder(str(tmp_path), exchange="e", symbol="other", type="T", columns=()):
            first.append((AT_S, 1.0))
    with recorder(tmp_path) as second:
        second.append((AT_S, 2.0))
    assert rows_in(tmp_path) == [(AT_S, 1.0), (AT_S, 2.0)]


def test_rows_older_than_what_is_recorded_are_late_after_a_restart_too(tmp_path: Path) -> None:
    """Also those of an earlier day: live readers are past it."""
    with recorder(tmp_path) as opened:
        opened.append((AT_S + 86_400, 1.0))
    with recorder(tmp_path) as opened:
        for second in (AT_S, AT_S + 86_399, AT_S + 86_400):
            opened.append((second, 2.0))
    assert opened.counts == Counts(recorded=1, late=2, future=0, waiting=0)
    assert not rows_in(tmp_path)
    assert rows_in(tmp_path, LABELS[1]) == [(AT_S + 86_400, 1.0), (AT_S + 86_400, 2.0)]


def test_rows_of_the_future_are_refused_and_counted(tmp_path: Path) -> None:
    """A store that has one already, by whatever hand, is not appended to."""
    with recorder(tmp_path, future_s=10) as opened:
        opened.append((int(time.time()) + 3_600, 1.0))
    assert opened.counts == Counts(recorded=0, late=0, future=1, waiting=0)
    with recorder(tmp_path, future_s=1 << 31) as opened:
        opened.append((4_000_000_000 // 2, 1.0))
    with pytest.raises(IngestError, match=r"has a record of the future, of 18\.05\.33"):
        recorder(tmp_path).__enter__()


def test_an_error_of_the_caller_loses_no_row(tmp_path: Path) -> None:
    """What was appended before it is written."""
    with suppress(ZeroDivisionError), recorder(tmp_path) as opened:
        opened.append((AT_S, 1.0))
        raise ZeroDivisionError
    assert rows_in(tmp_path) == [(AT_S, 1.0)]


class Disk:
    """os.pwrite of a disk that can be full."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self._pwrite = os.pwrite
        patch.setattr("zerocopy.ingest.recording.appending.os.pwrite", self.pwrite)

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        """As the disk allows."""
        if self.is_full:
            raise OSError(28, "No space left on device")
        return self._pwrite(fd, data, offset)


def test_a_full_disk_is_told_once_and_rows_wait_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The callback hears of the fault and of its end; no row is lost, no call blocks."""
    disk = Disk(monkeypatch)
    told: list[OSError | None] = []
    with recorder(tmp_path, flush_ms=1, on_fault=told.append) as opened:
        disk.is_full = True
        opened.append((AT_S, 1.0))
        poll(lambda: bool(told), "the fault")
        opened.append((AT_S, 2.0))
        opened.extend({"time": [AT_S], "price": [3.0]})
        with pytest.raises(OSError, match="No space"):
            opened.flush()
        assert opened.counts.waiting == 3
        disk.is_full = False
        poll(lambda: len(told) > 1, "its end")
        assert [error and error.errno for error in told] == [28, None]
    assert rows_in(tmp_path) == [(AT_S, 1.0), (AT_S, 2.0), (AT_S, 3.0)]


@pytest.mark.parametrize("flush_ms", [None, 1])
@pytest.mark.parametrize("way", ["rows", "batches"])
def test_a_buffer_that_is_full_takes_no_further_row(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    way: str,
    flush_ms: int | None,
) -> None:
    """It says how many of a batch it took; those, and no others, are in the files afterwards."""
    monkeypatch.setattr("zerocopy.ingest.recorder.FLUSH_BYTES", 800)
    monkeypatch.setattr("zerocopy.ingest.recorder.PIECE_RECORDS", 10)
    monkeypatch.setattr("zerocopy.ingest.recorder.RETRY_S", 0.001)
    disk, kept = Disk(monkeypatch), 0
    disk.is_full = True
    with recorder(tmp_path, buffer_bytes_max=4_000, flush_ms=flush_ms) as opened:
        with pytest.raises(RecorderFullError, match="No space left on device") as full:  # noqa: PT012
            while True:
                # As slow as a thread that takes rows over each time that it tries the disk.
                time.sleep(0.0001 if flush_ms else 0)
                if way == "rows":
                    opened.append((AT_S, kept))
                    kept += 1
                else:
                    times, prices = np.full(35, AT_S), np.arange(kept, kept + 35)
                    opened.extend({"time": times, "price": prices})
                    kept += 35
        kept += full.value.taken
        assert opened.counts.waiting == kept <= 500
        disk.is_full = False
    assert rows_in(tmp_path) == [(AT_S, float(number)) for number in range(kept)]
    assert [record.message for record in caplog.records] == [
        "e/s/T: No space left on device; rows wait in memory until it is tried again",
        "e/s/T: written again",
    ]


def test_a_disk_that_is_full_to_the_end_says_how_many_rows_are_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held back ones among them."""
    disk = Disk(monkeypatch)
    with (  # noqa: PT012 - the error is that of leaving it
        pytest.raises(IngestError, match="No space left on device; 2 rows are lost"),
        recorder(tmp_path, reorder_s=5) as opened,
    ):
        disk.is_full = True
        opened.extend({"time": [AT_S, AT_S + 9], "price": [1.0, 2.0]})


def test_a_series_that_cannot_be_written_is_told_to_the_caller(tmp_path: Path) -> None:
    """By each call after the thread has found out."""
    with recorder(tmp_path, columns=("price", "size")) as opened:
        opened.append((AT_S, 1.0, 2.0))

    with (  # noqa: PT012 - the error is that of leaving it
        pytest.raises(IngestError, match="has a column that is not recorded"),
        recorder(tmp_path, flush_ms=1) as opened,
    ):
        opened.append((AT_S, 1.0))
        poll(lambda: opened._failure is not None, "the thread")
        with pytest.raises(IngestError, match=r"01\.06\.25 has a column .* not recorded: size"):
            opened.flush()
        opened.append((AT_S, 1.0))


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """Before anything is made on the disk."""
    with pytest.raises(BadRequestError, match="symbol"):
        Recorder(str(tmp_path), exchange="e", symbol="../x", type="T", columns=())
    with pytest.raises(ConfigError):
        recorder(tmp_path, dtypes={"price": "f2"})
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("fsync", ["flush", 0.0])
def test_files_are_synchronized_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Any
) -> None:
    """After each flush, or when so many seconds have passed; at the end in any case."""
    synced: list[str] = []
    monkeypatch.setattr(
        "zerocopy.ingest.recording.appending.os.fdatasync",
        lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[2]),
    )
    with recorder(tmp_path, fsync=fsync) as opened:
        opened.append((AT_S, 1.0))
        opened.flush()
        assert synced == ["price.01.06.25.bin", "time.01.06.25.bin"]
