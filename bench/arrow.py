"""A day of 48 MB to a client that builds a table: Arrow, `columns`, and Arrow Flight.

Owns the clients: plain HTTP/1.1 into one buffer, over which pyarrow or numpy lays its columns, and
pyarrow's client of Flight. All end with an Arrow table; all tables are equal.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.meter import cpu_seconds_fine
from bench.peers import Endpoint, PythonPeer, missing, pinned
from bench.rounds import progress
from bench.section import Table, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.rounds import Options
    from bench.servers import Servers

TIMES = 8
"""Answers a round of each way; the least counts, for the machine is never quiet for long."""

COLUMNS, ARROW, FLIGHT = "zerocopy, columns", "zerocopy, arrow", "Arrow Flight"


class FlightPeer(PythonPeer):
    """pyarrow's server."""

    name = FLIGHT
    module = "bench.flight_server"
    has_http2 = True


class _Found(NamedTuple):
    """Bytes of the table; milliseconds an answer of each way, round by round."""

    nbytes: int
    took_ms: dict[str, list[float]]
    server_ms: dict[str, list[float]]
    client_ms: dict[str, list[float]]


def measure_arrow(options: Options, servers: Servers) -> Iterator[Table]:
    """One table: a row for each way to a table."""
    table = Table(
        title="A table of one day: Arrow, columns and Arrow Flight",
        client=(
            "one connection; HTTP/1.1 is read into one buffer, over which pyarrow or numpy lays "
            "its columns; Flight by pyarrow, its server has the mapped files as one table"
        ),
        head=("way", "ms (range)", "GB/s", "processor ms of the server", "of the client"),
    )
    reason = missing("pyarrow")
    if reason is not None:
        table.skipped = reason
        yield table
        return
    with ExitStack() as stack:
        ours = servers.contest("plain", "48m").ours
        with pinned(servers.server_core):
            peer = FlightPeer(f"{servers.directory}/flight", servers.workload.root, is_tls=False)
            flight = stack.enter_context(peer).endpoint("")
        connection = http.client.HTTPConnection("127.0.0.1", ours.port)
        stack.callback(connection.close)
        ways: dict[str, tuple[Endpoint, Callable[[], Any]]] = {
            COLUMNS: (ours, lambda: table_of_columns(fetch(connection, ours.target))),
            ARROW: (ours, lambda: table_of_arrow(fetch(connection, f"{ours.target}&format=arrow"))),
            FLIGHT: (flight, flight_client(stack, flight.port)),
        }
        found = _measure(options, ways)
    table.rows = [
        (
            name,
            spread(found.took_ms[name], 1),
            f"{found.nbytes / median(found.took_ms[name]) / 1e6:.2f}",
            f"{median(found.server_ms[name]):.1f}",
            f"{median(found.client_ms[name]):.1f}",
        )
        for name in ways
    ]
    for peer_name in (COLUMNS, FLIGHT):
        theirs, ours_ms = found.took_ms[peer_name], found.took_ms[ARROW]
        by_round = [a / b for a, b in zip(theirs, ours_ms, strict=True)]
        by_cpu = median(found.server_ms[peer_name]) / median(found.server_ms[ARROW])
        table.verdicts.append(
            f"{ARROW} / {peer_name}: **{median(theirs) / median(ours_ms):.2f}** times as fast "
            f"({min(by_round):.2f} to {max(by_round):.2f} by round), {by_cpu:.2f} by processor "
            "time of the server"
        )
    table.notes.append("All gave equal tables.")
    yield table


def _measure(options: Options, ways: dict[str, tuple[Endpoint, Callable[[], Any]]]) -> _Found:
    """What each way takes, once it is proved that all give the same."""
    tables = [ask() for _, ask in ways.values()]
    if any(not table.equals(tables[0]) for table in tables):
        raise RuntimeError("arrow: not all give the same table")
    nbytes: int = tables[0].nbytes
    del tables
    took_ms: dict[str, list[float]] = {name: [] for name in ways}
    server_ms: dict[str, list[float]] = {name: [] for name in ways}
    client_ms: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        # The order turns round by round: what one way leaves behind meets all the others.
        order = [*ways.items()][:: 1 - number % 2 * 2]
        for name, (endpoint, ask) in order:
            progress(f"arrow: round {number + 1}, {name}")
            each = []
            client_before_s = time.process_time()
            cpu_before_s = sum(map(cpu_seconds_fine, endpoint.pids))
            for _ in range(TIMES):
                begun = time.perf_counter()
                ask()
                each.append((time.perf_counter() - begun) * 1e3)
            took_ms[name].append(min(each))
            cpu_s = sum(map(cpu_seconds_fine, endpoint.pids)) - cpu_before_s
            server_ms[name].append(cpu_s * 1e3 / TIMES)
            client_ms[name].append((time.process_time() - client_before_s) * 1e3 / TIMES)
    return _Found(nbytes, took_ms, server_ms, client_ms)


def fetch(connection: http.client.HTTPConnection, target: str) -> Any:
    """The body in one buffer of Arrow's memory, which is used again as Flight uses it again."""
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - may be missing

    connection.request("GET", target)
    response = connection.getresponse()
    body = pa.allocate_buffer(int(response.headers["Content-Length"]))
    left = memoryview(body)
    while left:
        count = response.readinto(left)
        if not count or response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"arrow: {target} was answered {response.status}, or cut off")
        left = left[count:]
    response.read()
    return body


def table_of_columns(body: Any) -> Any:
    """An Arrow table over the records of the format `columns`, of which nothing is copied."""
    import pyarrow as pa  # noqa: PLC0415 - may be missing

    end = body[:4_096].to_pybytes().index(b"\n") + 1
    columns = {}
    for told in json.loads(body[:end].to_pybytes())["columns"]:
        values = np.frombuffer(body, told["dtype"], told["num_records"], end)
        columns[told["name"]] = pa.array(values)
        end += told["data_length"]
    return pa.table(columns)


def table_of_arrow(body: Any) -> Any:
    """The table of an Arrow stream, over its bytes."""
    import pyarrow as pa  # noqa: PLC0415 - may be missing

    return pa.ipc.open_stream(body).read_all()


def flight_client(stack: ExitStack, port: int) -> Callable[[], Any]:
    """What gets the table by Flight, over one connection."""
    from pyarrow import flight  # noqa: PLC0415 - may be missing

    client = stack.enter_context(flight.connect(f"grpc://127.0.0.1:{port}"))
    return lambda: client.do_get(flight.Ticket(b"")).read_all()
