"""Signs of life of live streams: each that has had nothing for a while gets one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.service.live.bench import DAY, SECOND_NS, Bench, run
from zerocopy.core.cursor import Cursor
from zerocopy.core.http.stream import HEARTBEAT, Message

if TYPE_CHECKING:
    from pathlib import Path


def test_heartbeat_after_a_while_without_a_message(tmp_path: Path) -> None:
    """One for each while, to those that wait; a message begins it anew."""

    async def test(bench: Bench) -> None:
        feed = await bench.open()
        await bench.up_to_date(feed)
        bench.now_ns += 14 * SECOND_NS
        bench.live.tend()
        assert feed.next() is None
        for _ in range(2):
            bench.now_ns += 15 * SECOND_NS
            bench.live.tend()
            assert feed.next() is HEARTBEAT
            assert feed.next() is None

    run(tmp_path, test)


def test_heartbeat_reaches_who_waits_for_another_day_than_the_newest(tmp_path: Path) -> None:
    """Those on the newest day get messages, so they need none; proxies would cut this one off."""

    async def test(bench: Bench) -> None:
        feed, ahead = await bench.open(), await bench.open(cursor=Cursor(DAY + 9, 0))
        for _ in range(3):
            await bench.up_to_date(feed)
            await bench.up_to_date(ahead)
            bench.now_ns += 5 * SECOND_NS
            bench.live.tend()
            bench.append(1)
            assert isinstance(await bench.item(feed), Message)
        assert await bench.item(ahead) is HEARTBEAT

    run(tmp_path, test)
