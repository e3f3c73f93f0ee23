"""The work of /api/bars: rounds, plans that change while they are read, and descriptors."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.naive_bars import naive_bars_answer
from tests.server import ForkedServer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    SERIES,
    U32_MAX,
    path_of,
    put,
    replace,
    start_of,
    u32,
)
from zerocopy.config import load as config
from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.messages import Request, Response
from zerocopy.storage import turns
from zerocopy.supervise.compose import build_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zerocopy.service.service import Service
    from zerocopy.storage.planner import Planned

TARGET = f"/api/bars?symbol=X&type=MD&start=0&end={U32_MAX}&columns=price:ohlc%2Bsum&interval=1m"


def f32(count: int, base: float = 0.0) -> bytes:
    """So many records, ascending from `base`."""
    return struct.pack(f"<{count}f", *(base + index for index in range(count)))


def expected(root: Path) -> bytes:
    """The body that the oracle gives."""
    return naive_bars_answer(str(root), *SERIES, 0, U32_MAX, "price:ohlc+sum", "1m", dtypes=DTYPES)


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[Service]:
    """A service over one day of 300 ticks."""
    put(str(tmp_path), {"time": u32(*range(DAY_START_S, DAY_START_S + 300)), "price": f32(300)})
    settings = config.load(os.devnull, environ={"DATA_PATH": str(tmp_path)})
    with ThreadPoolExecutor(2) as executor:
        yield build_service(settings, [0] * len(SLOTS), executor)


def ask(service: Service, times: int = 1) -> list[Response]:
    """Ask as often at once."""

    async def scenario() -> list[Response]:
        request = Request(b"GET", TARGET.encode(), ())
        return await asyncio.gather(*(service.respond(request) for _ in range(times)))

    return asyncio.run(scenario())


def test_equal_queries_that_come_together_share_a_round(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten of them; nothing of the round is kept."""
    plans = 0
    plan = service._planner.plan

    def counted(*arguments: Any) -> Planned:
        nonlocal plans
        plans += 1
        return plan(*arguments)

    monkeypatch.setattr(service._planner, "plan", counted)
    responses = ask(service, 10)
    assert {response.content for response in responses} == {expected(tmp_path)}
    assert plans == 2, "the first alone, all others together"
    assert service._bars_work._rounds == {}
    assert service._counters[slots.REQUESTS_IN_FLIGHT] == 0


def test_query_that_comes_later_is_not_answered_from_what_was_read_before(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is at work when the day is replaced; who asks then gets the new one."""
    begun, gate = threading.Event(), threading.Event()
    written = service._bars_work._written

    def slow(*arguments: Any) -> Planned:
        planned = written(*arguments)
        begun.set()
        assert gate.wait(20)
        return planned

    monkeypatch.setattr(service._bars_work, "_written", slow)

    async def scenario() -> tuple[Response, Response]:
        request = Request(b"GET", TARGET.encode(), ())
        first = asyncio.ensure_future(service.respond(request))
        assert await asyncio.to_thread(begun.wait, 20)
        replace(path_of(str(tmp_path), "price"), f32(300, 1_000))
        second = asyncio.ensure_future(service.respond(request))
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, second)

    old = expected(tmp_path)
    first, second = asyncio.run(scenario())
    assert first.content == old
    assert second.content == expected(tmp_path) != old


def after_plans(
    monkeypatch: pytest.MonkeyPatch, service: Service, change: Callable[[], object]
) -> None:
    """Have `change` happen between each plan and the reading of its files."""
    plan = service._planner.plan

    def planned(*arguments: Any) -> Planned:
        found = plan(*arguments)
        change()
        return found

    monkeypatch.setattr(service._planner, "plan", planned)


def test_file_that_is_cut_before_it_is_read_makes_a_new_plan(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncation, which no operator should do: right bytes of the state after it."""
    path, lengths = path_of(str(tmp_path), "price"), [600]

    def cut() -> None:
        if lengths:
            os.truncate(path, lengths.pop())

    after_plans(monkeypatch, service, cut)
    [response] = ask(service)
    assert response.content == expected(tmp_path)


def test_files_that_change_each_time_are_an_error_that_leaks_nothing(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 after some attempts, and no descriptor is left open."""
    path = path_of(str(tmp_path), "price")
    begun = held_files()
    after_plans(monkeypatch, service, lambda: os.truncate(path, os.stat(path).st_size - 40))
    [response] = ask(service)
    assert response.status == 500
    assert not held_files() - begun


def test_more_days_than_descriptors_are_read(service: Service, tmp_path: Path) -> None:
    """Files that the plan could not hold open are opened again, and closed."""
    for number in range(1, 100):
        day = DAY + timedelta(days=number)
        times = u32(*(start_of(day) + second for second in range(50)))
        put(str(tmp_path), {"time": times, "price": f32(50, number)}, day)
    begun = held_files()
    assert ask(service)[0].content == expected(tmp_path)
    assert not held_files() - begun


def test_each_read_gives_way_first(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of times and that of prices: the event loop waits for one step at most."""
    order: list[str] = []
    monkeypatch.setattr(turns, "TURN_NS_MIN", 0)
    monkeypatch.setattr(turns, "TURN_OF_WAIT", 1 << 62)
    monkeypatch.setattr(os, "sched_yield", partial(order.append, "gives way"))
    preadv = os.preadv

    def read(*arguments: Any) -> int:
        order.append("reads")
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", read)
    assert ask(service)[0].status == 200
    assert order == ["gives way", "reads"] * 2


def test_server_loads_numpy_with_the_first_bars_and_not_before(tmp_path: Path) -> None:
    """What a worker has mapped tells."""
    put(str(tmp_path), {"time": u32(DAY_START_S), "price": f32(1)})
    with ForkedServer(str(tmp_path), USE_TLS="false") as server:

        def loaded() -> bool:
            [worker] = server.worker_pids()
            with open(f"/proc/{worker}/maps", encoding="ascii") as maps:
                return "numpy" in maps.read()

        assert server.get(TARGET.replace("bars", "data").replace(":ohlc%2Bsum", "")).status == 200
        assert not loaded()
        assert server.get(TARGET).content == expected(tmp_path)
        assert loaded()
