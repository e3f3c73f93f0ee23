"""Every record once, in order, whatever recorders, readers and files do; seeded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.living import end, live
from tests.service.live.readers import Client
from tests.service.live.recorder import DECLARED, Recorder
from zerocopy.core.counters import SLOTS
from zerocopy.core.layout import Dtypes
from zerocopy.core.query import LiveQuery
from zerocopy.storage.dayfile import OpenFiles
from zerocopy.storage.live import watching

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST_DAY = 20_000
MESSAGE_BYTES_MAX = 2_000
COLUMNS = (("time", "id"), ("id",), ("price", "id", "time"))
STEPS = 1_500
CLIENTS_MAX = 40
PATIENCE_S = 30


class World:
    """Some recorders and many clients below one root."""

    def __init__(self, root: Path, seed: int, executor: ThreadPoolExecutor) -> None:
        self.rng = rng = random.Random(seed)
        self.recorders = [Recorder(root, f"S{n}", FIRST_DAY, rng) for n in range(3)]
        self.counters = [0] * len(SLOTS)
        self.files = OpenFiles(str(root), 64)
        self.failures: list[Exception] = []
        self.live = live(
            self.files,
            executor,
            self.counters,
            message_bytes_max=MESSAGE_BYTES_MAX,
            read_bytes_max=300,
            dtypes=Dtypes(DECLARED),
            failures=self.failures,
        )
        self.woken = asyncio.Event()
        self.clients: list[tuple[Client, Recorder]] = []

    async def begin(self) -> None:
        """One client from the first moment."""
        client = Client(COLUMNS[0], is_websocket=True, bytes_max=MESSAGE_BYTES_MAX)
        self.clients.append((client, self.recorders[0]))
        await self.connect(*self.clients[0])
        client.pull()

    async def connect(self, client: Client, recorder: Recorder) -> None:
        """Go on with the cursor, or begin somewhere."""
        cursor, start_s = client.cursor, None
        if cursor is None and self.rng.random() < 0.3:
            start_s = (FIRST_DAY + self.rng.randint(0, 3)) * 86_400 + self.rng.randint(0, 30)
        feed = await self.live.subscribe(
            LiveQuery("coinbase", recorder.symbol, "MD", client.columns, cursor, start_s),
            is_websocket=client.is_websocket,
        )
        client.connect(feed, self.woken.set)

    async def act(self) -> None:
        """Something happens to a recorder or a client, or the service gets time."""
        rng = self.rng
        recorder = rng.choice(self.recorders)
        acts: dict[str, tuple[float, Callable[[], object]]] = {
            "record": (4, lambda: recorder.record(rng.choice((1, 1, 3, 50)))),
            "write": (12, recorder.write_some),
            "write all": (3, recorder.write_all),
            "midnight": (0.4, recorder.begin_day),
            "join": (2, lambda: self._join(recorder)),
            "pull": (10, lambda: self._one()[0].pull(rng.randint(1, 4))),
            "drop": (1.5, lambda: self._one()[0].drop()),  # noqa: PLW0108 - one is chosen when it is called
            "come back": (3, lambda: self._come_back(*self._one())),
            "rest": (8, self._rest),
            "void": (0.3, lambda: self._void(recorder)),
        }
        [(_, act)] = rng.choices([*acts.values()], [weight for weight, _ in acts.values()])
        done = act()
        if isinstance(done, Coroutine):
            await done

    def _one(self) -> tuple[Client, Recorder]:
        return self.rng.choice(self.clients)

    async def _rest(self) -> None:
        for _ in range(self.rng.randint(1, 4)):
            await asyncio.sleep(0)

    async def _come_back(self, client: Client, recorder: Recorder) -> None:
        if client.feed is None:
            await self.connect(client, recorder)

    async def _join(self, recorder: Recorder) -> None:
        columns, is_websocket = self.rng.choice(COLUMNS), self.rng.random() < 0.5
        is_refused = recorder.days and not recorder.has_day_with(columns)
        if len(self.clients) >= CLIENTS_MAX or is_refused:
            return
        client = Client(columns, is_websocket=is_websocket, bytes_max=MESSAGE_BYTES_MAX)
        self.clients.append((client, recorder))
        await self.connect(client, recorder)
        client.pull(1)

    async def _void(self, recorder: Recorder) -> None:
        """Replace or cut the present day; who is not connected then cannot be told."""
        recorder.record(1)
        recorder.write_all()
        await self.settle()
        day = recorder.day
        if self.rng.random() < 0.5:
            recorder.replace()
            concerned = [c for c, r in self.clients if r is recorder]
        else:
            left = recorder.truncate()
            concerned = [
                c for c, r in self.clients if r is recorder and c.cursor and c.cursor > (day, left)
            ]
        for client in concerned:
            cursor = client.cursor
            if cursor is None or cursor.day != day or not cursor.position:
                continue
            if client.feed is None:
                client.days.pop(day, None)  # as one does that looks at /api/data first
                client.cursor = cursor._replace(position=0)
                if client.first is not None and client.first.day == day:
                    client.first = client.cursor
            else:
                before = client.resets
                await self.until(partial(was_reset, client, before))

    async def settle(self) -> None:
        """Wait until every client that is connected has everything."""
        await self.until(lambda: all(self.is_served(*each) for each in self.clients))

    def is_served(self, client: Client, recorder: Recorder) -> bool:
        """Whether it has all there is."""
        client.pull()
        if client.feed is None:
            return True
        cursor = client.cursor
        return cursor is not None and cursor == recorder.end(cursor, client.columns)

    async def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for readers to be woken until something is so."""
        while not is_true():
            await asyncio.wait_for(self.woken.wait(), PATIENCE_S)
            self.woken.clear()

    async def end(self) -> None:
        """All come back, and have everything."""
        for recorder in self.recorders:
            recorder.write_all()
        for _ in range(20):
            for client, recorder in self.clients:
                if client.feed is None:
                    await self.connect(client, recorder)
            await self.settle()
            if all(client.feed is not None for client, _ in self.clients):
                break
        for client, recorder in self.clients:
            assert client.first is not None
            assert client.days == recorder.records(client.first, client.columns)
            client.drop()
        assert self.failures == []


def was_reset(client: Client, before: int) -> bool:
    """Whether it was told, since, that what it had is void."""
    client.pull()
    return client.resets > before


async def run(root: Path, seed: int) -> World:
    """One world from its beginning to its end."""
    with ThreadPoolExecutor(4) as executor:
        world = World(root, seed, executor)
        await world.begin()
        for _ in range(STEPS):
            await world.act()
        await world.end()
        world.live.tend()
        end(world.live)
        world.files.close()
    return world


@pytest.mark.parametrize("seed", range(6))
def test_every_record_reaches_every_reader_once_in_order(tmp_path: Path, seed: int) -> None:
    """Changes are told by inotify(7)."""
    world = asyncio.run(run(tmp_path, seed))
    assert sum(client.messages for client, _ in world.clients) > 50


@pytest.mark.parametrize("seed", range(100, 103))
def test_every_record_reaches_every_reader_where_nobody_tells(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same by polling."""

    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(watching, "Inotify", refuse)
    asyncio.run(run(tmp_path, seed))
