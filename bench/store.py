"""An object store underneath: a cold stream beside a plain download, a warm cache beside files.

Owns two questions. The store is `tests/standin.py` in a process of its own, so what is measured is
what is above it: ratios of one run, and processor time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from bench.discard import run_discard
from bench.fetch import fetch
from bench.meter import cpu_seconds
from bench.peers import missing, pinned, zerocopy
from bench.rates import Load, measure_round
from bench.rounds import progress, take_rounds
from bench.section import Table, spread
from bench.servers import check_same, warm_endpoints
from bench.store_standin import CLOSED_S, LAST_DAY
from bench.workload import warm
from tests.standin import BUCKET, CREDENTIALS, environ_of
from zerocopy.core.layout import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Servers

THREADS = 16
"""Objects that each side fetches at a time; the default of [s3] fetch_threads."""


class _Objects(NamedTuple):
    """Days of a cold stream, bytes of each, and seconds that the store waits before an object."""

    days: int
    nbytes: int
    latency_s: float = 0.0

    @property
    def name(self) -> str:
        """As a row of the table has it."""
        late = f", {self.latency_s * 1e3:g} ms each" if self.latency_s else ""
        return f"{self.days:,} of {self.nbytes / 1e6:g} MB{late}"


COLD = (
    _Objects(2_000, 200_000),
    _Objects(2_000, 200_000, 0.03),
    _Objects(150, 4_000_000),
    _Objects(40, 16_000_000),
)
SMOKE_COLD = (_Objects(20, 20_000),)

PLAIN, UNCHECKED = "plain download", "zerocopy, check_md5 = false"
CHECKED, OURS = "plain download, MD5 checked", "zerocopy"
STORED, LOCAL = "over a store, cache warm", "over files"

LOADS = (
    Load("wrk", "4k", "requests", 16),
    Load("discard", "1m", "GB", 16),
    Load("discard", "48m", "GB", 1),
)


class _Cold(NamedTuple):
    """One stream or download; `cpu_s` without the start of its process."""

    nbytes: int
    wall_s: float
    cpu_s: float


def measure_store(options: Options, servers: Servers) -> Iterator[Table]:
    """A table for each question."""
    reason = missing("obstore")
    cold = Table(
        title="Cold streams from an object store",
        client=(
            "one query of one column over HTTP/1.1, its bytes dropped; the plain download is "
            f"obstore with {THREADS} threads into files, without a check or with that of the MD5; "
            "zerocopy has a sum of its own besides; a new process and an empty directory for "
            "each, without its start"
        ),
        head=("objects", "by", "seconds", "MB/s", "processor ms an object"),
        skipped=reason,
    )
    if reason is None:
        for objects in SMOKE_COLD if options.smoke else COLD:
            _measure_cold(options, servers, cold, objects)
    yield cold
    cached = Table(
        title="A warm cache of an object store, beside the same files",
        client="HTTP/1.1, keep-alive: wrk for 4 KB, bytes dropped by the kernel for the others",
        head=("answers", "server", "processor µs a request, or s a GB", "a second"),
        skipped=reason or missing("wrk"),
    )
    if cached.skipped is None:
        _measure_cached(options, servers, cached)
    yield cached


def _measure_cold(options: Options, servers: Servers, table: Table, objects: _Objects) -> None:
    days, nbytes, name = objects.days, objects.nbytes, objects.name
    directory = os.path.join(servers.directory, f"cold-{days}-{nbytes}-{objects.latency_s}")
    given = (f"--days={days}", f"--bytes={nbytes}", f"--latency-s={objects.latency_s}")
    taken: dict[str, list[_Cold]] = {PLAIN: [], UNCHECKED: [], CHECKED: [], OURS: []}
    with _standin(*given) as port:
        for number in range(options.rounds):
            for way in [*taken][:: 1 - number % 2 * 2]:
                progress(f"store: {name}, round {number + 1}, {way}")
                path = os.path.join(directory, f"{number}-{[*taken].index(way)}")
                measure = _download if way in {PLAIN, CHECKED} else _stream
                done = measure(port, path, checks=way in {CHECKED, OURS})
                taken[way].append(done)
    shutil.rmtree(directory)  # not earlier: ext4 steps over what was deleted just now
    if {one.nbytes for one in taken[PLAIN]} != {days * nbytes}:
        raise RuntimeError("store: the plain download is not whole")
    for way, runs in taken.items():
        walls, cpu = [one.wall_s for one in runs], [one.cpu_s / days * 1e3 for one in runs]
        rate = f"{days * nbytes / median(walls) / 1e6:,.0f}"
        table.rows.append((name, way, spread(walls, 2), rate, spread(cpu, 2)))
    for ours, theirs in ((UNCHECKED, PLAIN), (OURS, CHECKED), (OURS, PLAIN)):
        pairs = zip(taken[ours], taken[theirs], strict=True)
        shares = [theirs_.wall_s / ours_.wall_s for ours_, theirs_ in pairs]
        table.verdicts.append(f"{name}: {ours}: **{spread(shares, 2)}** of the rate of {theirs}")


def _download(port: int, directory: str, *, checks: bool) -> _Cold:
    os.makedirs(os.path.dirname(directory), exist_ok=True)
    where = [f"http://127.0.0.1:{port}", "p/bench/COLD/MD", directory, str(THREADS)]
    where += ["md5"] if checks else []
    found = subprocess.run(
        [sys.executable, "-m", "bench.store_download", *where],
        stdout=subprocess.PIPE,
        env={**os.environ, **CREDENTIALS},
        check=True,
    ).stdout.split()
    return _Cold(int(found[0]), float(found[1]), float(found[2]))


def _stream(port: int, directory: str, *, checks: bool) -> _Cold:
    os.makedirs(directory)
    end_s = (LAST_DAY + 1) * DAY_S - 1
    target = f"/api/data?exchange=bench&symbol=COLD&type=MD&columns=price&start=0&end={end_s}"
    environ = {**_environ(port, directory), "ZEROCOPY_S3_CHECK_MD5": str(checks).lower()}
    with zerocopy(f"s3://{BUCKET}/p", is_tls=False, environ=environ) as server:
        pids = (server.pid, *server.worker_pids())
        cpu_s = sum(map(cpu_seconds, pids))
        done = run_discard(server.port, target, connections=1, seconds=0.0)
        return _Cold(done.nbytes, done.seconds, sum(map(cpu_seconds, pids)) - cpu_s)


def _measure_cached(options: Options, servers: Servers, table: Table) -> None:
    root = os.path.join(servers.directory, "stored")
    shutil.copytree(servers.workload.root, root)
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            os.utime(path, (CLOSED_S, CLOSED_S))
            warm(path)
    with ExitStack() as stack:
        port = stack.enter_context(_standin(f"--root={root}"))
        cache = os.path.join(servers.directory, "cache")
        found: dict[str, dict[str, Endpoint]] = {}
        with pinned(servers.server_core):
            started = {
                STORED: zerocopy(
                    f"s3://{BUCKET}/p",
                    is_tls=False,
                    # Its listing is to be as good for the run as files that nobody touches.
                    environ={**_environ(port, cache), "ZEROCOPY_S3_LIST_S": "3600"},
                ),
                LOCAL: zerocopy(root, is_tls=False),
            }
            for name, starting in started.items():
                server = stack.enter_context(starting)
                found[name] = warm_endpoints(server, servers.workload, is_tls=False)
        for load in LOADS[:1] if options.smoke else LOADS:
            _compare(
                options, servers, table, {n: each[load.size] for n, each in found.items()}, load
            )


def _compare(
    options: Options, servers: Servers, table: Table, endpoints: dict[str, Endpoint], load: Load
) -> None:
    check_same(fetch(endpoints[LOCAL]), endpoints[STORED])
    rounds = take_rounds(
        options,
        f"store: {load.size}",
        {
            name: partial(measure_round, servers.cores, load, endpoint, options.seconds)
            for name, endpoint in endpoints.items()
        },
        table.notes,
    )
    factor, digits = (1e6, 2) if load.unit == "requests" else (1.0, 4)
    costs = {name: [one.cpu_s_per_unit * factor for one in taken] for name, taken in rounds.items()}
    for name, taken in rounds.items():
        rate = spread([one.rate for one in taken], 0 if factor > 1 else 2)
        table.rows.append((load.size, name, spread(costs[name], digits), rate))
    ratios = [s / f for s, f in zip(costs[STORED], costs[LOCAL], strict=True) if f]
    if ratios and not options.smoke:
        table.verdicts.append(
            f"{load.size}: a warm cache costs **{median(ratios):.3f}** times the processor time of "
            f"files ({min(ratios):.3f} to {max(ratios):.3f}, round by round)"
        )


def _environ(port: int, cache: str) -> dict[str, str]:
    return environ_of(f"http://127.0.0.1:{port}", cache)


@contextmanager
def _standin(*arguments: str) -> Iterator[int]:
    """The port of a store in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.store_standin", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.communicate()  # the end of its input is its end
