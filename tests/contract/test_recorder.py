"""The open day while a recorder writes: aligned, a prefix, and nothing flushed is missing."""

from __future__ import annotations

import functools
import mmap
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.contract.recorder import COLUMNS, GONE, RECORDS_A_SECOND, SHARED_BYTES, column_of
from tests.contract.site import Site, data_of, data_target, header_of
from tests.storage.trees import OPEN_DAY, OPEN_START_S, SIZES, file_name, folder, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from zerocopy.storage.tree import Series

RECORDS_MAX = 120_000
TAIL_SECONDS = 20


@pytest.fixture
def acknowledged(tmp_path: Path) -> Iterator[memoryview]:
    """How many records the recorder has flushed, and answers had each client; it shares them."""
    path = tmp_path / "acknowledged"
    path.write_bytes(bytes(SHARED_BYTES))
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), SHARED_BYTES)
    view = memoryview(memory).cast("Q")
    yield view
    view.release()
    memory.close()


@functools.lru_cache(maxsize=len(COLUMNS))
def whole_column(column: str, start_s: int) -> bytes:
    """All that will ever be written to a column."""
    return column_of(column, 0, RECORDS_MAX, start_s)


class Client(threading.Thread):
    """Asks again and again until the recorder has ended, and once more; keeps what was wrong."""

    def __init__(
        self,
        site: Site,
        series: Series,
        *,
        columns: Sequence[str],
        start_s: int,
        acknowledged: memoryview,
        place: int,
        ended: threading.Event,
    ) -> None:
        super().__init__()
        self.place = place
        self.site, self.series, self.columns = site, series, columns
        self.acknowledged, self.ended = acknowledged, ended
        self.start_s = start_s
        self.faults: list[str] = []
        self.lengths: list[int] = []

    def run(self) -> None:
        """Ask, and hold the recorder up no more at the end, whatever that is."""
        try:
            self._ask()
        finally:
            self.acknowledged[self.place] = GONE

    def _ask(self) -> None:
        """Whole days, then a window that begins near the end, in turn."""
        with self.site.session() as session:
            finished = False
            while not finished and not self.faults:
                finished = self.ended.is_set()
                for first in (0, self._tail()):
                    first_s = self.start_s + first // RECORDS_A_SECOND
                    target = data_target(self.series, first_s, self.start_s + 86_399, self.columns)
                    flushed = self.acknowledged[0]
                    answer = session.request(target)
                    if answer.status != 200:
                        self.faults.append(f"{answer.status} {answer.content!r}")
                        break
                    self._check(first, flushed, header_of(answer), data_of(answer))

    def _tail(self) -> int:
        """The first record of a second that is near the end of what is flushed."""
        second = self.acknowledged[0] // RECORDS_A_SECOND
        return int(max(0, second - TAIL_SECONDS) * RECORDS_A_SECOND)

    def _check(
        self, first: int, flushed: int, header: dict[str, list[dict[str, int]]], data: bytes
    ) -> None:
        lengths = {column["num_records"] for column in header["columns"]}
        if len(lengths) != 1:
            self.faults.append(f"not aligned: {header}")
            return
        (length,) = lengths
        if first + length < flushed:
            self.faults.append(f"{flushed} were flushed, {first} + {length} came")
        offset = 0
        for column in self.columns:
            size = SIZES.get(column, 4)
            part = data[offset : offset + length * size]
            expected = whole_column(column, self.start_s)[first * size : (first + length) * size]
            if part != expected:
                self.faults.append(f"{column}: {length} records from {first} are not those written")
            offset += length * size
        if offset != len(data):
            self.faults.append(f"{len(data)} bytes for {offset}")
        self.lengths.append(first + length)
        self.acknowledged[self.place] = len(self.lengths)


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(RECORDS_MAX, marks=pytest.mark.slow)], ids=str
)
def test_open_day_while_a_recorder_writes_is_an_exact_prefix(
    site: Site, series: Series, acknowledged: memoryview, tmp_path: Path, count: int
) -> None:
    """Several clients against a recorder with torn records: every answer is aligned and complete.

    Record i of every column encodes i, so a shift, a gap or a torn record anywhere shows.
    """
    put(site.root, dict.fromkeys(COLUMNS, b""), OPEN_DAY, series)
    ended = threading.Event()
    orders = [("time", "price", "id", "order"), ("order", "price"), ("id", "time")]
    start_s = OPEN_START_S
    clients = [
        Client(
            site,
            series,
            columns=columns,
            start_s=start_s,
            acknowledged=acknowledged,
            place=place,
            ended=ended,
        )
        for place, columns in enumerate(orders, 1)
    ]
    label = file_name("", OPEN_DAY).removeprefix(".").removesuffix(".bin")
    command = [sys.executable, "-m", "tests.contract.recorder", folder(site.root, series), label]
    command += [str(start_s), str(count), str(tmp_path / "acknowledged")]
    recorder = subprocess.Popen(command)
    for client in clients:
        client.start()
    try:
        assert recorder.wait(40) == 0
    finally:
        recorder.kill()
        ended.set()
        for client in clients:
            client.join()
    for client in clients:
        assert client.faults == []
        assert client.lengths[-1] == count
        grown = client.lengths[0::2]
        assert grown == sorted(grown), "the whole day never gets shorter"
        assert len(set(client.lengths)) >= 10, "the client never met the recorder at work"
    sizes = [os.stat(f"{folder(site.root, series)}/{c}.{label}.bin").st_size for c in COLUMNS]
    assert sizes == [count * SIZES.get(column, 4) for column in COLUMNS]
