"""Two workers on two cores beside one worker on one.

Owns the way to measure it on a machine with no third core: a load generator shares the core of its
worker in both cases, so what is compared is one such pair with two. The share of the generators is
told, because where it grows the servers had less.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from bench.discard import streaming
from bench.meter import Meter
from bench.nginx import Nginx
from bench.peers import missing, pin_process, pinned, zerocopy
from bench.rates import PATHS, Load, run_load
from bench.rounds import take_rounds
from bench.section import OURS, Table, spread
from bench.servers import warm_endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Servers

LOADS = {
    "plain": (
        Load("wrk", "4k", "requests", 64, in_smoke=True),
        Load("discard", "48m", "GB", 8),
    ),
    "tls": (Load("h2load", "4k", "requests", 16, 10),),
}
"""Of each generator. SO_REUSEPORT deals connections out by chance, so there are many of them."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """One measurement: units and processor seconds a second, of servers and of generators."""

    rate: float
    server_share: float
    generator_share: float
    cpu_s_per_unit: float
    others_share: float


def measure_scaling(options: Options, servers: Servers) -> Iterator[Table]:
    """A table for each load, with every server as one worker and as two."""
    cores = sorted(servers.cores)[:2]
    for path, loads in LOADS.items():
        chosen = [load for load in loads if load.in_smoke or not options.smoke]
        if chosen and len(cores) < 2:
            yield Table(title="Two workers", client="-", skipped="there is one core")
            return
        if chosen:
            yield from _measure_path(options, servers, path, chosen, cores)


def _measure_path(
    options: Options, servers: Servers, path: str, loads: list[Load], cores: list[int]
) -> Iterator[Table]:
    servers.contest(path, "4k")  # what nginx serves comes from there
    with ExitStack() as stack:
        endpoints = {
            (name, workers): endpoint
            for workers in (1, 2)
            for name, endpoint in _start(stack, servers, path, cores[:workers]).items()
        }
        for load in loads:
            unit = "requests" if load.unit == "requests" else "GB"
            table = Table(
                title=f"{PATHS[path, load.client]}, {load.size} answers, one worker and two",
                client=(
                    f"{load.client} with {load.connections} connections for each worker, on the "
                    "core of that worker"
                ),
                skipped=None if load.client == "discard" else missing(load.client),
                head=(
                    *("server", "workers", f"{unit} a second, median (range)"),
                    *("processor cores of the server", "of the load generators"),
                    "processor µs a request" if unit == "requests" else "processor s a GB",
                ),
            )
            if table.skipped is None:
                _fill(options, servers, table, load, endpoints)
            yield table


def _start(
    stack: ExitStack, servers: Servers, path: str, cores: list[int]
) -> dict[str, dict[str, Endpoint]]:
    """Both servers with a worker on each of `cores`; by name, then by size."""
    is_tls = path == "tls"
    with pinned(*cores):
        ours = stack.enter_context(
            zerocopy(servers.workload.root, is_tls=is_tls, workers=len(cores))
        )
    for pid, core in zip(ours.worker_pids(), cores, strict=True):
        pin_process(pid, core)
    started = {OURS: warm_endpoints(ours, servers.workload, is_tls=is_tls)}
    if missing(Nginx.name) is None:
        prefix = f"{servers.directory}/nginx-{path}-{len(cores)}"
        with pinned(*cores):
            nginx = stack.enter_context(Nginx(prefix, servers.bodies(), workers=len(cores)))
        for pid, core in zip(nginx.worker_pids(), cores, strict=True):
            pin_process(pid, core)
        started["nginx"] = {
            size: next(iter(nginx.endpoints(f"{path}-{size}").values()))
            for size in servers.workload.targets
        }
    return started


def _fill(
    options: Options,
    servers: Servers,
    table: Table,
    load: Load,
    endpoints: dict[tuple[str, int], dict[str, Endpoint]],
) -> None:
    """Measure, and write the rows."""
    rounds = take_rounds(
        options,
        table.title,
        {
            f"{name}, {workers} workers": partial(
                scale, servers.cores, by_size[load.size], load, options.seconds, workers
            )
            for (name, workers), by_size in endpoints.items()
        },
        table.notes,
    )
    for (name, workers), taken in zip(endpoints, rounds.values(), strict=True):
        is_count = load.unit == "requests"
        cost_s = median(one.cpu_s_per_unit for one in taken)
        table.rows.append(
            (
                *(name, str(workers)),
                spread([one.rate for one in taken], 0 if is_count else 2),
                spread([one.server_share for one in taken], 2),
                spread([one.generator_share for one in taken], 2),
                f"{cost_s * 1e6:.2f}" if is_count else f"{cost_s:.3f}",
            )
        )
    by_case = dict(zip(endpoints, rounds.values(), strict=True))
    for name in dict.fromkeys(name for name, _ in endpoints):
        pairs = zip(by_case[name, 1], by_case[name, 2], strict=True)
        ratios = [two.rate / one.rate for one, two in pairs]
        table.verdicts.append(f"{name}, two workers / one: **{spread(ratios, 2)}**.")


def scale(
    cores: frozenset[int], endpoint: Endpoint, load: Load, seconds: float, workers: int
) -> Scaled:
    """One measurement, with a generator on the core of each worker."""

    def generate(core: int) -> tuple[float, float]:
        """Units, and the seconds they took; the pin is this thread's own."""
        with pinned(core):
            if load.client == "discard":  # two threads of one interpreter would be one generator
                with streaming(endpoint, load.connections) as streamed:
                    time.sleep(seconds)
                return streamed.bytes_per_s * seconds / 1e9, seconds
            done = run_load(endpoint, load, seconds)
        return done.answers if load.unit == "requests" else done.nbytes / 1e9, done.seconds

    meter = Meter(endpoint.pids, cores)
    with ThreadPoolExecutor(workers) as executor:
        ran = list(executor.map(generate, sorted(cores)[:workers]))
    read = meter.read()
    units = sum(done for done, _ in ran)
    return Scaled(
        rate=sum(done / took_s for done, took_s in ran),
        server_share=read.cpu_s / read.wall_s,
        generator_share=read.client_s / read.wall_s,
        cpu_s_per_unit=read.cpu_s / units,
        others_share=read.others_share,
    )
