"""The demo writes only to its own root, once, and tops it up to two whole weeks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zerocopy.commands.development import demo_data
from zerocopy.commands.development.demo_data import DAYS, MARK, DemoRoot, claim, series_of_day
from zerocopy.commands.development.sample_data import generate
from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import day_label

if TYPE_CHECKING:
    from collections.abc import Iterator

TODAY = 20_000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DemoRoot]:
    """A new root of two small series."""
    records = {("coinbase", "BTC-USD"): 40, ("binance", "BTC-USD"): 8}
    monkeypatch.setattr(demo_data, "_RECORDS", records)
    claimed = claim(str(tmp_path / "new"), 7)
    assert isinstance(claimed, DemoRoot)
    yield claimed
    os.close(claimed.lock_fd)


def make(root: DemoRoot, today: int) -> int:
    """Generate what is missing; how many days of a series that was."""
    missing = root.missing(today)
    for spec in missing:
        generate(spec)
    return len(missing)


def time_file(root: DemoRoot, day: int) -> Path:
    """The times of the first series."""
    return Path(root.path, "coinbase/BTC-USD/MD", f"time.{day_label(day)}.bin")


def test_missing_days_are_made_once_and_topped_up_later(root: DemoRoot) -> None:
    """Two weeks the first time, nothing the second, and the days since then later on."""
    series = len(list(series_of_day(TODAY, 7)))
    assert make(root, TODAY) == DAYS * series
    assert make(root, TODAY) == 0
    time_file(root, TODAY - 3).unlink()
    assert make(root, TODAY) == 1
    assert make(root, TODAY + 2) == 2 * series
    assert make(root, TODAY + 100) == DAYS * series


def test_complete_appends_what_a_day_lacked_when_the_demo_stopped(root: DemoRoot) -> None:
    """The day in which it stopped ends as if the demo had run until midnight."""
    make(root, TODAY)
    path = time_file(root, TODAY - 1)
    whole = path.read_bytes()
    for column in path.parent.glob(f"*.{day_label(TODAY - 1)}.bin"):
        os.truncate(column, 50)
    root.complete(TODAY)
    assert path.read_bytes() == whole
    sizes = {column.stat().st_size for column in path.parent.glob(f"*.{day_label(TODAY - 1)}.bin")}
    assert sizes == {len(whole)}


def test_claim_lets_one_demo_write_at_a_time(root: DemoRoot) -> None:
    """The second is told so; the next after the end of the first gets it."""
    told = claim(root.path, 7)
    assert isinstance(told, str)
    assert "another demo" in told
    # The lock ends with the last descriptor: a recorder that still writes keeps it.
    recorders = os.dup(root.lock_fd)
    os.close(root.lock_fd)
    assert isinstance(claim(root.path, 7), str)
    os.close(recorders)
    again = claim(root.path, 7)
    assert isinstance(again, DemoRoot)
    os.dup2(again.lock_fd, root.lock_fd)
    if again.lock_fd != root.lock_fd:
        os.close(again.lock_fd)


def test_claim_leaves_a_root_that_is_not_a_demo_s(tmp_path: Path) -> None:
    """Its data are served as they are, and no mark is made there."""
    (tmp_path / "coinbase").mkdir()
    told = claim(str(tmp_path), 7)
    assert told == f"{tmp_path} was not made by this demo and is served as it is"
    assert os.listdir(tmp_path) == ["coinbase"]


def test_claim_of_a_file_is_refused(tmp_path: Path) -> None:
    """A root that cannot be one is told in one line."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot hold the demo's data"):
        claim(str(tmp_path / "file"), 7)


def test_claim_of_what_cannot_be_written_serves_it(tmp_path: Path) -> None:
    """As on a read-only file system; a directory in the place of the mark stands for it."""
    (tmp_path / MARK).mkdir()
    told = claim(str(tmp_path), 7)
    assert told == f"{tmp_path} cannot be written (Is a directory) and is served as it is"


def test_claim_names_the_seed_a_root_was_made_with(tmp_path: Path) -> None:
    """One line says which seed would be right, and where else to go."""
    claimed = claim(str(tmp_path), 7)
    assert isinstance(claimed, DemoRoot)
    os.close(claimed.lock_fd)
    with pytest.raises(ConfigError, match="was made with --seed 7"):
        claim(str(tmp_path), 8)
