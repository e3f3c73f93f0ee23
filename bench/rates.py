"""How many answers, or GB of them, a second: by path and by size, of every server.

Owns which client asks for which size, and how nginx is given its best variant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.clients import TooShortError, run_h2load, run_wrk
from bench.discard import run_discard
from bench.meter import Meter
from bench.peers import missing
from bench.rounds import progress, take_rounds
from bench.section import Round, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.clients import LoadRun
    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Contest, Servers

SHARE_MIN = 0.9
"""Of its core; a server that used less waited, for the client or for a neighbour."""

SECONDS_MAX = 8.0
"""After which a server that has answered nothing is given up."""

PATHS = {
    ("plain", "wrk"): "HTTP/1.1",
    ("plain", "discard"): "HTTP/1.1",
    ("tls", "h2load"): "HTTP/2 over TLS",
    ("tls", "wrk"): "HTTP/1.1 over TLS",
}
"""What is spoken, by listener and client."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one section asks for: by which client, on how many connections of how many streams."""

    client: str
    size: str
    unit: str
    connections: int
    streams: int = 1
    in_smoke: bool = False


LOADS = {
    "plain": (
        Load("wrk", "4k", "requests", 16, in_smoke=True),
        Load("wrk", "4k", "requests", 64),
        Load("discard", "64k", "requests", 16, in_smoke=True),
        Load("discard", "1m", "GB", 16),
        Load("discard", "48m", "GB", 1, in_smoke=True),
    ),
    "tls": (
        Load("h2load", "4k", "requests", 8, 10, in_smoke=True),
        Load("h2load", "4k", "requests", 16),
        Load("h2load", "64k", "requests", 16),
        Load("h2load", "1m", "GB", 4),
        Load("h2load", "48m", "GB", 1, in_smoke=True),
        Load("wrk", "4k", "requests", 16, in_smoke=True),
        Load("wrk", "64k", "requests", 16),
        Load("wrk", "1m", "GB", 4),
        Load("wrk", "48m", "GB", 2),
    ),
}
"""In the order of the report. One of each kind is part of a smoke run."""

CLIENTS = {
    "wrk": "wrk, 1 thread, keep-alive",
    "discard": "one thread, keep-alive, bytes dropped by the kernel (recv with MSG_TRUNC)",
    "h2load": (
        "h2load, 1 thread, windows of 16 MB; it decrypts every byte, so it may be what limits. "
        "uvicorn knows no HTTP/2: wrk over HTTP/1.1 and the same TLS, with a connection for each "
        "request that is open (h2load's own HTTP/1.1 does not stop at a time)"
    ),
}


def measure_rates(options: Options, servers: Servers, path: str, size: str) -> Iterator[Section]:
    """The sections of one path and size."""
    for load in LOADS[path]:
        if load.size == size and (load.in_smoke or not options.smoke):
            yield _measure_load(options, servers, path, load)


def _measure_load(options: Options, servers: Servers, path: str, load: Load) -> Section:
    skipped = None if load.client == "discard" else missing(load.client)
    section = Section(
        path=PATHS[path, load.client],
        label=f"{load.size} answers",
        unit=load.unit,
        client=CLIENTS[load.client],
        skipped=skipped,
    )
    if skipped is not None:
        return section
    contest = servers.contest(path, load.size)
    section.label = _label(load, contest.nbytes)
    section.client += f"; {contest.nbytes:,} bytes of body"
    section.notes += contest.notes

    measure = partial(measure_round, servers.cores, load)
    others = [one for one in contest.others if not (needs_wrk(one) and missing("wrk"))]
    section.notes += [
        f"{one.name} skipped: {missing('wrk')}" for one in contest.others if one not in others
    ]
    endpoints = [contest.ours, *_choose(options, section, contest, measure), *others]
    section.rounds = take_rounds(
        options,
        section.title,
        {endpoint.name: partial(measure, endpoint, options.seconds) for endpoint in endpoints},
        section.notes,
    )
    waited = [name for name in section.rounds if section.share_of_core(name) < SHARE_MIN]
    if waited and not options.smoke:
        section.notes.append(
            f"{' and '.join(waited)} waited for the client or for a neighbour on the core: compare "
            "processor seconds there"
        )
    return section


def measure_round(cores: frozenset[int], load: Load, endpoint: Endpoint, seconds: float) -> Round:
    """One measurement of one server, as long as it takes to be answered at all."""
    while True:
        meter = Meter(endpoint.pids, cores)
        try:
            done = run_load(endpoint, load, seconds)
            break
        except TooShortError:
            if seconds >= SECONDS_MAX:
                raise
            seconds *= 4
    read = meter.read()
    return Round(
        units=done.answers if load.unit == "requests" else done.nbytes / 1e9,
        seconds=done.seconds,
        cpu_s=read.cpu_s,
        others_share=read.others_share,
        latencies=done.latencies,
        memory=read.memory,
    )


def needs_wrk(endpoint: Endpoint) -> bool:
    """Whether it speaks TLS and no HTTP/2, which is all that h2load can be stopped in."""
    return endpoint.is_tls and not endpoint.has_http2


def run_load(endpoint: Endpoint, load: Load, seconds: float) -> LoadRun:
    """Let the client of `load` ask."""
    if load.client == "wrk" or needs_wrk(endpoint):
        # Over HTTP/1.1, each request that is open has a connection of its own.
        return run_wrk(endpoint, connections=load.connections * load.streams, seconds=seconds)
    if load.client == "discard":
        return run_discard(
            endpoint.port, endpoint.target, connections=load.connections, seconds=seconds
        )
    return run_h2load(endpoint, connections=load.connections, streams=load.streams, seconds=seconds)


def _label(load: Load, nbytes: int) -> str:
    """What is asked for, as a reader would say it."""
    size = f"{nbytes / 1e6:.0f} MB" if nbytes >= 995_000 else f"{nbytes / 1e3:.0f} KB"
    connections = f"{load.connections} connection{'s' if load.connections > 1 else ''}"
    if load.client == "h2load":
        connections += f" of {load.streams} stream{'s' if load.streams > 1 else ''}"
    return f"{size} answers, {connections}"


def _choose(
    options: Options,
    section: Section,
    contest: Contest,
    measure: Callable[[Endpoint, float], Round],
) -> list[Endpoint]:
    """The variant of nginx that does most in a processor second, by two interleaved trials.

    Processor seconds, because a neighbour on the core would decide it by the clock. Nothing where
    nginx is missing, the first variant in a smoke run.
    """
    if not contest.nginx:
        return []
    costs_s = dict.fromkeys(contest.nginx, math.inf)  # the lower one: noise only ever adds
    for _ in range(0 if options.smoke else 2):
        for variant, endpoint in contest.nginx.items():
            progress(f"{section.title}: trying nginx with {variant}")
            costs_s[variant] = min(costs_s[variant], measure(endpoint, 1).cpu_s_per_unit)
    best = min(costs_s, key=costs_s.__getitem__)
    section.notes.append(f"nginx runs with {best}")
    if not options.smoke:
        costs = (f"{variant}: {section.cpu(cost_s)}" for variant, cost_s in costs_s.items())
        section.notes.append(f"nginx tried, {section.cpu_unit}: {'; '.join(costs)}")
    return [contest.nginx[best]]
