"""The work of computed formats: rounds, faults of files and disks, and clients that leave."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.descriptors import held_files
from tests.formats.readers import check_json
from tests.naive import naive_answer
from tests.server import ForkedServer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    SERIES,
    U32_MAX,
    marks,
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
from zerocopy.core.plan import ENCODING_THREADS
from zerocopy.storage import planner as planner_module
from zerocopy.storage import records, turns
from zerocopy.storage.pread import read_exactly
from zerocopy.supervise.compose import build_service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zerocopy.core.plan import Plan, Read, Write
    from zerocopy.service.service import Service
    from zerocopy.storage.planner import Planned

MANY = 20_000
TARGET = f"/api/data?symbol=X&type=MD&start=0&end={U32_MAX}&columns=time,price&format="


class Bench:
    """A service over one day of many records, and the counters that it counts in."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor, **environ: str) -> None:
        self.root = str(root)
        times = u32(*(DAY_START_S + at // 4 for at in range(MANY)))
        put(self.root, {"time": times, "price": marks(MANY)})
        settings = config.load(os.devnull, environ={"DATA_PATH": self.root, **environ})
        self.counters = [0] * len(SLOTS)
        self.service: Service = build_service(settings, self.counters, executor)

    def request(self, name: str = "json", **more: str) -> Request:
        """A request of everything in a format."""
        others = "".join(f"&{key}={value}" for key, value in more.items())
        return Request(b"GET", f"{TARGET}{name}{others}".encode(), ())

    def ask(self, name: str = "json", times: int = 1, **more: str) -> list[Response]:
        """Ask as often at once."""

        async def scenario() -> list[Response]:
            request = self.request(name, **more)
            return await asyncio.gather(*(self.service.respond(request) for _ in range(times)))

        return asyncio.run(scenario())

    def check(self, response: Response) -> None:
        """Fail unless it is the oracle's, as of now."""
        assert response.status == 200, response.content
        wanted = naive_answer(self.root, *SERIES, 0, U32_MAX, ("time", "price"))
        check_json(body_of(response), wanted)

    @property
    def computed(self) -> int:
        """Answers that were encoded."""
        return self.counters[slots.ANSWERS_COMPUTED]


def body_of(response: Response) -> bytes:
    """All that would leave."""
    pieces = (piece.source.read(piece.offset, piece.count) for piece in response.segments)
    return b"".join((response.content, *pieces))


@pytest.fixture(name="make")
def fixture_make(tmp_path: Path) -> Any:
    """A bench over a root of its own, with `[formats]` as asked for."""
    with ThreadPoolExecutor(2) as executor:
        yield lambda **environ: Bench(tmp_path, executor, **environ)


@pytest.fixture(name="bench")
def fixture_bench(make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose files are old enough to prove something."""
    monkeypatch.setattr(planner_module, "RACY_NS", -10_000_000_000)
    return make()


def amid_encoding(bench: Bench, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have `act` happen once, when the first records have been read and nothing is written yet."""
    representations = bench.service._computed._written.__globals__
    encoder = representations["encoder_of"]("json")
    left = [act]

    def encode(plan: Plan, read: Read, write: Write) -> None:
        def reading(*arguments: Any) -> bytes:
            data = read(*arguments)
            if left:
                left.pop()()
            return data

        encoder.encode(plan, reading, write)

    monkeypatch.setitem(
        representations, "encoder_of", lambda *_query: encoder._replace(encode=encode)
    )


def held_encoding(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> tuple[threading.Event, threading.Event]:
    """The next encoding tells by the first event that it has begun, and waits for the second."""
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert gate.wait(20)

    amid_encoding(bench, monkeypatch, wait)
    return begun, gate


@pytest.mark.parametrize("name", ["json", "csv", "parquet"])
def test_equal_queries_that_come_together_are_computed_once(bench: Bench, name: str) -> None:
    """Ten of them, and those that come later while the proof holds; nothing of a round is kept."""
    responses = bench.ask(name, 10)
    assert len({body_of(response) for response in responses}) == 1
    assert bench.computed == 1
    assert bench.service._computed._rounds == {}
    [again] = bench.ask(name)
    assert body_of(again) == body_of(responses[0])
    assert bench.computed == 1
    assert bench.counters[slots.SPOOL_BYTES] > 0


def test_what_is_kept_is_dropped_once_a_file_changed(bench: Bench) -> None:
    """The next request gets the new records, and the room of the old ones is given back."""
    bench.check(bench.ask()[0])
    held = bench.service._computed.spool.nbytes
    replace(path_of(bench.root, "price"), marks(MANY, base=MANY))
    bench.check(bench.ask()[0])
    assert bench.computed == 2

    let_go(bench)
    bench.service._computed.spool.close_dropped()
    assert bench.service._computed.spool.nbytes < 2 * held


def test_least_recently_used_is_given_up_for_a_new_answer(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for two; the third pushes out the one that was not asked for last."""
    monkeypatch.setattr(planner_module, "RACY_NS", -10_000_000_000)
    bench = make(ZEROCOPY_FORMATS_SPOOL_BYTES_MAX="900000")
    for last in (str(MANY), str(MANY - 1), str(MANY), str(MANY - 2)):
        [response] = bench.ask(last=last)
        assert response.status == 200
        del response
        let_go(bench)
    assert bench.computed == 3
    bench.ask(last=str(MANY))
    let_go(bench)
    assert bench.computed == 3
    bench.ask(last=str(MANY - 1))
    assert bench.computed == 4


def let_go(bench: Bench) -> None:
    """Wait until no thread holds a body any more: it does, for an instant, after it has told."""
    together = threading.Barrier(ENCODING_THREADS)
    executor = bench.service._computed._executor
    for waiting in [executor.submit(together.wait, 30) for _ in range(ENCODING_THREADS)]:
        waiting.result()


def test_spool_full_of_what_is_being_sent_is_503_until_it_has_left(
    make: Callable[..., Bench],
) -> None:
    """A response holds its body; small ones need no room."""
    bench = make(ZEROCOPY_FORMATS_SPOOL_BYTES_MAX="500000")
    held = bench.ask()
    assert held[0].status == 200
    [refused] = bench.ask(last=str(MANY - 1))
    assert refused.status == 503
    assert (b"Retry-After", b"1") in refused.fields
    assert bench.ask(last="10")[0].status == 200
    held.clear()
    let_go(bench)
    assert bench.ask(last=str(MANY - 1))[0].status == 200


def test_full_disk_is_503_that_leaks_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle of a body: /dev/full stands for the disk."""
    begun = held_files()
    monkeypatch.setattr(os, "memfd_create", lambda *_: os.open("/dev/full", os.O_RDWR))
    assert bench.ask()[0].status == 503
    monkeypatch.undo()

    let_go(bench)
    bench.service._computed.spool.close_dropped()
    assert bench.service._computed.spool.nbytes == 0
    assert not held_files() - begun
    bench.check(bench.ask()[0])


def test_day_that_is_replaced_while_it_is_encoded_is_one_state_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptors show the old files, so it is the old day; the next request has the new."""
    wanted = naive_answer(bench.root, *SERIES, 0, U32_MAX, ("time", "price"))
    amid_encoding(
        bench,
        monkeypatch,
        lambda: replace(path_of(bench.root, "price"), marks(MANY, base=5)),
    )
    [response] = bench.ask()
    check_json(body_of(response), wanted)
    bench.check(bench.ask()[0])


def test_file_that_is_cut_while_it_is_encoded_makes_a_new_plan(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncation, which no operator should do: right bytes of the state after it."""
    amid_encoding(
        bench, monkeypatch, lambda: os.truncate(path_of(bench.root, "price"), 4 * MANY - 400)
    )
    bench.check(bench.ask()[0])


def test_files_that_change_each_time_are_an_error_that_leaks_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 after some attempts, and no descriptor is left open."""
    path, begun = path_of(bench.root, "price"), held_files()
    plan = bench.service._planner.plan

    def planned(*arguments: Any) -> Planned:
        found = plan(*arguments)
        os.truncate(path, os.stat(path).st_size - 40)
        return found

    monkeypatch.setattr(bench.service._planner, "plan", planned)
    assert bench.ask()[0].status == 500

    let_go(bench)
    bench.service._computed.spool.close_dropped()
    assert not held_files() - begun


def test_encoding_ends_when_nobody_waits_for_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client leaves amid it: no more is read, and its room is free again."""
    begun, gate = held_encoding(bench, monkeypatch)

    async def scenario() -> None:
        asked = asyncio.ensure_future(bench.service.respond(bench.request()))
        assert await asyncio.to_thread(begun.wait, 20)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        gate.set()

    asyncio.run(scenario())
    bench.service._computed._executor.shutdown()

    bench.service._computed.spool.close_dropped()
    assert (bench.service._computed.encoded, bench.service._computed.spool.nbytes) == (0, 0)
    assert bench.service._requests_in_flight == 0


def test_request_that_comes_later_never_gets_what_was_read_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is at work when the day is replaced; who asks then gets the new one."""
    begun, gate = held_encoding(bench, monkeypatch)

    async def scenario() -> tuple[Response, Response]:
        first = asyncio.ensure_future(bench.service.respond(bench.request()))
        assert await asyncio.to_thread(begun.wait, 20)
        replace(path_of(bench.root, "price"), marks(MANY, base=1_000))
        second = asyncio.ensure_future(bench.service.respond(bench.request()))
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(first, second)

    old = naive_answer(bench.root, *SERIES, 0, U32_MAX, ("time", "price"))
    first, second = asyncio.run(scenario())
    check_json(body_of(first), old)
    bench.check(second)


def test_more_days_than_descriptors_are_read(bench: Bench) -> None:
    """Files that the plan could not hold open are opened again, and closed."""
    for number in range(1, 100):
        day = DAY + timedelta(days=number)
        times = u32(*(start_of(day) + second for second in range(50)))
        put(bench.root, {"time": times, "price": marks(50, base=number)}, day)
    begun = held_files()
    responses = bench.ask()
    bench.check(responses[0])
    assert len(held_files() - begun) == 1, "that of the body"


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where threads give way; each step is a turn."""
    steps: list[str] = []
    monkeypatch.setattr(turns, "TURN_NS_MIN", 0)
    monkeypatch.setattr(turns, "TURN_OF_WAIT", 1 << 62)
    monkeypatch.setattr(os, "sched_yield", partial(steps.append, "gives way"))
    return steps


def test_each_read_of_an_encoding_gives_way_first(
    bench: Bench, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop waits for one piece of it at most."""

    def read(*arguments: Any) -> bytes:
        order.append("reads")
        return read_exactly(*arguments)

    monkeypatch.setattr(records, "read_exactly", read)
    bench.check(bench.ask()[0])
    assert len(order) >= 2 * len(("time", "price"))
    assert order == ["gives way", "reads"] * (len(order) // 2)


def test_few_records_are_encoded_without_giving_way(bench: Bench, order: list[str]) -> None:
    """A small answer does not go behind what others have computed."""
    assert bench.ask(last="10")[0].status == 200
    assert bench.service._computed.encoded == 1
    assert order == []


def test_server_loads_polars_and_zstd_with_the_first_that_needs_them(tmp_path: Path) -> None:
    """What a worker has mapped tells: not before."""
    put(str(tmp_path), {"time": u32(DAY_START_S), "price": marks(1)})
    with ForkedServer(str(tmp_path), USE_TLS="false") as server:

        def loaded() -> set[str]:
            [worker] = server.worker_pids()
            with open(f"/proc/{worker}/maps", encoding="ascii") as maps:
                mapped = maps.read()
            return {name for name in ("polars", "zstandard") if name in mapped}

        assert server.get(TARGET + "json").status == 200
        assert loaded() == set()
        assert server.get(TARGET + "json", fields={"Accept-Encoding": "zstd"}).status == 200
        assert loaded() == {"zstandard"}
        assert server.get(TARGET + "csv").status == 200
        assert loaded() == {"polars", "zstandard"}
