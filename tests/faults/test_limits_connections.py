"""Bounds on connections in the running server: by number, by address, by descriptors; all paths."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from contextlib import ExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.certificate import client_context
from tests.contract.site import Site, data_target, serve
from tests.contract.transports import TRANSPORTS
from tests.faults.client import RESET, cpu_s, poll, request_of
from tests.server import ForkedServer, RunningServer, open_descriptors
from tests.storage.trees import DAY, SERIES, marks, put, start_of, u32
from zerocopy.config.descriptors import (
    DIRECTORY_DESCRIPTORS,
    GATHERING_DESCRIPTORS,
    OWN_DESCRIPTORS,
    READING_DESCRIPTORS,
    plan_descriptors,
)
from zerocopy.core.bars import COMPUTING_THREADS
from zerocopy.core.plan import (
    BODIES_MAX,
    ENCODING_THREADS,
    LIVE_FILES,
    LIVE_LOOKS_KEPT,
    LIVE_THREADS,
)
from zerocopy.core.window import GATHERERS_MAX
from zerocopy.transport.admission import REFUSALS_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from tests.server import Answer

ALIVE = "/healthz"
PER_ADDRESS = "ZEROCOPY_LIMITS_CONNECTIONS_PER_ADDRESS_MAX"
ELSEWHERE = "127.0.0.2"
"""An address of this machine that is not the one clients have unless told otherwise."""

each_transport = pytest.mark.parametrize("name", TRANSPORTS)
each_listener = pytest.mark.parametrize(
    "name", ["http1", pytest.param("http2", marks=pytest.mark.slow)]
)
"""The bound is one of the process; `make slow` meets it on the other listener too."""


def assert_refused(answer: Answer) -> None:
    """A 503 that says when to come again."""
    assert answer.status == 503
    assert int(answer.fields["retry-after"]) > 0
    assert answer.fields["content-type"] == "application/problem+json"


def tcp_from(server: RunningServer, host: str = ELSEWHERE) -> socket.socket:
    """A TCP connection to the main listener from another address of this machine."""
    return socket.create_connection(("127.0.0.1", server.port), 20, source_address=(host, 0))


def ask_from(server: RunningServer, host: str) -> bytes:
    """The first bytes of an answer to a request from another address, by HTTP/1.1."""
    with tcp_from(server, host) as bare:
        if not server.is_tls:
            bare.sendall(request_of(ALIVE))
            return bare.recv(15)
        context = client_context(["http/1.1"])
        with context.wrap_socket(bare, server_hostname="127.0.0.1") as sock:
            sock.sendall(request_of(ALIVE))
            return sock.recv(15)


def ask_until_served(site: Site, within_s: float) -> float:
    """Ask on new connections until one is served; how many seconds it took."""
    begun = time.monotonic()
    while (waited_s := time.monotonic() - begun) < within_s:
        with suppress(OSError, AssertionError):
            if site.ask(ALIVE).status == 200:
                return waited_s
    pytest.fail(f"nobody was served for {within_s} s")


def gauge(server: RunningServer) -> float:
    """Connections open now, as the metrics tell."""
    return server.metric("zerocopy_connections")


def accepted(server: RunningServer) -> float:
    """Connections accepted so far, as the metrics tell."""
    return server.metric("zerocopy_connections_accepted_total")


# ---- by address


@each_transport
def test_one_more_connection_of_an_address_gets_503(tmp_path: Path, name: str) -> None:
    """The two inside and those from elsewhere are served; when one leaves, so is the next."""
    with serve(TRANSPORTS[name], str(tmp_path), **{PER_ADDRESS: "2"}) as site:
        with site.session() as first:
            with site.session() as second:
                for session in (first, second):
                    assert session.request(ALIVE).status == 200
                assert_refused(site.ask(ALIVE))
                assert ask_from(site.server, ELSEWHERE).startswith(b"HTTP/1.1 200")
                assert first.request(ALIVE).status == 200
            poll(lambda: gauge(site.server) == 1, "the others to be gone")
            assert site.ask(ALIVE).status == 200
        assert site.server.metric("zerocopy_connections_refused_total") == 1


def test_bound_of_an_address_spans_both_listeners(tmp_path: Path) -> None:
    """One connection on TLS, which has said nothing yet, and one plain are two."""
    environ = {"USE_TLS": "false", "ZEROCOPY_TLS_PORT": "0", PER_ADDRESS: "2"}
    with ForkedServer(tmp_path, **environ) as server:
        with (
            socket.create_connection(("127.0.0.1", server.tls_port), 20),
            server.connect() as plain,
        ):
            plain.sendall(request_of(ALIVE))
            assert plain.recv(12) == b"HTTP/1.1 200"
            poll(lambda: gauge(server) == 2, "both to be counted")
            assert server.get(ALIVE).status == 503
        poll(lambda: gauge(server) == 0, "both to be gone")
        assert server.get(ALIVE).status == 200


def test_addresses_of_ipv4_that_come_over_ipv6_are_told_apart(tmp_path: Path) -> None:
    """A listener on every address sees ::ffff:127.0.0.1, which is not the /64 of all of them."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with (
        ForkedServer(tmp_path, HOST="::", **{PER_ADDRESS: "1"}) as server,
        server.connect() as inside,
    ):
        inside.sendall(request_of(ALIVE))
        assert inside.recv(12) == b"HTTP/1.1 200"
        assert server.get(ALIVE).status == 503
        assert ask_from(server, ELSEWHERE).startswith(b"HTTP/1.1 200")


