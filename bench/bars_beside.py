"""What a client that has bars computed without pause does to a small answer on one worker.

Owns one question. Each of its targets is another one, so that no answer is there already, and
nothing is kept of a day but its files.
"""

from __future__ import annotations

import http.client
import os
import time
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from bench.bars import RECORDS, SMOKE_RECORDS, Asked, fetch_timed
from bench.bars_data import Ticks, make_days
from bench.beside import TARGET, Beside, make_small, meanwhile, tell
from bench.discard import run_discard
from bench.meter import Meter
from bench.peers import pinned, zerocopy
from bench.rounds import take_rounds
from bench.section import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from bench.rounds import Options
    from bench.servers import Servers
    from tests.server import RunningServer


def measure_bars_beside(options: Options, servers: Servers) -> Iterator[Table]:
    """Latencies of small answers alone, and beside bars of a day to minutes."""
    asked = Asked(Ticks("ONE", 1, SMOKE_RECORDS if options.smoke else RECORDS), 60, "minutes")
    table = Table(
        title="4 KB answers beside bars that are computed on one worker",
        client=(
            "one connection asks for the small answer in a closed loop; a process of its own, on "
            "the same core where that is idle (SCHED_IDLE), asks for bars in another one: "
            f"{asked.label}, each time of another target; no roll-ups"
        ),
        head=(
            *("small answers", "p50 µs", "p99 µs (range over rounds)", "p99.9 µs"),
            *("small answers a second", "bars a second"),
        ),
    )
    if servers.server_core == servers.client_core:
        table.skipped = "there is one core, which the process beside would never get"
        yield table
        return
    root = os.path.join(servers.directory, "bars-beside")
    make_small(root)
    make_days(root, asked.ticks)
    with ExitStack() as stack:
        with pinned(servers.server_core):
            server = stack.enter_context(
                zerocopy(root, is_tls=False, environ={"ZEROCOPY_ROLLUPS_BYTES_MAX": "0"})
            )
        with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
            fetch_timed(connection, asked.target)  # numpy is loaded once
        ask = partial(_ask, server, servers, options.seconds)
        rounds = take_rounds(
            options,
            table.title,
            {"alone": ask, "beside": partial(ask, asked.target)},
            table.notes,
        )
    tell(table, rounds, "bars")
    table.verdicts.append("At most 2.00 is wanted.")
    yield table


def _ask(
    server: RunningServer, servers: Servers, seconds: float, bars_target: str | None = None
) -> Beside:
    meter = Meter((server.pid, *server.worker_pids()), servers.cores)
    computing = (
        nullcontext([0.0]) if bars_target is None else meanwhile(_compute, server.port, bars_target)
    )
    with computing as given:
        small = run_discard(server.port, TARGET, connections=1, seconds=seconds)
    [bars_rate] = given
    others_share = meter.read().others_share
    return Beside(small.took_us, small.answers / small.seconds, bars_rate, others_share)


def _compute(pipe: Connection, port: int, target: str) -> None:
    """Ask for bars until told to end; how many there were a second."""
    count = 0
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        pipe.send(None)
        begun_s = time.perf_counter()
        while not pipe.poll():
            count += 1
            fetch_timed(connection, f"{target}&of={os.getpid()}-{count}")
    pipe.send(count / (time.perf_counter() - begun_s))
