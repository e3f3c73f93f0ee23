"""Each record of a live stream, once, in order: whoever reads, whatever happens to the server.

Values of the column `price` count from 0 in each series. Writers append torn records and unequal
columns, and go on in the next day's files; readers of each kind are dropped at any byte and go on
with their cursor, while workers are killed and generations change.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.blackbox.live_clients import READERS, EventsHttp2, RefusedError, next_pieces
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import OPEN_START_S
from zerocopy.core.cursor import Cursor
from zerocopy.core.layout import file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from tests.blackbox.live_clients import Reader

DAY_S = 86_400
FIRST_DAY = OPEN_START_S // DAY_S
TIMEOUT_S, SLOW_TIMEOUT_S = 50.0, 900
RECORD_BYTES = 4
LEAD_RECORDS = 400
"""A writer is never further ahead of the fastest of its readers."""

MANY_RECORDS, MANY_SCALE = 2_000_000, 200
"""Of each of two series in the slow set; f4 tells so many numbers apart. Ten readers get twenty
million. Writes, and the lead of a writer, are larger by the scale."""


class Readable(Protocol):
    """A series that somebody writes."""

    first_day: int
    base: int
    """The first value; each further one is one more."""
    read: int
    """Records of the fastest reader."""
    moved: asyncio.Event
    """It has got some."""

    def target(self, cursor: str) -> str:
        """What a reader asks for."""


class Series:
    """A series on the disk, written by this test, and how far its readers have come."""

    def __init__(self, root: Path, symbol: str, day: int, rng: Random, scale: int = 1) -> None:
        self.symbol = symbol
        self._scale = scale
        self.first_day = self.day = day
        self.folder = root / "coinbase" / symbol / "MD"
        self.folder.mkdir(parents=True)
        self._rng = rng
        self.count = 0
        self.base = self.read = 0
        self.moved = asyncio.Event()
        self.is_complete = False

    def target(self, cursor: str) -> str:
        """What a reader asks for."""
        return f"/api/live?symbol={self.symbol}&type=MD&columns=time,price&from={cursor}"

    def append(self, count: int) -> None:
        """So many records, torn and unequal in between, whole afterwards."""
        numbers = range(self.count, self.count + count)
        second = self.day * DAY_S + 1
        columns = {
            "time": struct.pack("<I", second) * count,
            "price": struct.pack(f"<{count}f", *numbers),
        }
        names = list(columns)
        while any(columns.values()):
            name = self._rng.choice(names)
            nbytes = self._rng.choice((1, 3, RECORD_BYTES, 40, 400 * self._scale))
            with (self.folder / file_name(name, self.day)).open("ab", buffering=0) as file:
                file.write(columns[name][:nbytes])
            columns[name] = columns[name][nbytes:]
        self.count += count

    async def write(self, total: int, midnight_at: int) -> None:
        """Append up to `total` records, the rest from `midnight_at` on in the next day's files."""
        while self.count < total:
            if self.count < midnight_at:
                most = midnight_at - self.count
            else:
                self.day = self.first_day + 1
                most = total - self.count
            self.append(min(most, self._rng.choice((1, 2, 7, 50 * self._scale))))
            while self.count - self.read > LEAD_RECORDS * self._scale:
                self.moved.clear()
                await self.moved.wait()
            await asyncio.sleep(0)
        self.is_complete = True

    def replace(self) -> None:
        """Other files of as many records, renamed over those of the day."""
        for name in ("price", "time"):
            path = self.folder / file_name(name, self.day)
            other = path.with_suffix(".new")
            other.write_bytes(path.read_bytes())
            other.rename(path)


class Follower:
    """One client: it reads a series to its end, over as many connections as it takes."""

    pieces_max: tuple[int, ...] = (1, 5, 50, 5_000)
    """Of a connection, one of which is chosen: it is dropped after so many reads."""

    def __init__(
        self, series: Readable, kind: type[Reader], ports: Sequence[int], seed: int
    ) -> None:
        self.series = series
        self.kind = kind
        self._ports = ports
        self._rng = Random(seed)
        self.cursor = str(Cursor(series.first_day, 0))
        self.count = 0  # of the records it has, which are 0, 1, 2 …
        self.connections = self.resets = 0

    async def follow(self, total: int) -> None:
        """Read until the last record."""
        while self.count < total:
            port = self._rng.choice(self._ports)
            reader = self.kind(port, self.series.target(self.cursor), self._rng)
            self.connections += 1
            try:
                await reader.open()
                await self._read(reader, total, self._rng.choice(self.pieces_max))
            except (OSError, RefusedError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.005)  # a worker was killed, or is not there yet
            finally:
                reader.drop()

    async def _read(self, reader: Reader, total: int, pieces_max: int) -> None:
        for _ in range(pieces_max):
            pieces = await next_pieces(reader)
            if pieces is None:
                return
            for cursor, values, is_reset in pieces:
                if is_reset:
                    self.resets += 1
                    self.cursor, self.count = str(Cursor(self.series.first_day, 0)), 0
                    return
                first = self.series.base + self.count
                expected = range(first, first + len(values))
                assert values == list(expected), (self.kind, self.cursor, cursor, expected)
                self.cursor = cursor
                self.count += len(values)
            series = self.series
            series.read = max(series.read, self.count)
            series.moved.set()
            if self.count >= total:
                return


