"""zerocopy.service.live.tally: what is counted of the messages of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.service.live.bench import DAY, SECOND_NS, Bench, ids_of, run
from zerocopy.core import counters as slots
from zerocopy.core.counters import LIVE_LAG
from zerocopy.core.cursor import Cursor

if TYPE_CHECKING:
    from pathlib import Path


def lags(bench: Bench) -> int:
    """How many messages the histogram has."""
    return sum(bench.counters[LIVE_LAG.first : LIVE_LAG.first + len(LIVE_LAG.bounds_ns) + 1])


def test_lag_is_that_of_new_records_and_not_of_who_comes_late(tmp_path: Path) -> None:
    """A client that reads an hour's old records has not waited an hour for them."""

    async def test(bench: Bench) -> None:
        await bench.up_to_date(await bench.open())
        bench.now_ns += 3_600 * SECOND_NS
        late = await bench.open(cursor=Cursor(DAY, 0))
        await bench.message(late)
        assert ids_of(await bench.message(late)) == [1, 2, 3]
        assert (lags(bench), bench.counters[slots.LIVE_MESSAGES]) == (0, 1)
        await bench.up_to_date(late)
        bench.now_ns += SECOND_NS
        bench.append(1)
        assert ids_of(await bench.message(late)) == [4]
        assert (lags(bench), bench.counters[slots.LIVE_MESSAGES]) == (1, 2)

    run(tmp_path, test)
