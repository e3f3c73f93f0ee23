"""The Python client beside what people would write: from a server into a polars table.

Owns the question, its days, and the processes that fetch: each way in one of its own, on the
client's core, all loaded before the first round and asked in turn.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import mean, median
from typing import TYPE_CHECKING, Self

import numpy as np

from bench.arrow import FlightPeer
from bench.peers import missing, pinned, zerocopy
from bench.rounds import progress
from bench.section import Table, spread
from bench.workload import DAY, warm
from tests.certificate import authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rounds import Options
    from bench.servers import Servers

DAYS = 10
"""Of the workload's one, at other times: 480 MB."""

ROUND_BYTES = 480_000_000
"""What a way fetches in a round, one fetch after the other."""

DAY_S = 86_400
STOP_TIMEOUT_S = 10.0

OURS = "zerocopy.client"
NAMES = {
    "bare": "recv_into huge pages, numpy",
    "ours": OURS,
    "httpx": "httpx, numpy",
    "requests": "requests, numpy",
    "flight": "Arrow Flight",
    "parquet": "pandas.read_parquet",
}
BARE, FLIGHT = NAMES["bare"], NAMES["flight"]


class Way:
    """A process of `client_ways`."""

    def __init__(self, way: str, url: str, target: str, small: str, ca: str) -> None:
        self._arguments = (way, url, target, small, ca)

    def __enter__(self) -> Self:
        """Start, and wait until everything is loaded."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.client_ways", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready\n")
        return self

    def __exit__(self, *_: object) -> None:
        """End it: its input ends."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def fetch(self) -> dict[str, float]:
        """What one fetch took."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: dict[str, float] = json.loads(self._expect())
        return told

    def _expect(self, wanted: str | None = None) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line or wanted not in {None, line}:
            raise RuntimeError(f"client: the way {self._arguments[0]} failed")
        return line


@dataclass(slots=True)
class _Found:
    """What the rounds of one way were."""

    seconds: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    nbytes: list[float] = field(default_factory=list)


def measure_client(options: Options, servers: Servers) -> Iterator[Table]:
    """A table for each size and path."""
    root = os.path.join(servers.directory, "days")
    days = 2 if options.smoke else DAYS
    records = _make_days(servers.workload.root, root, days)
    ca = os.path.join(servers.directory, "ca.crt")
    authority().cert_pem.write_to_path(ca)
    with ExitStack() as stack:
        with pinned(servers.server_core):
            plain = stack.enter_context(zerocopy(root, is_tls=False))
            tls = stack.enter_context(zerocopy(root, is_tls=True))
            flight_url = None
            if missing("pyarrow") is None:
                peer = FlightPeer(f"{servers.directory}/days-flight", root, is_tls=False)
                flight_url = f"grpc://127.0.0.1:{stack.enter_context(peer).endpoint('').port}"
        for path, url in (
            ("HTTP/1.1", f"http://127.0.0.1:{plain.port}"),
            ("HTTP/1.1 over TLS", f"https://127.0.0.1:{tls.port}"),
        ):
            for count in (1, days):
                nbytes = 8 * records * count
                table = _table(path, nbytes)
                reach = (url, flight_url if path == "HTTP/1.1" else None, ca)
                ways = _ways(reach, count, with_parquet=count == 1)
                _measure(options, table, ways, nbytes)
                yield table


def _table(path: str, nbytes: int) -> Table:
    return Table(
        title=f"{path}: {nbytes / 1e6:.0f} MB into a polars table",
        client=(
            "a process for each way on one core, one connection; recv_into stops at numpy columns, "
            "and is the bound of all that read a socket into fresh memory"
        ),
        head=(
            "way",
            "GB/s (range)",
            "of recv_into in a round",
            "processor s a GB",
            "MB beside the data",
        ),
    )


def _ways(
    reach: tuple[str, str | None, str], days: int, *, with_parquet: bool
) -> dict[str, tuple[str, str, str, str, str]]:
    """Arguments of each way there is, by its name in the table."""
    url, flight_url, ca = reach
    target = f"{_TARGET}&start={_first_s()}&end="
    asked = (target + str(_first_s() + days * DAY_S - 1), target + str(_first_s() + 60))
    ca = ca if url.startswith("https") else ""
    ways = {
        NAMES[way]: (way, url, *asked, ca)
        for way in ("bare", "ours", "httpx", "requests")
        if way in {"bare", "ours"} or missing(way) is None
    }
    if flight_url is not None:
        ways[FLIGHT] = ("flight", flight_url, str(days), "1", "")
    if with_parquet:
        ways[NAMES["parquet"]] = ("parquet", url, *asked, ca)
    return ways


_TARGET = "/api/data?symbol=BTC-USD&type=TRADES&columns=time,price"


def _first_s() -> int:
    return int(np.datetime64(DAY, "s").astype(np.int64))


def _measure(
    options: Options,
    table: Table,
    ways: dict[str, tuple[str, str, str, str, str]],
    nbytes: int,
) -> None:
    found = {name: _Found() for name in ways}
    told: set[tuple[float, float]] = set()
    with ExitStack() as stack:
        running = {name: stack.enter_context(Way(*given)) for name, given in ways.items()}
        for number in range(options.rounds):
            for name in [*ways][:: 1 - number % 2 * 2]:  # in turn from either end
                progress(f"client, {table.title}: round {number + 1}, {name}")
                fetches = [running[name].fetch() for _ in range(max(1, ROUND_BYTES // nbytes))]
                found[name].seconds.append(mean(took["seconds"] for took in fetches))
                found[name].cpu_s.append(mean(took["cpu_s"] for took in fetches))
                found[name].nbytes.append(max(took["bytes"] for took in fetches))
                told.update((took["sum"], took["records"]) for took in fetches)
    if len(told) != 1:
        raise RuntimeError("client: not all ways give the same table")
    for name, rounds in found.items():
        of_bare = [
            bare_s / seconds
            for bare_s, seconds in zip(found[BARE].seconds, rounds.seconds, strict=True)
        ]
        table.rows.append(
            (
                name,
                spread([nbytes / 1e9 / seconds for seconds in rounds.seconds], 2),
                spread(of_bare, 2),
                spread([cpu_s / nbytes * 1e9 for cpu_s in rounds.cpu_s], 2),
                f"{(max(rounds.nbytes) - nbytes) / 1e6:,.0f}",
            )
        )
    for name in [*found][2:]:
        by_clock = median(found[name].seconds) / median(found[OURS].seconds)
        by_cpu = median(found[name].cpu_s) / median(found[OURS].cpu_s)
        table.verdicts.append(
            f"{OURS} / {name}: **{by_clock:.2f}** times as fast, {by_cpu:.2f} by processor time"
        )
    table.notes.append("All gave the same table.")


def _make_days(source: str, root: str, days: int) -> int:
    """Write the day of the workload again and again, each at its own times; records of one."""
    folder, target = (
        os.path.join(path, "coinbase", "BTC-USD", "TRADES") for path in (source, root)
    )
    os.makedirs(target)
    times = np.fromfile(os.path.join(folder, f"time.{DAY:%d.%m.%y}.bin"), "<u4")
    prices = np.fromfile(os.path.join(folder, f"price.{DAY:%d.%m.%y}.bin"), "<f4")
    for index in range(days):
        day = DAY + timedelta(days=index)
        for name, values in (("time", times + np.uint32(index * DAY_S)), ("price", prices)):
            path = os.path.join(target, f"{name}.{day:%d.%m.%y}.bin")
            values.tofile(path)
            warm(path)
    return len(times)
