"""One simulated run of live streams from one seed: a recorder, many readers, a server that changes.

Owns the mix: records are appended torn and unequal, midnight passes, a day is replaced, readers are
slow, leave and come back, system calls fail, inotify(7) loses events or is refused, and the server
drains while another takes over. Whatever happens, each reader has in the end each record once.
"""

from __future__ import annotations

import gc
import random
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast
from weakref import WeakSet

import pytest

from tests.living import end, live
from tests.service.live.recorder import DECLARED, Recorder
from tests.simulation.faults import NoFaults, TrueFaults
from tests.simulation.judgement import verdict
from tests.simulation.live_client import StreamClient
from tests.simulation.live_files import SimulatedInotify, SimulatedPath, Watches, refused
from tests.simulation.loop import without_frames
from tests.simulation.requests import ROOT
from tests.simulation.runs import SEED_VARIABLE, Outcome
from tests.simulation.sockets import Listener
from tests.simulation.world import Shape, World, faked
from zerocopy.core import counters as slots
from zerocopy.core.layout import Dtypes
from zerocopy.service.live.messages import prepare
from zerocopy.storage.live import following, watching

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor
    from pathlib import Path

    from tests.simulation.client import Client
    from tests.simulation.live_reader import Reader
    from zerocopy.service.live.live import Live

RUNS = 20
"""Runs that every change has to pass, some 40 ms each."""

FIRST_DAY = 20_000
TEND_S = 1.0
COLUMNS = (("time", "id"), ("id",), ("price", "id", "time"))
EXT4, UNKNOWN = 0xEF53, 0x1234

prepare()  # or the first run would have a thread do it, and later ones not


class LiveOutcome(Outcome):
    """What a run came to."""

    test = "tests/simulation/test_live_simulation.py"

    def __str__(self) -> str:
        """One line that says how to see it again."""
        return (
            f"{SEED_VARIABLE}={self.seed} python -m pytest {self.test}"
            f" -k given  # {'; '.join(self.wrong)[:2_000]}"
        )


class Held(following._Descriptors):
    """Descriptors of a world: what it has not closed in the end must never close real ones."""

    worlds: ClassVar[WeakSet[Held]] = WeakSet()

    def __init__(self, fds: Sequence[int]) -> None:
        super().__init__(fds)
        self.worlds.add(self)

    @classmethod
    def forget_all(cls) -> None:
        """The world is over."""
        for held in cls.worlds:
            held.fds = ()


class LiveWorld(World):
    """A world with one series that grows."""

    symbol = "LIVE"
    outcome: type[Outcome] = LiveOutcome
    haste = 0.2  # changes of the files, beside steps of everybody

    def __init__(self, seed: int, shape: Shape) -> None:
        self.seed = seed
        self.watches = Watches()
        self.failures: list[Exception] = []
        super().__init__(f"live {seed}", shape)
        root = SimulatedPath(self.files, self.watches, ROOT)
        self.writer = Recorder(cast("Path", root), self.symbol, FIRST_DAY, self.rng)
        self.readers: list[Reader] = []
        self.reloads = 0
        self._drains: list[asyncio.Task[None]] = []

    def _live(self) -> Live:
        self.live = live(
            self.open_files,
            cast("Executor", None),
            self.counters,
            message_bytes_max=self.rng.choice([1_000, 2_000, 65_536]),
            read_bytes_max=self.rng.choice([0, 100, 4_096]),
            heartbeat_s=1.5,
            poll_ms=200,
            dtypes=Dtypes(DECLARED),
            failures=self.failures,
            clock_ns=self.clock.monotonic_ns,
        )
        return self.live

    def begin(self) -> None:
        """Listen, and tend once a second."""
        super().begin()
        self._tend()

    def _tend(self) -> None:
        self._tending = self.loop.call_later(TEND_S, self._tend)
        self.live.tend()

    def join(self) -> None:
        """One reader more."""
        rng = self.rng
        reader = StreamClient(
            self,
            rng.choice(COLUMNS),
            is_websocket=rng.random() < 0.5,
            is_lazy=rng.random() < 0.3,
            leaves=rng.choice([0.0, 0.0, 0.02, 0.1]),
        )
        self.readers.append(reader)
        self.clients.append(cast("Client", reader))

    def finish(self) -> None:
        """Nothing happens any more; each reader is to get all there is."""
        self.kernel.faults = NoFaults()
        self._changes_left = 0
        self.writer.write_all()
        for reader in self.readers:
            reader.leaves = 0.0

    def play(self) -> None:
        """All changes, then until each reader has everything."""
        while self._changes_left:
            if self.rng.random() < self.haste:
                self._change()
            else:
                self._step()
        self.finish()
        while not all(reader.done for reader in self.readers):
            self._step()
            for reader in self.readers:
                if not reader.done and self._has_all(reader):
                    reader.finish()

    def _has_all(self, reader: Reader) -> bool:
        """Where it has other records, it is still to be told of a reset."""
        has, writer = reader.has, self.writer
        if has.cursor is None and not writer.has_day_with(has.columns):
            return True  # it is refused each time
        if has.cursor is None or has.cursor != writer.end(has.cursor, has.columns):
            return False
        assert has.first is not None, "it begins with the first cursor"
        return has.days == writer.records(has.first, has.columns)

    def _change(self) -> None:
        rng, writer = self.rng, self.writer
        self._changes_left -= 1
        self.clock.now_ns += rng.choice([0, 1_000_000, 300_000_000])
        kind = rng.choices(
            ["record", "write", "all", "midnight", "replace", "reload"], [6, 12, 3, 1, 2, 0.6]
        )[0]
        if kind == "record":
            writer.record(rng.choice((1, 1, 3, 50)))
        elif kind == "write":
            writer.write_some()
        elif kind == "all":
            writer.write_all()
        elif kind == "midnight":
            writer.begin_day()
        elif kind == "replace":
            self._replace()
        elif self._depth == 0:
            self.reload()
        self.kernel.note(kind)

    def _replace(self) -> None:
        writer = self.writer
        if writer.day not in writer.days:
            return
        writer.write_all()
        writer.replace()
        for reader in self.readers:
            reader.note_replaced(writer.day)

    def reload(self) -> None:
        """Another server takes over the listening socket; this one drains."""
        old, old_listener = self.server, self.listener
        self.listener = Listener(self.kernel)
        self.listener.backlog, old_listener.backlog = old_listener.backlog, []
        self.server = self._server()
        self.server.start([cast("socket.socket", self.listener)])
        self._drains.append(self.loop.create_task(old.drain(1.0)))
        self.reloads += 1

    def bury(self) -> None:
        """Nothing of it is held any more, for it has not come to its end."""
        kernel = self.kernel
        kernel.between, kernel.watched = lambda _name="": None, lambda _fd: False
        kernel.open.clear()
        kernel.cache = None
        vars(self).clear()

    def judge(self) -> list[str]:
        """What is wrong in the end."""
        wrong = []
        for number, reader in enumerate(self.readers):
            if not self._has_all(reader):
                wrong.append(f"reader {number}: not each record once, in the end")
        for error in (*self.failures, *self.transfer_errors, *self.connection_errors):
            without_frames(error)
        self.rest()
        self._tending.cancel()
        end(self.live)
        if not all(task.done() for task in self._drains):
            wrong.append("a drain has not ended")
        wrong += verdict(self)
        left = self.counters[slots.LIVE_SUBSCRIBERS]
        return wrong + ([f"{left} subscribers counted, nobody reads"] if left else [])


