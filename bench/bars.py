"""Bars of one day, of many and of a billion ticks: with roll-ups, without, and by engines.

Owns what is asked. zerocopy answers over HTTP, an engine reads Parquet files of the same ticks; all
are pinned to the server's core, all files are in the page cache. Every answer is compared.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.bars_data import (
    CHANGED_PRICE,
    FIRST_S,
    NOON_S,
    Ticks,
    lack_of_room,
    make_days,
    make_parquet,
    make_rollups,
    one_changed,
)
from bench.bars_engine import COLUMNS, ENGINES, digest_of
from bench.peers import missing, pinned
from bench.rounds import progress
from bench.section import Table, spread
from tests.server import RunningServer
from zerocopy.core.layout import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.rounds import Options
    from bench.servers import Servers

RECORDS, SMOKE_RECORDS = 4_000_000, 40_000
"""Of a day. There are no roll-ups of days that have fewer than the latter."""

AGAIN = 5
"""How often the same is asked for in a round."""

NO_ROLLUPS, WITH_ROLLUPS = "zerocopy, no roll-ups", "zerocopy, roll-ups"

WARM_UP = Ticks("WARM", 1, 1_000)
"""Its bars are asked of a new server first: that loads numpy, and nothing of what is measured."""

HEAD = (
    *("question", "answered by", "first of a new server, ms (range)", "first, ms (range)"),
    *("again, ms (range)", "one changed, ms (range)"),
)


@dataclass(slots=True)
class Took:
    """Milliseconds of one question asked in one way."""

    new: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)

    @property
    def cells(self) -> tuple[str, ...]:
        """As they stand in the table."""
        kinds = ((self.new, 1), (self.first, 1), (self.again, 2), (self.changed, 1))
        return tuple(spread(each, digits) for each, digits in kinds)


@dataclass(slots=True)
class Asked:
    """One question: all days of a series, the length of the bars, and what everybody gave."""

    ticks: Ticks
    step_s: int
    bars: str
    digests: dict[str, set[str]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Such as `50 days, 200 M ticks, to hours`."""
        days = self.ticks.days
        return f"{days} day{'s' * (days > 1)}, {self.ticks.total} ticks, to {self.bars}"

    @property
    def target(self) -> str:
        """For zerocopy."""
        return (
            f"/api/bars?symbol={self.ticks.symbol}&type=MD&columns=price&interval={self.step_s}"
            f"&start={FIRST_S}&end={FIRST_S + self.ticks.days * DAY_S - 1}"
        )


def measure_bars(options: Options, servers: Servers) -> Iterator[Table]:
    """One table: a day to minutes and fifty to hours, a row for each way to answer."""
    days, records = (2, SMOKE_RECORDS) if options.smoke else (50, RECORDS)
    questions = [
        Asked(Ticks("ONE", 1, records), 60, "minutes"),
        Asked(Ticks("MANY", days, records), 3_600, "hours"),
    ]
    yield _measure("Bars of one day and of many days", options, servers, questions)


def measure_billion(options: Options, servers: Servers) -> Iterator[Table]:
    """One table: 250 days of 4 M ticks to 2,000 bars of three hours."""
    days, records = (3, SMOKE_RECORDS) if options.smoke else (250, RECORDS)
    question = Asked(Ticks("BILLION", days, records), 10_800, f"{8 * days:,} bars")
    yield _measure("Bars of a billion ticks", options, servers, [question])


def _measure(title: str, options: Options, servers: Servers, questions: list[Asked]) -> Table:
    table = Table(
        title=title,
        client=(
            "one connection of plain HTTP/1.1, open, high, low and close; a new server has opened "
            "no day and has no roll-up in memory; first is another target of a server that has; "
            "one changed is the same target after one record of the first day was written in "
            "place; engines run in a process of their own on the same core, over Parquet (zstd) "
            "of the same ticks, one file a day"
        ),
        head=HEAD,
    )
    engines = [name for name in ENGINES if missing(name) is None]
    table.notes += [f"{name} skipped: {missing(name)}" for name in ENGINES if name not in engines]
    series = [WARM_UP, *(asked.ticks for asked in questions)]
    table.skipped = lack_of_room(servers.directory, series, with_parquet=bool(engines))
    if table.skipped is not None:
        return table
    folder = os.path.join(servers.directory, questions[-1].ticks.symbol)
    data, rollups = (os.path.join(folder, name) for name in ("data", "rollups"))
    progress("bars: making the days")
    for ticks in series:
        make_days(data, ticks)
    progress("bars: making the Parquet files")
    for asked in questions if engines else ():
        make_parquet(os.path.join(folder, asked.ticks.symbol), data, asked.ticks)
    if not options.smoke:
        os.sync()  # or the first rounds would share the disk and a core with the kernel's writes
        progress("bars: making the roll-ups")
        make_rollups(data, rollups)  # on all cores
    with pinned(servers.server_core):
        rows = [*_by_zerocopy(options, data, rollups, questions)]
        for name in engines:
            rows += _by_engine(options, folder, questions, name)
    table.rows = sorted(rows, key=lambda row: [each.label for each in questions].index(row[0]))
    for asked in questions:
        if len(set[str]().union(*asked.digests.values())) != 1:
            raise RuntimeError(f"bars: not all give the same bars: {asked.digests}")
    table.verdicts.append(
        "All gave the same bars, bit for bit, and zerocopy the new ones after each change."
    )
    return table


