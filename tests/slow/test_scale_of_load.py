"""Ten thousand idle connections, accept storms, and answers that are read slowly or not at all.

What is printed depends on the machine; what is asserted does not: memory for each connection, who
was served, that every byte was right, and that descriptors end where they began. The clients are a
process of their own (`tests.slow.multitude`).
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    SMALL,
    body_of,
    cpu_s,
    is_still,
    poll,
    request_of,
    seal,
    target_of,
    write_series,
)
from tests.faults.tls_client import TlsClient, reset
from tests.server import RunningServer
from tests.slow.footprint import descriptors_of
from tests.slow.honest import Honest
from tests.slow.multitude import Multitude

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WIDE, WHOLE = target_of("WIDE", "price"), target_of("WIDE")
IDLE = 10_000
IDLE_BYTES_MAX = 5_000
IDLE_TLS_BYTES_MAX = {"http/1.1": 20_000, "h2": 40_000}
STORM = 10_000
STREAMING = 1_000
STREAMED_S = 20.0
STREAMING_BYTES_MAX = 16_000
"""Of anonymous memory for a connection whose answer is being sent; the answer has one segment."""

STALLED = 300
STALLED_BYTES_MAX = 300_000
"""Of anonymous memory for a TLS connection whose client has stopped reading: 262,144 of the piece
that OpenSSL wants again, 16,709 of the record it has begun, and what an idle one takes."""

PIECE_BYTES_MIN = 131_072
"""What leaves at least when something leaves to one of them."""

LEFT_BYTES_MAX = 5_000_000
"""Of some 90 MB, once a crowd of them has gone."""

ONE_WORKER = {
    "ZEROCOPY_SERVER_WORKERS": "1",
    "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "2",
    "ZEROCOPY_LIMITS_CONNECTIONS_MAX": "12000",
}


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Write lines where people see them, whatever is captured."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")
            sys.stdout.flush()

    return write


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Closed days of 4 KB and 8 MB an answer."""
    path = tmp_path_factory.mktemp("scale")
    for series, records in (("SMALL", 500), ("WIDE", 2_000_000)):
        write_series(path, series, records)
        seal(path, series)
    return path


@pytest.fixture
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with a plain and a TLS listener, each of which was used once."""
    with RunningServer(root, ZEROCOPY_TLS_PORT="0", **ONE_WORKER) as running:
        assert running.get(SMALL).status == 200
        yield running


def anonymous_bytes(pid: int) -> int:
    """Pss_Anon: the process's share of memory that is not a file's."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss_Anon:"))


def held_descriptors(pid: int, root: Path) -> int:
    """Descriptors of a worker but for those of day files, of which a cache keeps some open."""
    return sum(not name.startswith(f"{root}/") for name in descriptors_of(pid))


