"""The HTTP/2 path under seeds: thousands of orders of events, each of which must end right.

What is real: wire, channel, connection, lane, bodies, service, storage, core, Hypercorn, h2, the
files and their mappings. What is not: OpenSSL, sockets, threads, the clock.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.http2_batch import failures_of, folder, http2
from tests.simulation.http2_run import Run
from zerocopy.transport.http2.connection import Http2Connection
from zerocopy.transport.http2.lane import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.transport.channel import Buffer
    from zerocopy.transport.http2.lane import Proved, Waiting

SEEDS = 16
BATCH = 50
SEEN = 64
TELLING = (61, 3, 12, 44, 39)
"""These see all there is to see, until what a seed does changes: then the others are tried."""
TO_SEE = {
    "status 200", "status 400", "status 404", "status 405", "status 417", "status 500",
    "status 206", "status 304", "status 412", "status 416", "status 503", "reset 2",
    "reset 0", "changed amid", "failed open", "failed pread",
    "failed lstat", "failed scandir", "mapped", "lane",
    "batch", "not by batch", "piece that came again", "half close", "unsent rest",
}  # fmt: skip
"""Seeds that are looked at one by one; each has to be right as well."""

MANY = int(os.environ.get("ZEROCOPY_SIMULATIONS", "100000"))
FIRST = int(os.environ.get("ZEROCOPY_SIMULATION_FIRST", "1000000"))


def test_every_answer_is_right_whatever_happens() -> None:
    """Clients, files, disk and wire do what a seed says: all that is sent is right and ends."""
    assert not (stories := failures_of(http2, SEEN, SEEDS)), "\n".join(stories)


def test_seed_gives_the_same_run_again() -> None:
    """Two runs of one seed write the same bytes at the same moments; another seed does not."""
    roots = [folder() for _ in range(3)]
    try:
        digests = [http2(seed, root) for seed, root in zip((5, 5, 6), roots, strict=True)]
    finally:
        for root in roots:
            shutil.rmtree(root)
    assert digests[0] == digests[1] != digests[2]


def test_runs_see_what_they_are_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among the seeds are the lane, resets, errors, mappings and changes amid jobs."""
    seen: set[str] = set()
    honest, honest_meet = Lane.answer, Http2Connection._meet
    read_alone: list[Proved] = []  # of the bytes that a connection reads by itself

    def meet(self: Http2Connection, frame: bytes, proved: Proved) -> Any:
        read_alone[:] = [proved]
        return honest_meet(self, frame, proved)

    def answer(self: Lane, requests: Sequence[Waiting], proved: Proved) -> tuple[int, Buffer]:
        answered, frames = honest(self, requests, proved)
        way = "lane" if any(proved is one for one in read_alone) else "batch"
        seen.add(way if answered else f"not by {way}")
        return answered, frames

    monkeypatch.setattr(Lane, "answer", answer)
    monkeypatch.setattr(Http2Connection, "_meet", meet)
    for seed in (*TELLING, *range(SEEN)):
        root = folder()
        try:
            run = Run(seed, root)
            run.execute()
        finally:
            shutil.rmtree(root)
        streams = run.peer.streams.values()
        seen |= {f"status {stream.status}" for stream in streams}
        seen |= {f"reset {stream.reset_code}" for stream in streams}
        seen |= {"changed amid" for version in run.tree.versions if version.is_amid}
        seen |= {f"failed {call}" for call in run.faults}
        seen |= {"piece that came again"} if run.tls.retries else set()
        seen |= {"half close"} if run.is_half_closed and not run.was_lost else set()
        seen |= {"unsent rest"} if run.tap.most_unsent else set()
        seen |= {"mapped"} if run.built.most_mapped else set()
        if seen >= TO_SEE:
            break
    assert seen >= TO_SEE


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_very_many_seeds() -> None:
    """As many seeds as ZEROCOPY_SIMULATIONS says, from ZEROCOPY_SIMULATION_FIRST on."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        batches = range(FIRST, FIRST + MANY, BATCH)
        stories = [
            story
            for found in pool.map(
                failures_of, *zip(*((http2, b, BATCH) for b in batches), strict=True)
            )
            for story in found
        ]
    assert not stories, "\n".join(stories[:3])