def has_come(series: Readable, count: int) -> bool:
    """Whether a reader has so many records."""
    return series.read >= count


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds; the timeout of `run` is the deadline."""
    while not condition():  # noqa: ASYNC110 - conditions of other processes, without events
        await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty one."""
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """Two workers, both listeners."""
    options = {"ZEROCOPY_TLS_PORT": "0", "ZEROCOPY_SERVER_WORKERS": "2"}
    with ForkedServer(root, USE_TLS="false", **options) as running:
        yield running


def followers_of(server: RunningServer, series: Series, each: int, seed: int) -> list[Follower]:
    """So many clients of each kind."""
    return [
        Follower(
            series,
            kind,
            [server.port if kind.alpn is None else server.tls_port],
            seed + index,
        )
        for kind in READERS
        for index in range(each)
    ]


async def run(
    writing: Sequence[Callable[[], Coroutine[None, None, None]]],
    followers: list[Follower],
    total: int,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Everything at once, to the end."""
    async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
        for write in writing:
            tasks.create_task(write())
        for follower in followers:
            tasks.create_task(follower.follow(total))


def assert_exact(followers: list[Follower], total: int) -> None:
    """Each has had each record; once and in order, or it would have failed before."""
    for follower in followers:
        assert follower.count == total, follower.kind
        assert follower.connections >= 1


@pytest.mark.parametrize("seed", [1, 2])
def test_every_reader_gets_every_record_once_over_midnight(
    server: RunningServer, root: Path, seed: int
) -> None:
    """Torn records, unequal columns, readers dropped at any byte, the next day's files."""
    rng = Random(seed)
    total = 1_500

    async def scenario() -> list[Follower]:
        series = [Series(root, f"S{seed}{index}", FIRST_DAY, rng) for index in range(2)]
        for one in series:
            one.append(1)  # a series that does not exist is 404
        followers = [f for one in series for f in followers_of(server, one, 2, seed)]
        writing = [partial(one.write, total, rng.randrange(100, total - 100)) for one in series]
        await run(writing, followers, total)
        return followers

    assert_exact(asyncio.run(scenario()), total)


async def disturb(server: RunningServer, series: Readable, total: int, times: int) -> None:
    """Kill a worker or begin a generation, evenly among the records."""
    rng = Random(times)
    for time_ in range(1, times + 1):
        await until(partial(has_come, series, time_ * total // (times + 1)))
        if rng.random() < 0.5:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(server.worker_pids()), signal.SIGKILL)
        else:
            os.kill(server.pid, signal.SIGHUP)


def test_readers_lose_nothing_to_killed_workers_and_reloads(
    server: RunningServer, root: Path
) -> None:
    """A client's whole state is its cursor: any other worker goes on with it."""
    rng = Random(7)
    total = 1_500

    async def scenario() -> list[Follower]:
        series = Series(root, "K", FIRST_DAY, rng)
        series.append(1)
        followers = followers_of(server, series, 2, 7)
        disturbing = partial(disturb, server, series, total, 4)
        await run([lambda: series.write(total, total // 2), disturbing], followers, total)
        return followers

    followers = asyncio.run(scenario())
    assert_exact(followers, total)


@pytest.mark.slow
@pytest.mark.timeout(SLOW_TIMEOUT_S)
def test_millions_of_records_are_delivered_once(server: RunningServer, root: Path) -> None:
    """Over all transports and midnight, while workers are killed and generations change."""
    rng = Random(13)
    total = MANY_RECORDS

    async def scenario() -> list[Follower]:
        series = [Series(root, f"M{index}", FIRST_DAY, rng, MANY_SCALE) for index in range(2)]
        for one in series:
            one.append(1)
        followers = [f for one in series for f in followers_of(server, one, 1, 13)]
        for follower in followers:
            follower.pieces_max = (5, 500, 5_000)
        writing = [partial(one.write, total, rng.randrange(total)) for one in series]
        disturbing = partial(disturb, server, series[0], total, 10)
        await run([*writing, disturbing], followers, total, SLOW_TIMEOUT_S)
        return followers

    assert_exact(asyncio.run(scenario()), total)


def test_day_that_is_replaced_resets_whoever_reads_it(server: RunningServer, root: Path) -> None:
    """Each reader is told, reads the day anew, and has its records once."""
    rng = Random(3)
    total = 400

    async def scenario() -> list[Follower]:
        series = Series(root, "R", FIRST_DAY, rng)
        series.append(200)
        followers = followers_of(server, series, 1, 3)

        async def replace() -> None:
            await until(lambda: all(follower.count >= 200 for follower in followers))
            series.replace()
            await until(lambda: all(follower.resets for follower in followers))
            series.append(total - 200)

        for follower in followers:  # who stays is told; a cursor alone does not know the file
            follower.pieces_max = (1_000_000,)
        await run([replace], followers, total)
        return followers

    followers = asyncio.run(scenario())
    assert_exact(followers, total)
    assert all(follower.resets == 1 for follower in followers)


def test_day_that_appears_late_is_waited_for(server: RunningServer, root: Path) -> None:
    """A stream from a day without files begins once it has records."""
    rng = Random(5)

    async def scenario() -> list[Follower]:
        series = Series(root, "L", FIRST_DAY, rng)
        (series.folder / file_name("time", FIRST_DAY - 1)).touch()
        (series.folder / file_name("price", FIRST_DAY - 1)).touch()
        followers = followers_of(server, series, 1, 5)

        async def appear() -> None:
            await until(lambda: all(follower.connections for follower in followers))
            series.append(50)

        await run([appear], followers, 50)
        return followers

    followers = asyncio.run(scenario())
    assert_exact(followers, 50)
    assert EventsHttp2 in {follower.kind for follower in followers}
