"""A day's files grow to what the whole day would be, whatever interrupted them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zerocopy.commands.development.growing import GrowingDay
from zerocopy.commands.development.sample_data import COLUMNS, GenerateSpec, date_of, generate
from zerocopy.commands.development.sample_market import Ticks
from zerocopy.core.layout import DAY_S, file_name

if TYPE_CHECKING:
    from pathlib import Path

DAY = 20_000
RECORDS = 500
TICKS = Ticks("coinbase", "BTC-USD", "MD", DAY, RECORDS, seed=3)
BEGIN_NS, END_NS = DAY * DAY_S * 10**9, (DAY + 1) * DAY_S * 10**9


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of each column of the whole day, as `generate` writes them."""
    root = tmp_path_factory.mktemp("whole")
    spec = GenerateSpec(
        root=str(root), first_day=date_of(DAY), types=("MD",), records_per_day=RECORDS, seed=3
    )
    generate(spec)
    return contents(root)


def contents(root: Path) -> dict[str, bytes]:
    """The bytes of each column's file; the folder holds nothing else."""
    folder = root / "coinbase/BTC-USD/MD"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files.keys() == {file_name(column, DAY) for column in COLUMNS["MD"]}
    return files


def test_grow_appends_exactly_what_is_due(tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Each call ends with the last record up to now, and names the next; the day ends complete."""
    with GrowingDay(str(tmp_path), TICKS) as day:
        due_ns = day.grow(BEGIN_NS)
        assert due_ns is not None
        assert not list(tmp_path.iterdir())
        assert day.grow(due_ns - 1) == due_ns
        assert not list(tmp_path.iterdir())
        for records in range(1, 20):
            assert due_ns is not None
            due_ns = day.grow(due_ns)
            files = contents(tmp_path)
            assert {len(file) for file in files.values()} == {4 * records}
            assert all(whole[name].startswith(file) for name, file in files.items())
        assert day.grow(END_NS) is None
        assert contents(tmp_path) == whole


def test_grow_goes_on_after_a_crash_between_two_writes(
    tmp_path: Path, whole: dict[str, bytes]
) -> None:
    """Columns of different length, a torn record and a missing file end as the whole day."""
    folder = tmp_path / "coinbase/BTC-USD/MD"
    folder.mkdir(parents=True)
    for index, (name, content) in enumerate(sorted(whole.items())[1:]):
        (folder / name).write_bytes(content[: 100 + 7 * index])
    with GrowingDay(str(tmp_path), TICKS) as day:
        assert day.grow(END_NS) is None
    assert contents(tmp_path) == whole


@pytest.mark.parametrize(
    "foreign", [b"\1\2\3\4", bytes(4 * (RECORDS + 1))], ids=["other", "longer"]
)
def test_grow_leaves_a_day_that_somebody_else_writes(
    tmp_path: Path, whole: dict[str, bytes], foreign: bytes
) -> None:
    """One file that does not begin as ours does, and nothing is appended to any of them."""
    folder = tmp_path / "coinbase/BTC-USD/MD"
    folder.mkdir(parents=True)
    for name, content in whole.items():
        (folder / name).write_bytes(content[:40])
    (folder / file_name("price", DAY)).write_bytes(foreign)
    before = contents(tmp_path)
    with GrowingDay(str(tmp_path), TICKS) as day:
        assert day.grow(END_NS) is None
        assert day.is_foreign
    assert contents(tmp_path) == before