def _by_zerocopy(
    options: Options, data: str, rollups: str, questions: Sequence[Asked]
) -> Iterator[tuple[str, ...]]:
    """A new server each time, or one would make roll-ups while the next question is measured."""
    ways = {
        NO_ROLLUPS: {"ZEROCOPY_ROLLUPS_BYTES_MAX": "0"},
        WITH_ROLLUPS: {"ZEROCOPY_ROLLUPS_PATH": rollups},
    }
    took = {(asked.label, name): Took() for asked in questions for name in ways}
    for number in range(options.rounds):
        make_rollups(data, rollups)  # those of days that the round before changed
        for asked, name in product(questions, (WITH_ROLLUPS, NO_ROLLUPS)):
            progress(f"bars: {asked.label}, {name}, round {number + 1}")
            with RunningServer(data, **ways[name]) as server:
                _ask(server, data, asked, name, took[asked.label, name])
    for (label, name), each in took.items():
        yield label, name, *each.cells


def _ask(server: RunningServer, root: str, asked: Asked, name: str, took: Took) -> None:
    """One round of one question in one way.

    Raises:
        RuntimeError: a change did not change the bars as it had to, or a roll-up was not there.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        fetch = partial(fetch_timed, connection)
        fetch(Asked(WARM_UP, 3_600, "").target)
        took.new.append(fetch(asked.target)[0])
        used = server.metric("zerocopy_rollups_used_total")
        if used != asked.ticks.days * (name == WITH_ROLLUPS):
            raise RuntimeError(f"bars: {asked.label}, {name}: {used:.0f} roll-ups used")
        # What the server does not know is ignored, but makes the target another one.
        target = f"{asked.target}&of=another"
        took_ms, body = fetch(target)
        took.first.append(took_ms)
        took.again += [fetch(target)[0] for _ in range(AGAIN)]
        with one_changed(root, asked.ticks):
            took_ms, changed = fetch(target)
        took.changed.append(took_ms)
    bars = _columns(body)
    asked.digests.setdefault(name, set()).add(digest_of(bars))
    is_noon = bars["time"] == NOON_S // asked.step_s * asked.step_s
    bars["high"] = np.where(is_noon, CHANGED_PRICE, bars["high"])
    if digest_of(bars) != digest_of(_columns(changed)):
        raise RuntimeError(f"bars: {asked.label}, {name}: not what one changed record makes")


def _by_engine(
    options: Options, folder: str, questions: Sequence[Asked], name: str
) -> Iterator[tuple[str, ...]]:
    """It keeps nothing, so that each time is the first."""
    progress(f"bars: {name}")
    command = [sys.executable, "-m", "bench.bars_engine", name, str(options.rounds)]
    for asked in questions:
        command += [f"{folder}/{asked.ticks.symbol}/*.parquet", str(asked.step_s)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for asked, line in zip(questions, done.stdout.splitlines(), strict=True):
        told = json.loads(line)
        asked.digests[name] = set(told["digests"])
        yield asked.label, name, "-", spread(told["took_ms"], 1), "as first", "as first"


def fetch_timed(connection: http.client.HTTPConnection, target: str) -> tuple[float, bytes]:
    """Milliseconds and the body; raise RuntimeError unless it is a 200."""
    begun = time.perf_counter()
    connection.request("GET", target)
    response = connection.getresponse()
    body = response.read()
    took_ms = (time.perf_counter() - begun) * 1e3
    if response.status != http.client.OK:
        raise RuntimeError(f"zerocopy answered {response.status}: {body[:300]!r}")
    return took_ms, body


def _columns(body: bytes) -> dict[str, Any]:
    line, _, rest = body.partition(b"\n")
    columns, offset = {}, 0
    for name, told in zip(COLUMNS, json.loads(line)["columns"], strict=True):
        columns[name] = np.frombuffer(rest, told["dtype"], told["num_records"], offset)
        offset += told["data_length"]
    return columns
