"""The demo's recorder follows the clock, over midnight, and ends with the demo."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from zerocopy.commands.development import demo_data, recorder
from zerocopy.commands.development.demo_data import DemoRoot, claim
from zerocopy.commands.development.recorder import Recorder, recording
from zerocopy.core.layout import DAY_S, day_label

if TYPE_CHECKING:
    from pathlib import Path

DAY = 20_000
DAY_NS = DAY_S * 10**9
MIDNIGHT_NS = (DAY + 1) * DAY_NS


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small series in place of the demo's own."""
    records = {("coinbase", "BTC-USD"): 40, ("binance", "BTC-USD"): 8}
    monkeypatch.setattr(demo_data, "_RECORDS", records)


def sizes(root: Path, day: int) -> set[int]:
    """The sizes of the files of one day of the first series."""
    folder = root / "coinbase/BTC-USD/MD"
    return {path.stat().st_size for path in folder.glob(f"*.{day_label(day)}.bin")}


@pytest.mark.usefixtures("few")
def test_step_follows_the_clock_over_midnight(tmp_path: Path) -> None:
    """Each record is written when it is due, a day to its end before the next has one."""
    series = Recorder(str(tmp_path), 7, DAY)
    now_ns, steps = MIDNIGHT_NS - DAY_NS, 0
    while now_ns < MIDNIGHT_NS:
        due_ns = series.step(now_ns)
        assert due_ns > now_ns
        assert not sizes(tmp_path, DAY + 1)
        now_ns, steps = due_ns, steps + 1
    assert steps > 40
    assert sizes(tmp_path, DAY) == {160}
    assert series.step(MIDNIGHT_NS + DAY_NS // 2) > MIDNIGHT_NS + DAY_NS // 2
    [half] = sizes(tmp_path, DAY + 1)
    assert 0 < half < 160
    series.close()


@pytest.mark.usefixtures("few")
def test_step_makes_up_for_days_that_it_slept_through(tmp_path: Path) -> None:
    """After a night in suspend the days between are whole."""
    series = Recorder(str(tmp_path), 7, DAY)
    series.step(MIDNIGHT_NS - DAY_NS // 2)
    series.step(MIDNIGHT_NS + 5 * DAY_NS // 2)
    series.close()
    assert [sizes(tmp_path, DAY + more) for more in range(3)] == [{160}] * 3
    assert sizes(tmp_path, DAY + 3) != {160}


def test_recording_ends_with_the_demo_and_holds_the_lock_until_then(tmp_path: Path) -> None:
    """The files hold all up to now when the block begins, and grow no more when it has ended."""
    began_s = int(time.time())
    root = claim(str(tmp_path), 7)
    assert isinstance(root, DemoRoot)
    with recording(root, began_s // DAY_S) as is_recording:
        assert is_recording
        os.close(root.lock_fd)
        assert isinstance(claim(str(tmp_path), 7), str)
        folder = tmp_path / "coinbase/BTC-USD/MD"
        if began_s % DAY_S > 60:  # by then the first of 200,000 records a day are there
            assert list(folder.glob("time.*.bin"))
    again = claim(str(tmp_path), 7)
    assert isinstance(again, DemoRoot)
    os.close(again.lock_fd)


def test_recording_that_cannot_begin_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A root that cannot be written is one line on standard error, and no fault of the demo's."""
    claimed = claim(str(tmp_path), 7)
    assert isinstance(claimed, DemoRoot)
    (tmp_path / "coinbase").write_bytes(b"")
    monkeypatch.setattr(recorder, "series_of_day", None)  # only the child is to look
    with recording(claimed, DAY) as is_recording:
        assert not is_recording
    os.close(claimed.lock_fd)
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("zerocopy: the demo records no more: ")