def shape_of(rng: random.Random) -> Shape:
    """The bounds and the restlessness of one world."""
    return Shape(
        turn_bytes_max=rng.choice([100, 2_000, 20_000]),
        open_files_max=rng.choice([1, 8, 100]),
        room=rng.choice([400, 4_000, 100_000]),
        read_ahead_bytes_max=rng.choice([50, 100_000]),
        cold=rng.choice([0.0, 0.0, 0.5]),
        changes=rng.choice([40, 150]),
        bustle=rng.choice([0.0, 0.1, 0.4]),
        short_counts=rng.choice([0.0, 0.2]),
    )


def run(seed: int) -> Outcome:
    """Play the world of `seed` to its end."""
    rng = random.Random(f"live shape {seed}")
    return play_seed(LiveWorld(seed, shape_of(rng)), rng)


def play_seed(world: LiveWorld, rng: random.Random) -> Outcome:
    """Play a world to its end; `rng` has what its seed says of more than one world."""
    queue_max = rng.choice([3, 1_000])
    made: Any = partial(SimulatedInotify, world.kernel, world.watches, queue_max)
    lost: list[BaseException | None] = []
    is_refused, kind = rng.random() < 0.1, rng.choice([EXT4, EXT4, EXT4, UNKNOWN])
    hook, sys.unraisablehook = sys.unraisablehook, lambda what: lost.append(what.exc_value)
    try:
        with faked(world.kernel, world.shape), pytest.MonkeyPatch.context() as patch:
            patch.setattr(watching, "Inotify", refused if is_refused else made)
            patch.setattr(watching, "filesystem_type", lambda _fd: kind)
            patch.setattr(following, "_Descriptors", Held)
            wrong = _play(world, rng)
            found = world.outcome(world.seed, wrong, world.kernel.trace, [])
            Held.forget_all()
            if wrong:  # its tasks and files would end, and fail, in the world after it
                world.bury()
                del world
                gc.collect()
    finally:
        sys.unraisablehook = hook
    wrong += [f"lost: {error!r}" for error in lost]
    return found


def _play(world: LiveWorld, rng: random.Random) -> list[str]:
    try:
        world.begin()
        for _ in range(rng.choice([1, 2, 6])):
            world.join()
        if rng.random() < 0.3:
            world.kernel.faults = TrueFaults(world.rng, rng.choice([0.01, 0.05]))
        world.play()
        return world.judge()
    except (AssertionError, OSError, ValueError) as error:
        return [f"{type(error).__name__}: {error}"]


def runs(seeds: Iterable[int]) -> list[Outcome]:
    """Those of the runs in which something was wrong."""
    return [outcome for outcome in map(run, seeds) if outcome.wrong]
