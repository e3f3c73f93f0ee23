"""Days that lack a column: passed over once a later day has records, and told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.eventstream import EventSource
from tests.service.live.bench import DAY, Bench, run
from tests.service.live.readers import content_of
from zerocopy.core import counters as slots
from zerocopy.core.cursor import Cursor
from zerocopy.core.layout import day_label, file_name

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.service.live.feed import LiveFeed

LACKING = (DAY + 1, DAY + 3)
LATER = DAY + 4


def write(root: Path, day: int, **columns: bytes) -> None:
    """Files of a day."""
    for column, data in columns.items():
        (root / "coinbase" / "A" / "MD" / file_name(column, day)).write_bytes(data)


async def told(bench: Bench, feed: LiveFeed, *, websocket: bool) -> tuple[list[str], str]:
    """Which days the next message says are skipped, and its cursor."""
    content = content_of(await bench.message(feed))
    if websocket:
        header = orjson.loads(content.partition(b"\n")[0])
        return header.get("skipped", []), header["cursor"]
    [event] = EventSource().feed(content)
    return orjson.loads(event.data).get("skipped", []), event.last_event_id


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("websocket", [False, True])
def test_message_behind_a_day_without_a_column_names_it(
    tmp_path: Path, *, websocket: bool, is_large: bool
) -> None:
    """Once, also where a thread makes the message; who begins behind it hears nothing of it."""
    count = 5_000 if is_large else 2

    async def test(bench: Bench) -> None:
        early = await bench.open(websocket=websocket, cursor=Cursor(DAY, 0))
        await bench.message(early)
        assert await told(bench, early, websocket=websocket) == ([], str(Cursor(DAY, 3)))
        for day in LACKING:
            write(tmp_path, day, time=bytes(8), price=bytes(8))
        write(tmp_path, LATER, time=bytes(4 * count), id=bytes(8 * count))
        names = [day_label(day) for day in LACKING]
        skipped, cursor = await told(bench, early, websocket=websocket)
        assert skipped == names
        assert bench.counters[slots.DAYS_SKIPPED] == len(LACKING)
        late = await bench.open(websocket=websocket, cursor=Cursor(LATER, 0))
        await bench.message(late)
        skipped, _ = await told(bench, late, websocket=websocket)
        assert skipped == []
        while cursor != str(Cursor(LATER, count)):
            skipped, cursor = await told(bench, early, websocket=websocket)
            assert skipped == []

    run(tmp_path, test)


def test_cursor_on_a_day_without_a_column_hears_of_that_day(tmp_path: Path) -> None:
    """It waits there while that day is the last, and goes on behind it."""

    async def test(bench: Bench) -> None:
        write(tmp_path, DAY + 1, time=bytes(8))
        feed = await bench.open(cursor=Cursor(DAY + 1, 0))
        await bench.message(feed)
        write(tmp_path, DAY + 2, time=bytes(8), id=bytes(16))
        assert await told(bench, feed, websocket=False) == (
            [day_label(DAY + 1)],
            str(Cursor(DAY + 2, 2)),
        )

    run(tmp_path, test)
