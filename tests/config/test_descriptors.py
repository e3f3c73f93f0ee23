"""What a worker keeps for files and plans is what they take, whatever the configuration says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.descriptors import held_files
from tests.storage.trees import DAY, bench, put, query, start_of, u32
from zerocopy.config.descriptors import descriptors_kept
from zerocopy.config.load import Config
from zerocopy.core import timeindex
from zerocopy.storage import planner as planner_module

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.core.timeindex import RecordRange, TimeColumn


def kept(columns_max: int, threads: int) -> int:
    """What is kept with so many columns and planning threads, all else as by default."""
    config = Config()
    limits = msgspec.structs.replace(
        config.limits, columns_max=columns_max, planner_threads=threads
    )
    return descriptors_kept(msgspec.structs.replace(config, limits=limits))


@pytest.mark.parametrize(("columns_max", "days"), [(1, 70), (200, 3)])
def test_plan_never_holds_more_than_is_kept_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns_max: int, days: int
) -> None:
    """The widest query that `columns_max` allows, over days that fill all that a plan may hold."""
    columns = [f"c{number}" for number in range(columns_max)]
    for day in (DAY - timedelta(days=number) for number in range(days)):
        put(str(tmp_path), {"time": u32(start_of(day)), **dict.fromkeys(columns, bytes(4))}, day)
    begun, most = held_files(), 0
    search = timeindex.record_range

    def counted(column: TimeColumn, start_s: int, end_s: int) -> RecordRange:
        nonlocal most
        most = max(most, len(held_files() - begun))
        return search(column, start_s, end_s)

    monkeypatch.setattr(planner_module, "record_range", counted)
    with bench(str(tmp_path)) as planning:
        assert len(planning.body(query(columns=columns))) > 4 * days * columns_max
    assert 128 < most <= kept(columns_max, 2) - kept(columns_max, 1)
