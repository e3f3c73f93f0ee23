"""What large streams do to a small answer on one worker.

Owns one question. The small answers are asked for by one connection, the next as soon as the last
is there (a closed loop), while another process, which steps back by nice(1), takes the streams and
drops them.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.clients import TooShortError, run_h2load, streaming_h2load
from bench.discard import run_discard, streaming
from bench.meter import Meter
from bench.peers import missing
from bench.percentiles import percentiles, quantile
from bench.rates import SECONDS_MAX
from bench.rounds import progress, take_rounds
from bench.section import OURS, Table, spread, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.clients import LoadRun
    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Servers

STREAMS = (0, 4, 40)
STREAMS_TRIED = 40
"""Beside which nginx's variant is chosen."""

STREAMS_NICE = 10
"""So that the client whose time is taken gets the core that both share when it wakes."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A small and a large answer of the same server."""

    small: Endpoint
    large: Endpoint


@dataclass(frozen=True, slots=True)
class Beside:
    """Small answers beside streams: what each took, and what the streams were sent."""

    took_us: tuple[float, ...]
    rate: float
    stream_gb_s: float
    others_share: float

    @property
    def p99_us(self) -> float:
        """Of however many answers there were."""
        return quantile(self.took_us, 990)


def measure_fairness(options: Options, servers: Servers, path: str = "plain") -> Iterator[Table]:
    """Latencies of small answers alone, beside four, and beside forty streams."""
    small, large = (servers.contest(path, size) for size in ("4k", "48m"))
    is_tls = path == "tls"
    table = Table(
        title=(
            f"{'HTTP/2 over TLS' if is_tls else 'HTTP/1.1'}, 4 KB answers beside large streams on "
            "one worker"
        ),
        client=(
            f"one connection{' of h2load' if is_tls else ''} asks for the small answer in a closed "
            f"loop; a process of its own{' (h2load)' if is_tls else ''}, nice {STREAMS_NICE}, "
            f"takes endless {large.nbytes / 1e6:.0f} MB answers and drops them; both share the "
            "client's core"
        ),
        head=(
            *("streams", "server", "p50 µs", "p99 µs (range over rounds)", "p99.9 µs"),
            *("small answers a second", "streams, GB a second"),
        ),
        notes=list(small.notes),
        skipped=missing("h2load") if is_tls else None,
    )
    if table.skipped is not None:
        yield table
        return
    pairs = {OURS: Pair(small.ours, large.ours)}
    variants = {
        variant: Pair(next(iter(small.nginx.values())), endpoint)
        for variant, endpoint in large.nginx.items()
    }
    if variants:
        best = _choose(options, servers, table, variants)
        table.notes.append(f"nginx runs with {best}")
        pairs["nginx"] = variants[best]
    for streams in STREAMS:
        rounds = take_rounds(
            options,
            f"{table.title}: {streams} streams",
            {
                name: partial(beside, servers, pair, streams, options.seconds)
                for name, pair in pairs.items()
            },
            table.notes,
        )
        _tell_fairness(table, streams, rounds)
    yield table


def _choose(options: Options, servers: Servers, table: Table, variants: dict[str, Pair]) -> str:
    """The variant of nginx whose 99th percentile is lowest; the first in a smoke run.

    One that answers nothing for seconds, however long it is asked, is not it.
    """
    p99_us = dict.fromkeys(variants, math.inf)
    for _ in range(0 if options.smoke else 2):
        for variant, pair in variants.items():
            progress(f"{table.title}: trying nginx with {variant}")
            with suppress(TooShortError):
                found = beside(servers, pair, STREAMS_TRIED, options.seconds).p99_us
                p99_us[variant] = min(p99_us[variant], found)
    if not options.smoke:
        tried = (
            f"{variant}: {'stalled' if math.isinf(value) else f'{value:,.0f}'}"
            for variant, value in p99_us.items()
        )
        table.notes.append(
            f"nginx tried, p99 µs beside {STREAMS_TRIED} streams: {'; '.join(tried)}"
        )
    return min(p99_us, key=p99_us.__getitem__)


def beside(servers: Servers, pair: Pair, streams: int, seconds: float) -> Beside:
    """One measurement: small answers of a server that sends `streams` large ones meanwhile."""
    while True:
        try:
            return _beside(servers, pair, streams, seconds)
        except TooShortError:
            if seconds >= SECONDS_MAX:
                raise
            seconds *= 4


def _beside(servers: Servers, pair: Pair, streams: int, seconds: float) -> Beside:
    meter = Meter(pair.small.pids, servers.cores)
    rate = 0.0
    if not streams:
        small = _ask(pair.small, seconds)
    elif pair.large.is_tls:
        with streaming_h2load(pair.large, streams, seconds, nice=STREAMS_NICE) as streamed:
            small = _ask(pair.small, seconds)
        rate = streamed.bytes_per_s
    else:
        with streaming(pair.large, streams, nice=STREAMS_NICE) as streamed:
            small = _ask(pair.small, seconds)
        rate = streamed.bytes_per_s
    others_share = meter.read().others_share
    return Beside(small.took_us, small.answers / small.seconds, rate / 1e9, others_share)


def _ask(endpoint: Endpoint, seconds: float) -> LoadRun:
    if endpoint.is_tls:
        return run_h2load(endpoint, connections=1, streams=1, seconds=seconds)
    return run_discard(endpoint.port, endpoint.target, connections=1, seconds=seconds)


def _tell_fairness(table: Table, streams: int, rounds: dict[str, list[Beside]]) -> None:
    """Percentiles of the answers of all rounds together; beside many streams there are few."""
    p99_us = {}
    for name, taken in rounds.items():
        found = percentiles([took for one in taken for took in one.took_us])
        p99_us[name] = found.p99_us
        by_round = [one.p99_us for one in taken]
        table.rows.append(
            (
                *(str(streams), name),
                told(found.p50_us),
                f"{told(found.p99_us)} ({min(by_round):,.0f} to {max(by_round):,.0f})",
                told(found.p999_us),
                spread([one.rate for one in taken]),
                spread([one.stream_gb_s for one in taken], 2) if streams else "-",
            )
        )
    ours, theirs = p99_us.get(OURS), p99_us.get("nginx")
    if ours and theirs:
        table.verdicts.append(
            f"p99 beside {streams} streams, {OURS} / nginx: **{ours / theirs:.2f}** (below 1 is "
            "better)."
        )
