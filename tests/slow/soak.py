"""Good and bad traffic on both paths at once, over files that change, for as long as one likes.

Owns the threads: honest clients of each transport, rascals, a gardener who changes files, and
recorders one after the other. Whatever goes wrong is noted in the tally.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from tests.contract.transports import TRANSPORTS
from tests.slow.mischief import Rascal
from tests.slow.recording import Recording
from tests.slow.traffic import KINDS, Aborted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.contract.transports import Session
    from tests.server import Answer, RunningServer
    from tests.slow.tally import Tally
    from tests.slow.world import World

HONEST = ("http1", "http1", "http2", "http2", "http1-tls")
RASCALS = 2
SESSION_REQUESTS_MAX = 80
RECORDINGS_KEPT = 3
RECORDS = 40_000
PAUSE_S = 2.0
"""Between two recorders, so that they do not take the processor from everybody else."""


class _Watched:
    """A session that knows whether the server will close it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.is_last = False
        self.send, self.receive, self.close = session.send, session.receive, session.close

    def request(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> Answer:
        """Make a request; see `Session`."""
        answer = self._session.request(target, method=method, fields=fields, last=last)
        self.is_last = answer.fields.get("connection") == "close"
        return answer


class Soak:
    """All of it, for one server; `run` may be called again and again."""

    def __init__(self, server: RunningServer, world: World, tally: Tally) -> None:
        self.server = server
        self.world = world
        self.tally = tally
        self.segments = 0
        """Segments of answers that rascals gave up: one that leaked would use up the bound."""
        self._recordings: list[Recording] = []
        self._recorded = 0
        self._runs = 0
        self._end_s = 0.0
        self._done = threading.Event()

    def run(self, seconds: float) -> None:
        """Everything at once for `seconds`; returns when all clients have left."""
        self._runs += 1
        self._done.clear()
        self._end_s = time.monotonic() + seconds
        works: list[Callable[[], None]] = [
            self._garden,
            self._record,
            *(lambda i=i, name=name: self._be_honest(i, name) for i, name in enumerate(HONEST)),
            *(lambda i=i: self._be_rude(100 + i) for i in range(RASCALS)),
        ]
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """Forget what was recorded."""
        for recording in self._recordings:
            recording.remove()
        self._recordings.clear()

    def _is_over(self) -> bool:
        if time.monotonic() >= self._end_s or self.tally.is_hopeless:
            self._done.set()
        return self._done.is_set()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 - told by the tally
            self.tally.fault("the soak itself")

    # ---- clients

    def _be_honest(self, seed: int, name: str) -> None:
        chance = random.Random(1_000 * self._runs + seed)
        while not self._is_over():
            try:
                session = _Watched(TRANSPORTS[name].connect(self.server))
            except BaseException:  # noqa: BLE001 - told by the tally
                self.tally.fault(f"{name} connect")
                continue
            self._ask(session, name, chance)
            session.close()

    def _ask(self, session: _Watched, name: str, chance: random.Random) -> None:
        kinds, weights = list(KINDS), list(KINDS.values())
        for _ in range(chance.randint(1, SESSION_REQUESTS_MAX)):
            if self._is_over():
                return
            (kind,) = chance.choices(kinds, weights)
            label = f"{name} {kind.__name__}"
            try:
                self.tally.note(label, kind(self.world, session, chance))
            except Aborted:
                self.tally.note(label, "cut off")
                return
            except BaseException:  # noqa: BLE001 - told by the tally
                self.tally.fault(label)
                return
            if session.is_last:
                return

    def _be_rude(self, seed: int) -> None:
        chance = random.Random(1_000 * self._runs + seed)
        rascal = Rascal(self.server, self.world)
        kinds = rascal.kinds
        while not self._is_over():
            (kind,) = chance.choices(list(kinds), list(kinds.values()))
            label = f"rude {kind.__name__}"
            try:
                self.tally.note(label, kind(chance))
            except BaseException:  # noqa: BLE001 - told by the tally
                self.tally.fault(label)
        rascal.close()
        for path, count in rascal.segments.items():
            self.tally.note("segments given up", path, count)

    # ---- what changes

    def _garden(self) -> None:
        chance = random.Random(self._runs)
        while not self._is_over():
            chance.choice(self.world.moving).change()
            self.tally.note("file operations", "done")
            self._done.wait(chance.uniform(0.05, 0.4))

    def _record(self) -> None:
        while not self._is_over():
            self._recorded += 1
            recording = Recording(self.world.root, self._recorded, RECORDS)
            self._recordings.append(recording)
            self.world.live = recording
            if len(self._recordings) > RECORDINGS_KEPT:
                self._recordings.pop(0).remove()
            recording.finish()
            self.tally.note("recorders", "finished")
            self._done.wait(PAUSE_S)