def kernel_bytes() -> tuple[int, int]:
    """Buffers of all TCP sockets of this network namespace, and the kernel's objects (Slab)."""
    with open("/proc/net/sockstat", encoding="ascii") as file:
        line = next(line.split() for line in file if line.startswith("TCP:"))
    buffers = int(line[line.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/meminfo", encoding="ascii") as file:
        slab = next(int(line.split()[1]) * 1024 for line in file if line.startswith("Slab:"))
    return buffers, slab


def overflows() -> int:
    """Connections that the kernel dropped because an accept queue was full."""
    with open("/proc/net/netstat", encoding="ascii") as file:
        names, numbers = (line.split() for line in file if line.startswith("TcpExt:"))
    return int(numbers[names.index("ListenOverflows")])


def hold(server: RunningServer, port: int, count: int, kind: str, root: Path) -> tuple[float, str]:
    """Bytes of anonymous memory that each of `count` idle connections takes, and a line on it."""
    [pid] = server.worker_pids()
    # What the first connections leave behind (free lists, caches) is no connection's.
    with Multitude("hold", port, 200, SMALL, kind) as first:
        first.wait()
    poll(lambda: server.metric("zerocopy_connections") == 0, "nobody to be connected", 30)
    before, descriptors, kernel = anonymous_bytes(pid), held_descriptors(pid, root), kernel_bytes()
    with Multitude("hold", port, count, SMALL, kind) as crowd:
        assert crowd.wait()["held"] == count
        assert server.metric("zerocopy_connections") == count
        each = (anonymous_bytes(pid) - before) / count
        buffers, objects = (n - b for n, b in zip(kernel_bytes(), kernel, strict=True))
        line = (
            f"{count} idle connections, {kind}: {each:,.0f} bytes each of the worker, "
            f"{buffers / count:,.0f} bytes each in socket buffers, "
            f"{objects / count:,.0f} in objects of the kernel for both ends"
        )
    poll(lambda: held_descriptors(pid, root) <= descriptors, "descriptors as before", 30)
    poll(lambda: server.metric("zerocopy_connections") == 0, "nobody to be connected", 30)
    return each, line


@pytest.mark.parametrize("kind", ["alike", "different"])
def test_an_idle_connection_costs_at_most_5_kb(
    server: RunningServer, root: Path, kind: str, show: Callable[[str], None]
) -> None:
    """10,000 connections that asked once and stay, with one request head and with one each."""
    each, line = hold(server, server.plain_port, IDLE, kind, root)
    show(line)
    assert each <= IDLE_BYTES_MAX


@pytest.mark.parametrize("protocol", IDLE_TLS_BYTES_MAX)
def test_an_idle_tls_connection_costs_at_most_20_kb_and_40_over_http2(
    server: RunningServer, root: Path, protocol: str, show: Callable[[str], None]
) -> None:
    """10,000 connections that asked once over TLS and stay."""
    each, line = hold(server, server.tls_port, IDLE, protocol, root)
    show(line)
    assert each <= IDLE_TLS_BYTES_MAX[protocol]


@pytest.mark.parametrize("manner", ["leave", "stay"])
def test_accept_storm_refuses_nobody_below_the_bound(
    server: RunningServer, root: Path, manner: str, show: Callable[[str], None]
) -> None:
    """10,000 connections as fast as they can be made, beside an honest client.

    All are accepted, none is told 503, and the honest client's answers are right all the while.
    """
    [pid] = server.worker_pids()
    body = body_of(root, "SMALL")
    descriptors = held_descriptors(pid, root)
    with Honest(server.plain_port, SMALL, body) as honest:
        alone, dropped = honest.measure(2.0), overflows()
        with Multitude("storm", server.plain_port, STORM, manner, SMALL) as crowd:
            beside = honest.measure(2.0)
            report = crowd.wait()
    poll(lambda: held_descriptors(pid, root) <= descriptors, "descriptors as before", 30)
    show(f"storm of {STORM} that {manner}: {report}")
    show(f"  accept queue overflows {overflows() - dropped}")
    show(f"  honest client alone {alone}\n  and beside {beside}")
    assert report["ends"] == {"connected": STORM}
    assert report.get("statuses", {"HTTP/1.1 200": STORM}) == {"HTTP/1.1 200": STORM}
    assert server.metric("zerocopy_connections_refused_total") == 0


def test_a_full_backlog_makes_clients_wait_and_loses_none(
    root: Path, show: Callable[[str], None]
) -> None:
    """With a backlog of 16 the kernel drops most of a storm; all come in when they try again."""
    with RunningServer(root, ZEROCOPY_SERVER_BACKLOG="16", **ONE_WORKER) as server:
        dropped = overflows()
        with Multitude("storm", server.plain_port, STORM // 5, "stay", SMALL) as crowd:
            report = crowd.wait()
        show(f"storm with a backlog of 16: {report}, overflows {overflows() - dropped}")
        assert report["ends"] == {"connected": STORM // 5}
        assert report["statuses"] == {"HTTP/1.1 200": STORM // 5}
        assert server.metric("zerocopy_connections_refused_total") == 0


def test_a_thousand_answers_that_are_read_slowly(
    server: RunningServer, root: Path, tmp_path: Path, show: Callable[[str], None]
) -> None:
    """Each is read evenly over 20 s; every byte is right, and a connection costs little memory."""
    [pid] = server.worker_pids()
    path = tmp_path / "body"
    path.write_bytes(body_of(root, "WIDE", ["price"]))
    before, descriptors, kernel = anonymous_bytes(pid), held_descriptors(pid, root), kernel_bytes()
    with Multitude("stream", server.plain_port, STREAMING, WIDE, path, STREAMED_S) as crowd:
        assert crowd.wait()["streaming"] == STREAMING
        used_s, each = cpu_s(pid), (anonymous_bytes(pid) - before) / STREAMING
        in_kernel = (kernel_bytes()[0] - kernel[0]) / STREAMING
        report = crowd.wait()
        share = (cpu_s(pid) - used_s) / report["seconds"]
    show(
        f"{STREAMING} slow answers of {report['bytes']:,} bytes: {report}, processor {share:.1%}, "
        f"{each:,.0f} bytes each of the worker, {in_kernel:,.0f} in socket buffers"
    )
    assert report["ends"] == {"right": STREAMING}
    assert each <= STREAMING_BYTES_MAX
    poll(lambda: held_descriptors(pid, root) <= descriptors, "descriptors as before", 30)


@pytest.mark.parametrize("read_bytes", [0, 2_000_000], ids=["at once", "after 2 MB"])
def test_a_tls_reader_that_stalls_costs_at_most_300_kb(
    server: RunningServer, root: Path, read_bytes: int, show: Callable[[str], None]
) -> None:
    """300 ask for 16 MB over HTTP/1.1 and stop reading, three times; their memory comes back."""
    [pid] = server.worker_pids()
    with TlsClient(server) as first:
        first.send(request_of(WHOLE))
        assert first.answer().content == body_of(root, "WIDE")
    before = anonymous_bytes(pid)
    for _ in range(3):
        found, kernel = anonymous_bytes(pid), kernel_bytes()[0]
        with ExitStack() as leaving:
            for _ in range(STALLED):
                client = TlsClient(server)
                leaving.callback(reset, client.sock)
                client.send(request_of(WHOLE))
                assert len(client.read(read_bytes)) == read_bytes
            poll(lambda: is_still(server, PIECE_BYTES_MIN), "all to stall", 60)
            assert server.metric('zerocopy_connections{transport="tls"}') == STALLED
            each = (anonymous_bytes(pid) - found) / STALLED
            in_kernel = (kernel_bytes()[0] - kernel) / STALLED
        poll(lambda: server.metric("zerocopy_connections") == 0, "nobody to be connected", 30)
        poll(lambda: anonymous_bytes(pid) <= before + LEFT_BYTES_MAX, "nearly all of it back", 30)
        show(
            f"{STALLED} stalled TLS clients: {each:,.0f} bytes each of the worker, "
            f"{in_kernel:,.0f} in socket buffers, {anonymous_bytes(pid) - before:,} left of all"
        )
        assert each < STALLED_BYTES_MAX
