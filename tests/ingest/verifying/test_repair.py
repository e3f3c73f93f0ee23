"""What is mended is mended without loss: compared with a list, and after a crash at any step."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest.memory import memory_directory
from tests.ingest.verifying.stores import (
    COLUMNS,
    COUNT,
    DAY,
    DAY_S,
    DTYPES,
    NOW_S,
    SERIES,
    Table,
    findings,
    folder,
    path_of,
    problems,
    put,
    records,
    sound,
    table,
)
from tests.storage.trees import DTYPES as PLANNED_DTYPES
from zerocopy.commands.verify import verify
from zerocopy.core.errors import IngestError
from zerocopy.core.layout import Dtypes, day_label
from zerocopy.core.query import Query
from zerocopy.core.settling import Settling
from zerocopy.formats.columns import represent
from zerocopy.ingest.daywriter import SeriesWriter
from zerocopy.ingest.verifying.day import Place
from zerocopy.ingest.verifying.repair import LOG_NAME, LogFile, Repair, Step
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = (pytest.mark.slow, pytest.mark.timeout(1_800))


def repair(root: Path, *, is_dry: bool = False, now_s: float = NOW_S) -> list[Step]:
    """Mend the series; what was done."""
    steps: list[Step] = []
    Repair(Place(str(root), DTYPES, now_s), SERIES, steps.append, is_dry=is_dry).run()
    return steps


def told(steps: list[Step]) -> list[tuple[str, str]]:
    """Day and deed of each."""
    return [(step.day, step.done) for step in steps]


def sorted_by_day(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Each record in the file of its day, by time; of the same second in the order it had.

    Those of an earlier day's file come first: they were written first.
    """
    ordered = sorted(rows, key=lambda row: (row[1], row[0]))
    return [(row[1] // DAY_S, *row[1:]) for row in ordered]


def wild(seed: int) -> dict[int, Table]:
    """Days whose records lie some in the next or the last one, not all in order."""
    chance = np.random.default_rng(seed)
    days: dict[int, Table] = {}
    for day in range(DAY, DAY + 3):
        columns = table(day, int(chance.integers(0, 60)))
        times = columns["time"].astype(np.int64)
        if chance.random() < 0.6:
            some = chance.random(len(times)) < 0.2
            times[some] += chance.choice([-DAY_S, DAY_S, 40, -40], int(some.sum()))
        columns["time"] = np.clip(times, (DAY - 1) * DAY_S, (DAY + 4) * DAY_S - 1).astype("<u4")
        days[day] = columns
    return days


def put_wild(root: Path, seed: int) -> list[tuple[int, ...]]:
    """Such a store, with rests behind the times of some days; what it is to become."""
    for day, columns in wild(seed).items():
        put(root, columns, day)
    expected = sorted_by_day(records(root))
    chance = random.Random(seed)
    for day in range(DAY, DAY + 3):
        for column, rest in (("price", 4 * chance.randrange(3)), ("id", chance.randrange(40))):
            with path_of(root, column, day).open("ab") as file:
                file.write(b"\xee" * rest * chance.randrange(2))
    return expected


@given(st.integers(0, 1 << 32))
@settings(max_examples=12)
def test_a_repaired_store_is_silent_and_has_every_record_in_its_place(seed: int) -> None:
    """Random disorder, strays to both sides and rests: all that has a time is kept, once."""
    with memory_directory() as name:
        root = Path(name)
        expected = put_wild(root, seed)
        before = {path: path.read_bytes() for path in folder(root).iterdir()}
        planned = repair(root, is_dry=True)
        assert {path: path.read_bytes() for path in folder(root).iterdir()} == before
        done = repair(root)
        # A day that gets records is sorted with them, and then needs no step of its own.
        assert {each.day for each in planned} >= {each.day for each in done}
        assert records(root) == expected
        assert findings(root) == []
        assert repair(root) == []


def test_each_deed_is_told_with_its_numbers(tmp_path: Path) -> None:
    """Days that are sound are not touched."""
    sound(tmp_path)
    columns = table()
    columns["time"][-3:] = (DAY + 1) * DAY_S
    columns["time"][[5, 9]] = columns["time"][[9, 5]]
    put(tmp_path, columns)
    with path_of(tmp_path, "price", DAY + 2).open("ab") as file:
        file.write(b"abcdef")
    inode = path_of(tmp_path, "price", DAY + 1).stat().st_ino
    steps = repair(tmp_path)
    assert [(step.day, step.done, step.facts) for step in steps] == [
        ("01.06.25", "moved records to their day", {"records": 3, "to": "02.06.25"}),
        ("01.06.25", "sorted by time", {"records": COUNT}),
        (
            "03.06.25",
            "cut off what has no time",
            {"column": "price", "bytes": 6, "hex": b"abcdef".hex()},
        ),
    ]
    assert path_of(tmp_path, "price", DAY + 1).stat().st_ino != inode
    assert len(path_of(tmp_path, "time").read_bytes()) == 4 * (COUNT - 3)
    before = {path: path.stat().st_ino for path in folder(tmp_path).iterdir()}
    assert repair(tmp_path) == []
    assert before == {path: path.stat().st_ino for path in folder(tmp_path).iterdir()}


def test_ticks_of_midnight_come_before_those_that_were_written_later(tmp_path: Path) -> None:
    """Within the first second of a day: those at the end of the file before were there first."""
    midnight = (DAY + 1) * DAY_S
    for day, first in ((DAY, midnight - 2), (DAY + 1, midnight)):
        times = np.array([first, midnight, midnight], "<u4")
        marks = np.arange(3) + 10 * (day - DAY)
        put(tmp_path, {"time": times, "price": marks.astype("<f4"), "id": marks.astype("<u8")}, day)
    assert repair(tmp_path)
    assert np.fromfile(path_of(tmp_path, "id", DAY + 1), "<u8").tolist() == [1, 2, 10, 11, 12]


def shorter(root: Path) -> None:
    """A column that lacks records: to cut the others would lose them."""
    os.truncate(path_of(root, "price"), 40)


def wide(root: Path) -> None:
    """A column of f8 that nobody declared."""
    path_of(root, "price").write_bytes(bytes(8 * COUNT))


def far(root: Path) -> None:
    """Zeros where times should be, as after a power cut."""
    columns = table()
    columns["time"][-5:] = 0
    put(root, columns)


def lacking(root: Path) -> None:
    """Strays of a day whose neighbour has other columns."""
    path_of(root, "id", DAY + 1).unlink()
    columns = table()
    columns["time"][-5:] = (DAY + 1) * DAY_S
    put(root, columns)


@pytest.mark.parametrize("fault", [shorter, wide, far, lacking])
def test_what_would_be_a_loss_or_a_guess_is_left_alone(tmp_path: Path, fault: Any) -> None:
    """And still found."""
    sound(tmp_path)
    fault(tmp_path)
    before = {path: path.read_bytes() for path in folder(tmp_path).iterdir()}
    found = problems(tmp_path)
    assert found
    assert repair(tmp_path) == []
    assert {path: path.read_bytes() for path in folder(tmp_path).iterdir()} == before
    assert problems(tmp_path) == found


def test_a_day_that_is_being_written_is_not_touched(tmp_path: Path) -> None:
    """Nor does it get records of the day before."""
    columns = table()
    columns["time"][-3:] = (DAY + 1) * DAY_S
    put(tmp_path, columns)
    put(tmp_path, table(DAY + 1), DAY + 1)
    os.truncate(path_of(tmp_path, "price", DAY + 1), 4 * COUNT - 1)
    now_s = path_of(tmp_path, "time").stat().st_mtime
    today = int(now_s) // DAY_S
    for day in (DAY, DAY + 1):
        for name in COLUMNS:
            os.rename(path_of(tmp_path, name, day), path_of(tmp_path, name, day - DAY - 1 + today))
    assert repair(tmp_path, now_s=now_s) == []


def test_a_series_that_is_being_recorded_is_not_repaired(tmp_path: Path) -> None:
    """The lock is one for all who write."""
    put_wild(tmp_path, 3)
    with (
        SeriesWriter(str(tmp_path), SERIES),
        pytest.raises(IngestError, match="another process writes it"),
    ):
        repair(tmp_path)


class Killed(BaseException):
    """The process is gone here."""


def crashing(patch: pytest.MonkeyPatch, at: int) -> None:
    """Let the process end before its `at`-th system call that changes names or files."""
    calls = 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > at:
                raise Killed
            return function(*arguments, **options)

        return call

    for name in ("rename", "unlink", "fsync", "open"):
        patch.setattr(f"zerocopy.ingest.daywriter.os.{name}", counted(getattr(os, name)))


class Reader:
    """Asks the planner of the server for all records there are."""

    def __init__(self, root: Path) -> None:
        self._planner = Planner(
            root=str(root),
            files=OpenFiles(str(root), 64),
            dtypes=Dtypes({**PLANNED_DTYPES, "id": "u8"}),
            settling=Settling(600, 7),
            days_max=100,
            segments_max=1_000,
            small_answer_bytes_max=1 << 30,
        )

    def read(self) -> tuple[list[tuple[int, ...]], set[int]]:
        """The records of an answer, and the days that it says were skipped."""
        query = Query(*SERIES, 0, 2**32 - 1, tuple(COLUMNS))
        planned = self._planner.plan(query, represent)
        assert planned.content is not None
        _, _, body = planned.content.partition(b"\n")
        count, at, columns = len(body) // 16, 0, []
        for dtype in COLUMNS.values():
            part = np.frombuffer(body, dtype, count, at)
            columns.append(part.tolist())
            at += part.nbytes
        return [*zip(*columns, strict=True)], set(planned.skipped)


def strays(root: Path) -> list[tuple[int, ...]]:
    """A store whose first day has records of the second, unsorted; what it is to become."""
    sound(root)
    columns = table()
    columns["time"][-3:] = (DAY + 1) * DAY_S + 7
    columns["time"][[5, 250]] = columns["time"][[250, 5]]
    put(root, columns)
    return sorted_by_day(records(root))


def test_a_crash_at_any_step_shows_no_record_twice_or_torn_and_the_next_run_completes(
    memory_path: Path,
) -> None:
    """Before each system call in turn: readers get days as before or as after, or skipped."""
    original = memory_path / "original"
    expected = strays(original)
    before = {row[1:] for row in records(original)}
    assert before == {row[1:] for row in expected}
    seen_skipped = False
    for at in range(200):
        root = memory_path / "crashed"
        shutil.copytree(original, root)
        is_whole = False
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, at)
            with suppress(Killed):
                repair(root)
                is_whole = True
        rows, skipped = Reader(root).read()
        assert len(set(rows)) == len(rows)
        assert {*rows} <= before
        if not skipped:
            assert {*rows} == before
        seen_skipped |= bool(skipped)
        repair(root)
        assert records(root) == expected
        assert findings(root) == []
        shutil.rmtree(root)
        if is_whole:
            break
    assert is_whole
    assert seen_skipped


@pytest.fixture(name="memory_path")
def fixture_memory_path() -> Iterator[Path]:
    """As `tmp_path`, in memory."""
    with memory_directory() as name:
        yield Path(name)


@pytest.mark.parametrize("kills", [2, pytest.param(150, marks=SLOW)])
def test_kill_9_at_random_moments_with_readers_beside(memory_path: Path, kills: int) -> None:
    """Whatever a reader gets is right; in the end the store is sound and nothing is missing."""
    chance = random.Random(11)
    root, config = memory_path / "store", memory_path / "config.toml"
    environment = {**os.environ, "ZEROCOPY_CONFIG": str(config)}
    command = [sys.executable, "-m", "zerocopy", "verify", str(root), "--repair"]
    config.write_text('[columns]\nid = "u8"\n', encoding="ascii")
    for _ in range(kills):
        shutil.rmtree(root, ignore_errors=True)
        expected = strays(root)
        all_rows = {row[1:] for row in expected}
        reader = Reader(root)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 20
        try:
            reads = chance.randrange(30)
            while process.poll() is None and reads:
                rows, skipped = reader.read()
                assert len({*rows}) == len(rows)
                assert {*rows} == all_rows or skipped
                is_begun = any(path.name.startswith(".import") for path in folder(root).iterdir())
                reads -= is_begun or not path_of(root, "time").exists()
                assert time.monotonic() < deadline_s
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait()
        assert verify(str(root), config=str(config), repair=True) == 0
        assert records(root) == expected


def test_the_command_mends_tells_and_logs(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Dry first: nothing changes, exit code 1. Then exit code 0, and a log below the root."""
    put(tmp_path, {name: table()[name] for name in ("time", "price")})
    with path_of(tmp_path, "price").open("ab") as file:
        file.write(b"xyz")
    flags: dict[str, Any] = {"config": os.devnull, "repair": True}
    assert verify(str(tmp_path), dry_run=True, **flags) == 1
    out = capsysbinary.readouterr().out.decode()
    assert "e/s/T/01.06.25: cut off what has no time (column price, bytes 3)" in out
    assert not (tmp_path / LOG_NAME).exists()
    assert verify(str(tmp_path), as_json=True, **flags) == 0
    (line,) = capsysbinary.readouterr().out.splitlines()
    assert json.loads(line)["mended"] is True
    (logged,) = (tmp_path / LOG_NAME).read_text("ascii").splitlines()
    entry = json.loads(logged)
    assert (entry["series"], entry["day"], entry["hex"]) == ("e/s/T", day_label(DAY), "78797a")
    assert verify(str(tmp_path), **flags) == 0


def test_a_series_that_cannot_be_repaired_is_told_and_the_exit_code_is_1(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a recorder is at work."""
    put(tmp_path, {name: table()[name] for name in ("time", "price")})
    with path_of(tmp_path, "price").open("ab") as file:
        file.write(b"xyz")
    with SeriesWriter(str(tmp_path), SERIES):
        assert verify(str(tmp_path), config=os.devnull, repair=True) == 1
    assert "e/s/T: another process writes it" in capfd.readouterr().err
    log = LogFile(str(tmp_path))
    (tmp_path / LOG_NAME).unlink()
    (tmp_path / LOG_NAME).mkdir()
    with pytest.raises(IngestError, match=r"repair.log: cannot .*; e/s/T: 01.06.25: sorted"):
        log.write(Step("e/s/T", "01.06.25", "sorted", {}))
