"""The questions, and how they are put to every server in turn.

Owns clients, rounds and which of them count. It must never start a server.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.clients import run_discard, run_h2load, run_wrk
from bench.meter import Meter
from bench.peers import missing
from bench.report import Round, Section

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers import Endpoint

SMOKE_S = 0.3
"""Seconds of a measurement in a smoke run, of the clients that can be as short."""

OTHERS_SHARE_MAX = 0.03
"""Of both cores, in a round that counts as undisturbed."""

SHARE_MIN = 0.9
"""Of its core; a server that used less waited, for the client or for a neighbour."""

ATTEMPTS = 3
"""Rounds taken at most for each one that is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much to measure."""

    rounds: int
    seconds: int
    smoke: bool

    @property
    def client_seconds(self) -> float:
        """Seconds, for a client that knows fractions of them."""
        return SMOKE_S if self.smoke else self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Whom one question is put to; nginx in every variant, none where it is missing."""

    ours: Endpoint
    nginx: dict[str, Endpoint]
    others: list[Endpoint] = field(default_factory=list)
    nbytes: int
    cores: frozenset[int]


# ---- the questions


def measure_small(options: Options, contest: Contest, connections: int) -> Section:
    """Section A: requests a second of about 4 KB."""
    section = Section(
        title=f"A. HTTP/1.1, {contest.nbytes:,}-byte answers, {connections} connections",
        unit="requests",
        client=f"wrk, 1 thread, {connections} connections, keep-alive",
        skipped=missing("wrk"),
    )

    def measure(endpoint: Endpoint, seconds: float) -> Round:
        meter = Meter(endpoint.pid, contest.cores)
        done = run_wrk(endpoint, connections=connections, seconds=math.ceil(seconds))
        cpu_s, others_share = meter.read()
        return Round(
            units=done.requests,
            seconds=done.seconds,
            cpu_s=cpu_s,
            others_share=others_share,
            p50_us=done.p50_us,
            p99_us=done.p99_us,
        )

    ask(options, section, contest, measure)
    return section


def measure_large(options: Options, contest: Contest) -> Section:
    """Section B: GB a second to a client that drops them."""
    section = Section(
        title=f"B. HTTP/1.1, {contest.nbytes / 1e6:.0f} MB answers",
        unit="GB",
        client="one connection, keep-alive, bytes dropped by the kernel (recv with MSG_TRUNC)",
    )

    def measure(endpoint: Endpoint, seconds: float) -> Round:
        meter = Meter(endpoint.pid, contest.cores)
        done = run_discard(endpoint, seconds=seconds)
        cpu_s, others_share = meter.read()
        return Round(
            units=done.nbytes / 1e9, seconds=done.seconds, cpu_s=cpu_s, others_share=others_share
        )

    ask(options, section, contest, measure)
    return section


def measure_tls_small(
    options: Options, contest: Contest, connections: int, streams: int
) -> Section:
    """Section C: requests a second of about 4 KB over HTTP/2 and TLS."""
    section = Section(
        title=(
            f"C. HTTP/2 over TLS, {contest.nbytes:,}-byte answers, "
            f"{connections} connections of {streams} streams"
        ),
        unit="requests",
        client=f"h2load, 1 thread, {connections} connections, {streams} requests open on each",
    )

    def measure(endpoint: Endpoint, seconds: float) -> Round:
        meter = Meter(endpoint.pid, contest.cores)
        done = run_h2load(endpoint, connections=connections, streams=streams, seconds=seconds)
        cpu_s, others_share = meter.read()
        return Round(
            units=done.requests,
            seconds=done.seconds,
            cpu_s=cpu_s,
            others_share=others_share,
            p50_us=done.p50_us,
            p99_us=done.p99_us,
        )

    ask(options, section, contest, measure)
    return section