# ---- connections that never begin their handshake


def test_silent_connections_are_counted_bounded_and_ended(tmp_path: Path) -> None:
    """400 of them take the places there are and no descriptor more, and lose them by the deadline.

    The plain listener shares the bound. Who comes once they are gone is served.
    """
    environ = {
        "USE_TLS": "true",
        "ZEROCOPY_PLAIN_PORT": "0",
        "ZEROCOPY_LIMITS_CONNECTIONS_MAX": "20",
        "ZEROCOPY_TIMEOUTS_HEADER_READ_S": "3",
    }
    with ForkedServer(tmp_path, **environ) as server, ExitStack() as stack:
        (worker,) = server.worker_pids()
        assert server.get(ALIVE).status == 200
        poll(lambda: gauge(server) == 0, "it to be gone")
        descriptors = open_descriptors(worker)
        crowd = [stack.enter_context(tcp_from(server)) for _ in range(400)]
        poll(lambda: accepted(server) == 401, "all to be accepted")
        assert gauge(server) == 20 + REFUSALS_MAX
        assert open_descriptors(worker) <= descriptors + 20 + REFUSALS_MAX
        assert server.metric("zerocopy_connections_refused_total") == 380
        with socket.create_connection(("127.0.0.1", server.plain_port), 20) as plain:
            assert plain.recv(1) == b"", "no place, and none to say so"
        for sock in crowd:
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        poll(lambda: gauge(server) == 0, "no connection to be left")
        assert server.get(ALIVE).status == 200
        poll(lambda: open_descriptors(worker) <= descriptors, "their descriptors to be closed")


def test_silent_connections_of_one_address_do_not_shut_others_out(tmp_path: Path) -> None:
    """Its own bound holds before TLS: who comes from elsewhere has a handshake at once."""
    environ = {"ZEROCOPY_LIMITS_CONNECTIONS_MAX": "50", PER_ADDRESS: "10"}
    with ForkedServer(tmp_path, USE_TLS="true", **environ) as server, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(tcp_from(server))
        assert server.get(ALIVE).status == 200
        assert server.metric("zerocopy_connections_refused_total") == 190


def test_clients_that_leave_amid_the_handshake_leave_nothing(tmp_path: Path) -> None:
    """By FIN or RST, before a byte, after some, after bytes that are no TLS: all are forgotten."""
    firsts = (b"", b"\x16\x03\x01", request_of(ALIVE), b"\x00" * 50)
    with ForkedServer(tmp_path, USE_TLS="true") as server:
        (worker,) = server.worker_pids()
        assert server.get(ALIVE).status == 200
        poll(lambda: gauge(server) == 0, "it to be gone")
        descriptors = open_descriptors(worker)
        for index in range(200):
            with tcp_from(server) as sock:
                sock.sendall(firsts[index % 4])
                if index % 8 > 3:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        poll(lambda: accepted(server) == 201, "all to be accepted")
        poll(lambda: gauge(server) == 0, "no connections")
        poll(lambda: open_descriptors(worker) <= descriptors, "their descriptors to be closed")
        assert server.get(ALIVE).status == 200
        names = {event["event"] for event in server.events()}
        assert names & {"loop_error", "connection_failed"} == set()


# ---- by descriptors


