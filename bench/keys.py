"""What a key in the head of each request costs: one server with keys, one without.

Owns one question. Both are zerocopy over the same data, asked in turn for the same small answer.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from bench.peers import missing, pinned, zerocopy
from bench.rates import Load, measure_round
from bench.rounds import take_rounds
from bench.section import Table, spread
from bench.servers import warm_endpoints
from zerocopy.access.keys import add_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Servers

LOADS = {
    "plain": Load("wrk", "4k", "requests", 16),
    "tls": Load("h2load", "4k", "requests", 8, 10),
}
"""By listener: HTTP/1.1 whose requests are answered in batches, HTTP/2 by its lane."""

WITH_KEY, WITHOUT = "zerocopy, a key in each head", "zerocopy without keys"


def measure_keys(options: Options, servers: Servers) -> Iterator[Table]:
    """Processor time of a request with a key, against one without."""
    for path, load in LOADS.items():
        table = Table(
            title=f"{'HTTP/2' if path == 'tls' else 'HTTP/1.1'}, 4 KB answers, with a key",
            client=f"{load.client}, {load.connections} connections of {load.streams} streams",
            head=("server", "processor µs a request", "requests a second"),
            skipped=missing(load.client),
        )
        if table.skipped is None:
            with ExitStack() as stack:
                _measure(options, servers, stack, table, path=path, load=load)
        yield table


def _measure(
    options: Options, servers: Servers, stack: ExitStack, table: Table, *, path: str, load: Load
) -> None:
    keys_path = os.path.join(servers.directory, f"keys-{path}.json")
    key = add_key(keys_path, "bench")
    endpoints = {
        WITHOUT: _start(servers, stack, path),
        WITH_KEY: _start(servers, stack, path, keys_path, f"Authorization: Bearer {key}"),
    }
    rounds = take_rounds(
        options,
        table.title,
        {
            name: partial(measure_round, servers.cores, load, endpoint, options.seconds)
            for name, endpoint in endpoints.items()
        },
        table.notes,
    )
    costs = {name: [one.cpu_s_per_unit * 1e6 for one in taken] for name, taken in rounds.items()}
    for name, taken in rounds.items():
        table.rows.append((name, spread(costs[name], 2), spread([one.rate for one in taken])))
    pairs = zip(costs[WITH_KEY], costs[WITHOUT], strict=True)
    ratios = [with_key / without for with_key, without in pairs if without]
    if ratios and not options.smoke:
        table.verdicts.append(
            f"a key costs {median(ratios):.3f} times the processor time of none "
            f"({min(ratios):.3f} to {max(ratios):.3f}, round by round)"
        )


def _start(
    servers: Servers, stack: ExitStack, path: str, keys_path: str = "", field: str = ""
) -> Endpoint:
    """A server on the first core, and where it has the small answer."""
    environ = {"ZEROCOPY_AUTH_KEYS_PATH": keys_path} if keys_path else {}
    with pinned(servers.server_core):
        server = stack.enter_context(
            zerocopy(servers.workload.root, is_tls=path == "tls", environ=environ)
        )
    small = replace(servers.workload, targets={"4k": servers.workload.targets["4k"]})
    fields = (field,) if field else ()
    return warm_endpoints(server, small, is_tls=path == "tls", fields=fields)["4k"]
