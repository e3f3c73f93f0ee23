"""What many slow readers cost one worker.

Owns one question. The slow readers are this process: it takes a little from each connection in
turn, and each turn lasts a second.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.clients import ClientError
from bench.discard import Download
from bench.meter import Meter, cpu_seconds_fine
from bench.rounds import take_rounds
from bench.section import Table, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Servers

SLOW_READERS = 300
SLOW_BYTES = 16_384
"""Bytes that a slow reader takes at once, once a second."""

SETTLE_S = 2.0
"""Until the kernel's buffers of all slow readers are full."""

WATCH_S = 4.0
"""Of each measurement: what is looked for is little."""


@dataclass(frozen=True, slots=True)
class Still:
    """A server with slow readers: processor seconds a second, and what they were given."""

    cpu_s_per_s: float
    reader_bytes: int
    own_bytes: int | None
    others_share: float


def measure_slow_readers(options: Options, servers: Servers) -> Iterator[Table]:
    """Processor time of a server from which many read slowly and nobody else asks."""
    large = servers.contest("plain", "48m")
    table = Table(
        title=f"HTTP/1.1, {SLOW_READERS} slow readers on one worker",
        client=(
            f"{SLOW_READERS} connections, each with a {large.nbytes / 1e6:.0f} MB answer of which "
            f"it reads {SLOW_BYTES >> 10} KiB a second; nothing else is asked"
        ),
        head=(
            *("server", "processor ms a second, nobody connected", "with the slow readers"),
            *("KB a second they took", "own memory, MB"),
        ),
        notes=list(large.notes),
    )
    endpoints = [large.ours, *list(large.nginx.values())[:1]]
    idle = {endpoint.name: _idle_ms(endpoint, options) for endpoint in endpoints}
    rounds = take_rounds(
        options,
        table.title,
        {endpoint.name: partial(stand_still, servers, endpoint, options) for endpoint in endpoints},
        table.notes,
    )
    for name, taken in rounds.items():
        own = [one.own_bytes / 1e6 for one in taken if one.own_bytes is not None]
        table.rows.append(
            (
                *(name, f"{idle[name]:.2f}"),
                spread([one.cpu_s_per_s * 1e3 for one in taken], 2),
                spread([one.reader_bytes / 1e3 for one in taken]),
                spread(own, 1) if own else "-",
            )
        )
    yield table


def _idle_ms(endpoint: Endpoint, options: Options) -> float:
    """Processor milliseconds a second of a server that nobody is connected to."""
    before = sum(map(cpu_seconds_fine, endpoint.pids))
    time.sleep(options.seconds)
    return (sum(map(cpu_seconds_fine, endpoint.pids)) - before) / options.seconds * 1e3


def stand_still(servers: Servers, endpoint: Endpoint, options: Options) -> Still:
    """One measurement, begun when the kernel's buffers are full."""
    buffer = memoryview(bytearray(SLOW_BYTES))
    with ExitStack() as stack:
        readers = []
        for _ in range(SLOW_READERS):
            reader = Download(endpoint.port, endpoint.target, buffer, blocking=False)
            stack.enter_context(reader.sock)
            reader.ask()
            readers.append(reader)
        _read_slowly(readers, buffer, options.seconds if options.smoke else SETTLE_S, settling=True)
        meter = Meter(endpoint.pids, servers.cores)
        before_s = sum(map(cpu_seconds_fine, endpoint.pids))
        begun_s = time.perf_counter()
        nbytes = _read_slowly(readers, buffer, options.seconds if options.smoke else WATCH_S)
        seconds = time.perf_counter() - begun_s
        cpu_s = sum(map(cpu_seconds_fine, endpoint.pids)) - before_s
        read = meter.read()
    return Still(cpu_s / seconds, round(nbytes / seconds), read.memory.own, read.others_share)


def _read_slowly(
    readers: list[Download], buffer: memoryview, seconds: float, *, settling: bool = False
) -> int:
    """Take `SLOW_BYTES` from each reader once a second, evenly spread; the bytes of all.

    While they are `settling` some may still wait for their first byte: 300 ask at once.
    """
    begun_s = time.perf_counter()
    nbytes = taken = 0
    while (elapsed_s := time.perf_counter() - begun_s) < seconds:
        while taken < elapsed_s * len(readers):
            try:
                nbytes += readers[taken % len(readers)].sock.recv_into(buffer)
            except BlockingIOError as error:
                if settling:
                    taken += 1
                    continue
                raise ClientError("a slow reader found nothing to read") from error
            taken += 1
        time.sleep(1 / len(readers))
    return nbytes
