"""What a feed of a thousand listeners does to a small answer on one worker.

Owns one question. As in `fairness`, the small answers are asked for by one connection in a closed
loop; a process of its own, which steps back by nice(1), appends and listens.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.discard import run_discard
from bench.live import Listeners
from bench.live_ways import zerocopy_way
from bench.meter import Meter
from bench.peers import pinned
from bench.percentiles import percentiles, quantile
from bench.rounds import take_rounds
from bench.section import Table, spread, told
from zerocopy.core.layout import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from bench.live_ways import Way
    from bench.rounds import Options
    from bench.servers import Servers

LISTENERS, SMOKE_LISTENERS = 1_000, 10
PACE = 100
"""Appends a second."""

LISTENERS_NICE = 10
RECORDS = 490
"""A small answer: 4 KB with its header line."""

_DAY = 20_000
_TARGET = (
    f"/api/data?symbol=SMALL&type=MD&columns=time,price&start={_DAY * 86_400}"
    f"&end={_DAY * 86_400 + RECORDS}"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Small answers: what each took, and how many messages the listeners got meanwhile."""

    took_us: tuple[float, ...]
    rate: float
    messages_per_s: float
    others_share: float


@dataclass(slots=True)
class Heard:
    """What listeners were sent."""

    messages_per_s: float = 0.0


def measure_live_beside(options: Options, servers: Servers) -> Iterator[Table]:
    """Latencies of small answers alone, and beside a feed that many listen to."""
    count = SMOKE_LISTENERS if options.smoke else LISTENERS
    table = Table(
        title=f"Live: 4 KB answers beside {count:,} listeners of one series on one worker",
        client=(
            f"{PACE} appends a second; one connection asks for the small answer in a closed loop; "
            f"a process of its own, nice {LISTENERS_NICE}, appends and listens on the same core"
        ),
        head=(
            *("small answers", "p50 µs", "p99 µs (range over rounds)", "p99.9 µs"),
            *("small answers a second", "messages a second"),
        ),
    )
    root = os.path.join(servers.directory, "live-beside", "data")
    _make_small(root)
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
    p99_us = {}
    for name, taken in rounds.items():
        found = percentiles([took for one in taken for took in one.took_us])
        p99_us[name] = found.p99_us
        by_round = [quantile(one.took_us, 990) for one in taken]
        table.rows.append(
            (
                *(name, told(found.p50_us)),
                f"{told(found.p99_us)} ({min(by_round):,.0f} to {max(by_round):,.0f})",
                told(found.p999_us),
                spread([one.rate for one in taken]),
                spread([one.messages_per_s for one in taken]),
            )
        )
    alone, beside = p99_us["alone"], p99_us["beside"]
    if alone and beside:
        table.verdicts.append(f"p99 beside the feed / alone: **{beside / alone:.2f}**.")
    yield table


def _make_small(root: str) -> None:
    """One closed day of a series that nobody listens to."""
    folder = os.path.join(root, "coinbase", "SMALL", "MD")
    os.makedirs(folder)
    begin = _DAY * 86_400
    for column, kind, values in (
        ("time", "I", range(begin, begin + RECORDS)),
        ("price", "f", range(RECORDS)),
    ):
        with open(os.path.join(folder, file_name(column, _DAY)), "wb") as file:
            file.write(struct.pack(f"<{RECORDS}{kind}", *values))


def _ask(servers: Servers, way: Way, seconds: float, count: int) -> Beside:
    meter = Meter(way.pids, servers.cores)
    with listening(way, count) if count else nullcontext(Heard()) as heard:
        small = run_discard(way.port, _TARGET, connections=1, seconds=seconds)
    others_share = meter.read().others_share
    rate = small.answers / small.seconds
    return Beside(small.took_us, rate, heard.messages_per_s, others_share)


@contextmanager
def listening(way: Way, count: int) -> Iterator[Heard]:
    """`count` listeners and a writer, in a process of its own while the block runs."""
    heard = Heard()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_listen, args=(way, count, theirs), daemon=True
    )
    process.start()
    theirs.close()
    try:
        ours.recv()  # EOFError: they failed, and have said why
        yield heard
        ours.send(None)
        heard.messages_per_s, way.published = ours.recv()
    finally:
        ours.close()
        process.join()


def _listen(way: Way, count: int, pipe: Connection) -> None:
    """Append and listen until told to end."""
    os.nice(LISTENERS_NICE)
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