@each_listener
def test_lasting_shortage_of_descriptors_costs_nothing_and_ends_with_it(
    tmp_path: Path, name: str
) -> None:
    """No spinning; those inside are answered; those who wait are closed; a free place is taken."""
    put(str(tmp_path), {"time": u32(start_of(DAY)), "price": marks(1)})
    target = data_target(SERIES)
    with (
        serve(TRANSPORTS[name], str(tmp_path)) as site,
        site.session() as inside,
        ExitStack() as stack,
    ):
        expected = inside.request(target).content
        # Kept once its files are older than a tick of the clock; until then it needs descriptors.
        poll(
            lambda: (
                inside.request(target).content == expected
                and site.server.metric("zerocopy_plans_reused_total") > 0
            ),
            "the answer to be kept",
        )
        (worker,) = site.server.worker_pids()
        hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)[1]
        low = open_descriptors(worker) + 10
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (low, hard))
        held = [stack.enter_context(site.server.connect()) for _ in range(10)]
        poll(lambda: open_descriptors(worker) == low, "the limit to be reached")
        waiting = [stack.enter_context(site.server.connect()) for _ in range(5)]
        begun_cpu_s, begun_s = cpu_s(worker), time.monotonic()
        while time.monotonic() - begun_s < 1.5:
            assert inside.request(target).content == expected
            time.sleep(0.25)  # the span over which processor time is measured
        assert cpu_s(worker) - begun_cpu_s < 0.3, "accepting spins"
        for sock in waiting:
            with suppress(ConnectionResetError):
                assert sock.recv(1) == b"", "told nothing, but not left waiting either"
        refused = "zerocopy_connections_refused_total"
        poll(lambda: site.server.metric(refused) == 5, "each of them to be counted")
        assert inside.request(target).content == expected
        for sock in held[:5]:
            sock.close()
        assert ask_until_served(site, 10) < 3
        assert site.server.worker_pids() == [worker]


@each_listener
def test_low_hard_limit_caps_connections_and_leaves_room_for_files(
    tmp_path: Path, name: str
) -> None:
    """A warning names the number, one more gets 503; a query of 80 days, 3 columns is answered."""
    root = str(tmp_path)
    for number in range(80):
        day = DAY - timedelta(days=number)
        start_s = start_of(day)
        times = u32(*range(start_s, start_s + 50))
        put(root, {"time": times, "price": marks(50, base=number), "volume": marks(50)}, day)
    files, days = 8, ("time", "price", "volume")
    environ = {
        "ZEROCOPY_MEMORY_OPEN_FILES_MAX": str(files),
        "ZEROCOPY_MEMORY_MAPPED_FILES_MAX": str(files),
        "ZEROCOPY_LIMITS_PLANNER_THREADS": "1",
        "ZEROCOPY_LIMITS_READER_THREADS": "1",
        "ZEROCOPY_LIMITS_SMALL_ANSWER_BYTES_MAX": "0",
        "ZEROCOPY_LIVE_SERIES_MAX": "1",
    }
    with serve(TRANSPORTS[name], root, **environ) as site:
        threads = 1 + COMPUTING_THREADS + ENCODING_THREADS
        kept = OWN_DESCRIPTORS + threads * plan_descriptors(32) + READING_DESCRIPTORS
        kept += GATHERERS_MAX * GATHERING_DESCRIPTORS + BODIES_MAX
        kept += LIVE_FILES + (LIVE_LOOKS_KEPT + LIVE_THREADS) * (1 + 32 + DIRECTORY_DESCRIPTORS)
        kept += files * (2 if site.server.is_tls else 1)
        restart_with_descriptors(site.server, kept + 3)
        (warning,) = site.server.logged("connections_capped")
        assert [int(warning[key]) for key in ("connections_max", "nofile")] == [3, kept + 3]
        with ExitStack() as stack:
            sessions = [stack.enter_context(site.session()) for _ in range(3)]
            for session in sessions:
                assert session.request(ALIVE).status == 200
            assert_refused(site.ask(ALIVE))
            expected = site.expected(SERIES, columns=days)
            for session in sessions:
                assert session.request(data_target(SERIES, columns=days)).content == expected


def restart_with_descriptors(server: RunningServer, count: int) -> None:
    """Have the supervisor start a worker that may have `count` descriptors and not one more."""
    (worker,) = server.worker_pids()
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (count, count))
    os.kill(worker, signal.SIGKILL)
    poll(lambda: server.event("connections_capped") is not None, "the warning")
