"""Clients that vanish, and bounds that are reached: nothing leaks, nothing spins, all recovers."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    cpu_s,
    poll,
    request_of,
)
from tests.server import ForkedServer, RunningServer, open_descriptors

if TYPE_CHECKING:
    from pathlib import Path

DISCONNECTS = 90


@pytest.mark.parametrize("how", ["reset", "close", "half-close then reset"])
@pytest.mark.parametrize("target", [LARGE, MEDIUM, SMALL])
def test_client_that_leaves_in_the_middle_leaks_nothing(
    server: RunningServer, how: str, target: str
) -> None:
    """Ninety clients that go before, or amid, their answer leave no descriptor behind."""
    (worker,) = server.worker_pids()
    server.get(target)
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections")
    descriptors = open_descriptors(worker)
    for index in range(DISCONNECTS):
        client = Client(server, TINY_BUFFER_BYTES)
        client.send(request_of(target))
        if index % 3:
            client.sock.recv(1 if index % 3 == 1 else 4_096)
        if how.startswith("half"):
            client.sock.shutdown(socket.SHUT_WR)
        if how == "close":
            client.close()
        else:
            client.reset()
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections")
    poll(lambda: open_descriptors(worker) <= descriptors, "descriptors given back")
    assert server.get("/healthz").status == 200


def test_disconnects_before_a_request_leak_nothing(server: RunningServer) -> None:
    """Connections that end before, or within, a head are forgotten, by FIN and by RST."""
    (worker,) = server.worker_pids()
    descriptors = open_descriptors(worker)
    for index in range(DISCONNECTS):
        client = Client(server)
        client.send(request_of(SMALL)[: index % 20])
        if index % 2:
            client.close()
        else:
            client.reset()
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections", 4)
    poll(lambda: open_descriptors(worker) <= descriptors, "descriptors given back")


def test_connection_beyond_the_bound_gets_503_and_the_next_is_served(root: Path) -> None:
    """The answer names a delay and closes; when one leaves, a newcomer is served again."""
    with ForkedServer(root, ZEROCOPY_LIMITS_CONNECTIONS_MAX="4") as server:
        clients = [Client(server) for _ in range(4)]
        for client in clients:
            client.send(request_of("/healthz"))
            assert client.answer().status == 200
        with Client(server) as refused:
            answer = refused.answer()
            assert answer.status == 503
            assert int(answer.fields["retry-after"]) > 0
            assert answer.fields["connection"] == "close"
            assert answer.fields["content-type"] == "application/problem+json"
            refused.send(request_of("/healthz"))
            assert refused.is_closed()
        assert server.metric("zerocopy_connections_refused_total") == 1
        crowd = [Client(server) for _ in range(200)]
        for client in clients:
            client.send(request_of(SMALL))
            assert client.answer().status == 200, "those inside are served meanwhile"
        for client in (*crowd, clients.pop()):
            client.close()
        poll(lambda: server.metric("zerocopy_connections") == 3, "the crowd to be gone")
        assert server.get(SMALL).status == 200
        for client in clients:
            client.close()


def test_crowd_beyond_the_bound_is_refused_and_not_left_waiting(root: Path) -> None:
    """Of 200 beyond the bound each gets 503 or is closed at once; none hangs."""
    with (
        ForkedServer(root, ZEROCOPY_LIMITS_CONNECTIONS_MAX="1") as server,
        Client(server) as inside,
    ):
        inside.send(request_of("/healthz"))
        inside.answer()
        crowd = [Client(server) for _ in range(200)]
        statuses = []
        for client in crowd:
            client.sock.settimeout(3)
            with contextlib.suppress(EOFError, ConnectionResetError):
                statuses.append(client.answer().status)
        assert set(statuses) == {503}
        assert server.metric("zerocopy_connections_refused_total") == 200
        for client in crowd:
            client.close()


def test_exhausted_descriptors_do_not_spin_and_recover(root: Path) -> None:
    """At RLIMIT_NOFILE accepting pauses without spinning; those inside are served; it recovers."""
    with ForkedServer(root) as server:
        (worker,) = server.worker_pids()
        small = body_of(root, "SMALL")
        with Client(server) as inside:
            inside.send(request_of(SMALL))
            assert inside.answer().content == small
            limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
            low = open_descriptors(worker) + 5
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (low, limits[1]))
            crowd = [Client(server) for _ in range(40)]
            poll(lambda: open_descriptors(worker) >= low - 1, "the limit to be reached")
            begun_cpu_s = cpu_s(worker)
            time.sleep(1)  # the span over which processor time is measured
            assert cpu_s(worker) - begun_cpu_s < 0.2, "accepting spins"
            inside.send(request_of("/healthz"))
            assert inside.answer().status == 200
            inside.send(request_of(MEDIUM))
            assert inside.answer().status in {200, 500, 503}
            for client in crowd[:35]:
                client.close()
            resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
            for client in crowd[35:]:
                client.send(request_of(SMALL))
                assert client.answer().content == small
                client.close()
            inside.send(request_of(MEDIUM))
            assert inside.answer().content == body_of(root, "MEDIUM")
        assert server.worker_pids() == [worker]