def measure_tls_large(options: Options, contest: Contest) -> Section:
    """Section D: GB a second over HTTP/2 and TLS."""
    section = Section(
        title=f"D. HTTP/2 over TLS, {contest.nbytes / 1e6:.0f} MB answers",
        unit="GB",
        client=(
            "h2load, one connection, one request at a time, windows of 16 MB; it decrypts every "
            "byte, so it may be what limits"
        ),
    )

    def measure(endpoint: Endpoint, seconds: float) -> Round:
        meter = Meter(endpoint.pid, contest.cores)
        done = run_h2load(endpoint, connections=1, streams=1, seconds=seconds)
        cpu_s, others_share = meter.read()
        return Round(
            units=done.nbytes / 1e9, seconds=done.seconds, cpu_s=cpu_s, others_share=others_share
        )

    ask(options, section, contest, measure)
    return section


# ---- asking


def ask(
    options: Options,
    section: Section,
    contest: Contest,
    measure: Callable[[Endpoint, float], Round],
) -> None:
    """Fill `section` with rounds of zerocopy, of nginx at its best, and of the others."""
    if section.skipped is not None:
        return
    best = choose(options, section, contest.nginx, measure)
    take_rounds(options, section, [contest.ours, *best, *contest.others], measure)
    waited = [name for name in section.rounds if section.share_of_core(name) < SHARE_MIN]
    if waited and not options.smoke:
        section.notes.append(
            f"{' and '.join(waited)} waited for the client or for a neighbour on the core: compare "
            "processor seconds there"
        )


def choose(
    options: Options,
    section: Section,
    variants: dict[str, Endpoint],
    measure: Callable[[Endpoint, float], Round],
) -> list[Endpoint]:
    """The variant of nginx that does most in a processor second, by two interleaved trials.

    Processor seconds, because a neighbour on the core would decide it by the clock. Nothing where
    nginx is missing, the first variant in a smoke run.
    """
    if not variants:
        section.notes.append(f"nginx skipped: {missing('nginx')}")
        return []
    costs_s = dict.fromkeys(variants, math.inf)  # the lower one: noise only ever adds
    for _ in range(0 if options.smoke else 2):
        for variant, endpoint in variants.items():
            progress(f"{section.title}: trying nginx with {variant}")
            costs_s[variant] = min(costs_s[variant], measure(endpoint, 1).cpu_s_per_unit)
    best = min(costs_s, key=costs_s.__getitem__)
    section.notes.append(f"nginx runs with {best}")
    if not options.smoke:
        costs = (f"{variant}: {section.cpu(cost_s)}" for variant, cost_s in costs_s.items())
        section.notes.append(f"nginx tried, {section.cpu_unit}: {'; '.join(costs)}")
    return [variants[best]]


def take_rounds(
    options: Options,
    section: Section,
    endpoints: list[Endpoint],
    measure: Callable[[Endpoint, float], Round],
) -> None:
    """Every server in turn, again and again: drift of the machine meets all of them alike.

    Until there are enough rounds that nobody disturbed, or `ATTEMPTS` times as many were taken;
    then the least disturbed ones count, in the order of time.
    """
    taken: list[tuple[float, list[Round]]] = []
    attempts_max = options.rounds * (1 if options.smoke else ATTEMPTS)
    while len(taken) < attempts_max and quiet(taken) < options.rounds:
        turn = []
        for endpoint in endpoints:
            progress(f"{section.title}: round {len(taken) + 1}, {endpoint.name}")
            turn.append(measure(endpoint, options.client_seconds))
        taken.append((max(round_.others_share for round_ in turn), turn))
    most = sorted(others_share for others_share, _ in taken)[options.rounds - 1]
    kept = [turn for others_share, turn in taken if others_share <= most][: options.rounds]
    for position, endpoint in enumerate(endpoints):
        section.rounds[endpoint.name] = [turn[position] for turn in kept]
    if most > OTHERS_SHARE_MAX and not options.smoke:
        section.notes.append(
            "a busy machine: trust the ratio by processor seconds, not the one by the clock"
        )
    if len(taken) > len(kept):
        section.notes.append(
            f"{len(taken)} rounds taken, the {len(kept)} counted that other processes disturbed "
            "least"
        )


def quiet(taken: list[tuple[float, list[Round]]]) -> int:
    """How many rounds nobody disturbed."""
    return sum(others_share <= OTHERS_SHARE_MAX for others_share, _ in taken)


def progress(message: str) -> None:
    """Tell whoever waits; standard output is the report's."""
    print(f"bench: {message}", file=sys.stderr, flush=True)
