"""What a feed of a thousand listeners does to a small answer on one worker.

Owns one question: the process beside the small answers appends and listens.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from bench.beside import TARGET, Beside, make_small, meanwhile, tell
from bench.discard import run_discard
from bench.live import Listeners
from bench.live_ways import zerocopy_way
from bench.meter import Meter
from bench.peers import pinned
from bench.rounds import take_rounds
from bench.section import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from bench.live_ways import Way
    from bench.rounds import Options
    from bench.servers import Servers

LISTENERS, SMOKE_LISTENERS = 1_000, 10
PACE = 100
"""Appends a second."""


def measure_live_beside(options: Options, servers: Servers) -> Iterator[Table]:
    """Latencies of small answers alone, and beside a feed that many listen to."""
    count = SMOKE_LISTENERS if options.smoke else LISTENERS
    table = Table(
        title=f"Live: 4 KB answers beside {count:,} listeners of one series on one worker",
        client=(
            f"{PACE} appends a second; one connection asks for the small answer in a closed loop; "
            "a process of its own appends and listens on the same core where that is idle "
            "(SCHED_IDLE)"
        ),
        head=(
            *("small answers", "p50 µs", "p99 µs (range over rounds)", "p99.9 µs"),
            *("small answers a second", "messages a second"),
        ),
    )
    if servers.server_core == servers.client_core:
        table.skipped = "there is one core, which the process beside would never get"
        yield table
        return
    root = os.path.join(servers.directory, "live-beside", "data")
    make_small(root)
    with ExitStack() as stack:
        with pinned(servers.server_core):
            way = stack.enter_context(zerocopy_way(root))
        rounds = take_rounds(
            options,
            table.title,
            {
                "alone": partial(_ask, servers, way, options.seconds, 0),
                "beside": partial(_ask, servers, way, options.seconds, count),
            },
            table.notes,
        )
    tell(table, rounds, "the feed")
    yield table


def _ask(servers: Servers, way: Way, seconds: float, count: int) -> Beside:
    meter = Meter(way.pids, servers.cores)
    listening = meanwhile(_listen, way, count) if count else nullcontext([(0.0, way.published)])
    with listening as given:
        small = run_discard(way.port, TARGET, connections=1, seconds=seconds)
    [(messages_per_s, way.published)] = given
    others_share = meter.read().others_share
    return Beside(small.took_us, small.answers / small.seconds, messages_per_s, others_share)


def _listen(pipe: Connection, way: Way, count: int) -> None:
    """Append and listen until told to end."""
    with Listeners(way, count) as listeners:
        pipe.send(None)
        begun_s = time.perf_counter()
        published = arrived = 0
        while not pipe.poll():
            now_s = time.perf_counter()
            due_s = begun_s + published / PACE
            if now_s >= due_s:
                published += 1
                way.publish()
                continue
            some, _, samples = listeners.wait(due_s - now_s)
            arrived += some
            for fd in samples:
                listeners.read(fd)
        pipe.send((arrived / (time.perf_counter() - begun_s), way.published))
