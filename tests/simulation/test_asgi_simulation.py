"""The ASGI application under seeds: many exchanges at once, over files that change and fail."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.simulation.asgi_run import AsgiRun
from tests.simulation.http2_batch import asgi, failures_of, folder
from zerocopy.storage.dayfile import DayFile
from zerocopy.transport.asgi import AsgiApp, _Sending
from zerocopy.transport.body import Bodies

if TYPE_CHECKING:
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.transport.asgi import Send

SEEDS = 30
MANY = int(os.environ.get("ZEROCOPY_SIMULATIONS", "100000"))
FIRST = int(os.environ.get("ZEROCOPY_SIMULATION_FIRST", "1000000"))
BATCH = 100
SEEN = 24
"""Seeds that are looked at one by one; each has to be right as well."""
TELLING = (5, 23, 7)
"""These see all there is to see, until what a seed does changes: then the others are tried."""
TO_SEE = {
    "status 200", "status 206", "status 304", "status 412", "status 400",
    "status 404", "status 500", "reset 2", "left", "failed open",
}  # fmt: skip


def test_every_answer_is_right_whatever_happens() -> None:
    """Whatever a seed does to files, disk and clients: all that is sent is right and ends."""
    assert not (stories := failures_of(asgi, SEEN, SEEDS)), "\n".join(stories)


def test_seed_gives_the_same_run_again() -> None:
    """Two runs of one seed send the same events at the same moments; another seed does not."""
    roots = [folder() for _ in range(3)]
    try:
        digests = [asgi(seed, root) for seed, root in zip((5, 5, 6), roots, strict=True)]
    finally:
        for root in roots:
            shutil.rmtree(root)
    assert digests[0] == digests[1] != digests[2]


def test_runs_see_what_they_are_for() -> None:
    """Among the seeds are aborted answers, errors, faults and clients that leave."""
    seen: set[str] = set()
    for seed in (*TELLING, *range(SEEN)):
        root = folder()
        try:
            run = AsgiRun(seed, root)
            run.execute()
        finally:
            shutil.rmtree(root)
        streams = run.peer.streams.values()
        seen |= {f"status {stream.status}" for stream in streams}
        seen |= {f"reset {stream.reset_code}" for stream in streams}
        seen |= {"left" for stream in streams if stream.is_given_up}
        seen |= {f"failed {call}" for call in run.faults}
        if seen >= TO_SEE:
            break
    assert seen >= TO_SEE


def test_finds_a_piece_that_is_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator finds a body that holds a segment twice."""
    honest = AsgiApp._send_segments

    async def twice(self: AsgiApp, pending: PendingRequest, send: Send, sending: _Sending) -> None:
        segments = [*sending.body._segments[:1], *sending.body._segments]
        bodies = Bodies(window_bytes_max=sending.body._ahead._window_bytes_max)
        nbytes = sum(segment.count for segment in segments)
        again = _Sending(bodies.open(b"", segments, nbytes, mapped=True), None)
        try:
            await honest(self, pending, send, again)
        finally:
            again.end()

    monkeypatch.setattr(AsgiApp, "_send_segments", twice)
    assert failures_of(asgi, 0, 40, stories_max=1)


def test_finds_an_answer_that_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator finds zeros in the place of a file that failed."""
    honest = DayFile.view

    def view(self: DayFile, offset: int, count: int) -> memoryview | bytes:
        try:
            return honest(self, offset, count)
        except Exception:  # noqa: BLE001 - the bug
            return bytes(count)

    monkeypatch.setattr(DayFile, "view", view)
    assert failures_of(asgi, 0, 200, stories_max=1)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_seeds() -> None:
    """As many seeds as ZEROCOPY_SIMULATIONS says, from ZEROCOPY_SIMULATION_FIRST on."""
    begins = list(range(FIRST, FIRST + MANY, BATCH))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(failures_of, [asgi] * len(begins), begins, [BATCH] * len(begins))
        stories = [story for stories in found for story in stories]
    assert not stories, "\n".join(stories[:3])
