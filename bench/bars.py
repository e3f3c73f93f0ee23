"""Bars of one day and of many: with roll-ups, without, and by engines over the same ticks.

Owns the days, and what is asked. zerocopy answers over HTTP, an engine reads its Parquet files;
all are pinned to the server's core, all files are in the page cache. Every answer is compared.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.bars_engine import COLUMNS, ENGINES, digest_of
from bench.peers import missing, pinned
from bench.rounds import progress
from bench.section import Table, spread
from tests.server import RunningServer
from zerocopy.core.layout import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bench.rounds import Options
    from bench.servers import Servers

DAY_S = 86_400
FIRST_DAY = 20_089
"""2025-01-01, in days since the epoch."""

SEED = 20_250_101
NS_SETTLED = {"ZEROCOPY_DATA_SETTLE_S": "0"}
"""The days were just written, and are to count as closed."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many days of how many ticks; an hour's bars of many days, a minute's of one."""

    days: int
    records: int


SIZE = Size(days=50, records=4_000_000)
SMOKE = Size(days=2, records=40_000)


@dataclass(slots=True)
class Asked:
    """One question: its range in days, the length of its bars, and what all gave."""

    label: str
    days: int
    step_s: int
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str:
        """For zerocopy."""
        start_s = FIRST_DAY * DAY_S
        return (
            f"/api/bars?symbol=X&type=MD&columns=price&interval={self.step_s}"
            f"&start={start_s}&end={start_s + self.days * DAY_S - 1}"
        )


def measure_bars(options: Options, servers: Servers) -> Iterator[Table]:
    """One table: a row for each question and each way to answer it."""
    size = SMOKE if options.smoke else SIZE
    folder = os.path.join(servers.directory, "bars")
    progress("bars: making the days")
    make_days(os.path.join(folder, "data", "coinbase", "X", "MD"), size)
    engines = [name for name in ENGINES if missing(name) is None]
    if engines:
        make_parquet(folder, size)
    questions = [
        Asked(f"1 day of {size.records / 1e6:g} M ticks to minutes", 1, 60),
        Asked(
            f"{size.days} days ({size.days * size.records / 1e6:g} M ticks) to hours",
            size.days,
            3_600,
        ),
    ]
    table = Table(
        title="Bars of one day and of many days",
        client=(
            "one connection of plain HTTP/1.1, open, high, low and close; engines run in a process "
            "of their own on the same core, over Parquet (zstd) of the same ticks, one file a day"
        ),
        head=("question", "answered by", "first, ms (range)", "again, ms (range)"),
    )
    table.notes += [f"{name} skipped: {missing(name)}" for name in ENGINES if name not in engines]
    with pinned(servers.server_core):
        rows = list(_measure_all(options, folder, questions, engines))
    table.rows = sorted(rows, key=lambda row: [each.label for each in questions].index(row[0]))
    for asked in questions:
        if len(set(asked.digests.values())) != 1:
            raise RuntimeError(f"bars: not all give the same bars: {asked.digests}")
    table.verdicts.append("All gave the same bars, bit for bit.")
    yield table


def _measure_all(
    options: Options, folder: str, questions: list[Asked], engines: list[str]
) -> Iterator[tuple[str, ...]]:
    data, rollups = (os.path.join(folder, name) for name in ("data", "rollups"))
    ways: dict[str, Mapping[str, str]] = {
        "zerocopy, no roll-ups": {"ZEROCOPY_ROLLUPS_BYTES_MAX": "0"},
        "zerocopy, roll-ups": {"ZEROCOPY_ROLLUPS_PATH": rollups},
    }
    for name, environ in ways.items():
        if "ZEROCOPY_ROLLUPS_PATH" in environ:
            progress("bars: making the roll-ups")
            command = [sys.executable, "-m", "zerocopy", "rollup", "--data-path", data]
            settings = {**os.environ, **NS_SETTLED, "ZEROCOPY_CONFIG": os.devnull}
            subprocess.run(
                [*command, "--path", rollups], check=True, env=settings, stdout=sys.stderr
            )
        with RunningServer(data, USE_TLS="false", **NS_SETTLED, **environ) as server:
            for asked in questions:
                progress(f"bars: {asked.label}, {name}")
                yield (asked.label, name, *_ask(server.port, asked, name, options.rounds))
    for name in engines:
        for asked in questions:
            progress(f"bars: {asked.label}, {name}")
            files = "*" if asked.days > 1 else f"{FIRST_DAY}"
            command = [sys.executable, "-m", "bench.bars_engine", name]
            command += [f"{folder}/parquet/{files}.parquet", str(asked.step_s)]
            done = subprocess.run(
                [*command, str(options.rounds + 1)], check=True, capture_output=True, text=True
            )
            found: dict[str, Any] = json.loads(done.stdout)
            [asked.digests[name]] = found["digests"]
            yield asked.label, name, spread(found["took_ms"][1:], 1), "as first"


def _ask(port: int, asked: Asked, name: str, rounds: int) -> tuple[str, str]:
    """Milliseconds of first and of repeated requests, once numpy is loaded."""
    with ExitStack() as stack:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        stack.callback(connection.close)
        _fetch(connection, f"{asked.target}&of=warm-up")
        first, again = [], []
        for number in range(rounds):
            # What the server does not know is ignored, but makes the target another one.
            target = f"{asked.target}&of={number}"
            took_ms, body = _fetch(connection, target)
            first.append(took_ms)
            again += [_fetch(connection, target)[0] for _ in range(5)]
        asked.digests[name] = digest_of(_columns(body))
    return spread(first, 1), spread(again, 2)


def _fetch(connection: http.client.HTTPConnection, target: str) -> tuple[float, bytes]:
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


def make_days(folder: str, size: Size) -> None:
    """Write `time` and `price` of each day: ticks at random seconds, a walk of prices."""
    os.makedirs(folder)
    chance = np.random.default_rng(SEED)
    seconds = np.sort(chance.integers(0, DAY_S, size.records)).astype("<u4")
    walk = 100 + np.cumsum(chance.normal(0, 0.01, size.records))
    for number in range(size.days):
        day = FIRST_DAY + number
        times = seconds + np.uint32(day * DAY_S)
        prices = (np.roll(walk, 1_000 * number) + number).astype("<f4")
        for name, values in (("time", times), ("price", prices)):
            values.tofile(os.path.join(folder, file_name(name, day)))


def make_parquet(folder: str, size: Size) -> None:
    """Write the same days as one Parquet file each, by polars, which bench needs for it."""
    import polars as pl  # noqa: PLC0415

    progress("bars: making the Parquet files")
    os.makedirs(f"{folder}/parquet")
    for day in range(FIRST_DAY, FIRST_DAY + size.days):
        columns = {
            name: np.fromfile(f"{folder}/data/coinbase/X/MD/{file_name(name, day)}", dtype)
            for name, dtype in (("time", "<u4"), ("price", "<f4"))
        }
        pl.DataFrame(columns).write_parquet(f"{folder}/parquet/{day}.parquet", compression="zstd")
