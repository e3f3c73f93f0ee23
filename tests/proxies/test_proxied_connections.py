"""The connections between a proxy and the server: kept, dropped by either side, cut by a fault.

No client may see a 502 because a connection was just closing: RFC 9112 section 9.3.1 lets a proxy
send an idempotent request again when its connection ends before an answer, and Go's transport does
where the connection had been used before (net/http, type Transport).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    poll,
    request_of,
    target_of,
)
from tests.proxies.crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy
    from tests.server import RunningServer

ACCEPTED = "zerocopy_connections_accepted_total"
RESTARTS = "zerocopy_worker_restarts_total"
ABORTED = "zerocopy_transfers_aborted_total"
CLIENTS = 16
ASKED = {SMALL: "SMALL", MEDIUM: "MEDIUM"}


def open_to(server: RunningServer, proxy: ReverseProxy) -> int:
    """How many connections a proxy has to a server."""
    return len(proxy.connections_to(server.port))


def sockets_of(server: RunningServer) -> set[str]:
    """The sockets that the workers of a server hold, by their inodes."""
    held = set()
    for pid in server.worker_pids():
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                held.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {name for name in held if name.startswith("socket:")}


def kill(server: RunningServer, *pids: int) -> Callable[[], bool]:
    """SIGKILL for workers; the condition that each was started again."""
    before = server.metric(RESTARTS)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return lambda: server.metric(RESTARTS) == before + len(pids)


def test_one_connection_serves_one_client_after_another(
    server: RunningServer, proxy: ReverseProxy
) -> None:
    """Twenty clients in turn cost the server a connection for each thread of the proxy at most."""
    before = server.metric(ACCEPTED)
    for _ in range(20):
        assert proxy.get(SMALL).status == 200
    assert server.metric(ACCEPTED) - before <= (os.cpu_count() or 1)


@pytest.mark.slow
def test_connection_the_proxy_drops_is_given_back(
    server: RunningServer, proxy_type: type[ReverseProxy], tmp_path: Path
) -> None:
    """Where the proxy's patience is shorter the server closes too; the next request is served."""
    with proxy_type(str(tmp_path), server.port, keep_alive_s=1) as proxy:
        assert proxy.get(SMALL).status == 200
        assert open_to(server, proxy) == 1
        poll(lambda: open_to(server, proxy) == 0, "the proxy to drop its connection")
        assert proxy.get(SMALL).status == 200


@pytest.mark.parametrize("rounds", [1, pytest.param(15, marks=pytest.mark.slow)])
def test_connection_the_server_drops_costs_no_request(
    server: RunningServer, proxy: ReverseProxy, root: Path, rounds: int
) -> None:
    """Requests that come around the moment of `idle_s` are answered, on one connection or another.

    All clients ask at once, so that the proxy opens many connections; then each asks again after a
    pause that lies around the second or two in which the server closes them.
    """
    bodies = {target: body_of(root, target_series) for target, target_series in ASKED.items()}

    def ask(client: Client, target: str, pause_s: float) -> bool:
        time.sleep(pause_s)
        client.send(request_of(target))
        answer = client.answer()
        return (answer.status, answer.content) == (200, bodies[target])

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(CLIENTS) as threads:
        clients = [stack.enter_context(Client(proxy)) for _ in range(CLIENTS)]
        for _ in range(rounds):
            assert all(threads.map(ask, clients, [MEDIUM] * CLIENTS, [0.0] * CLIENTS))
            opened = open_to(server, proxy)
            pauses_s = [random.uniform(0.9, 2.1) for _ in clients]
            assert all(threads.map(ask, clients, [SMALL] * CLIENTS, pauses_s))
    poll(lambda: open_to(server, proxy) < opened, "the server to close idle connections")


def test_client_that_leaves_stops_the_server(server: RunningServer, proxy: ReverseProxy) -> None:
    """The proxy passes the abort on: nothing more is sent, and the connections are given back."""
    aborted = server.metric(ABORTED)
    clients = [Client(proxy, TINY_BUFFER_BYTES) for _ in range(4)]
    for client in clients:
        client.send(request_of(target_of("HUGE", "price")))
        assert client.head()[0] == 200
    held = sockets_of(server)
    for client in clients:
        client.reset()
    poll(lambda: server.metric(ABORTED) - aborted == 4, "the answers to be aborted")
    # Others may come and go: the proxy keeps a pool.
    poll(lambda: len(held - sockets_of(server)) >= 4, "their sockets to be closed")


def test_answer_that_is_cut_never_looks_whole(
    server: RunningServer, proxy: ReverseProxy, root: Path
) -> None:
    """A worker that is killed amid an answer leaves the client short of the promised length."""
    content = expected = body_of(root, "LARGE", ["price"])
    for _ in range(8):  # until one is cut: the kernel's buffers of a proxy may have taken it whole
        with Client(proxy, TINY_BUFFER_BYTES) as client:
            client.send(request_of(LARGE))
            _, fields = client.head()
            assert int(fields["content-length"]) == len(expected)
            are_back = kill(server, *server.worker_pids())
            content, _ = client.read_until_end(len(expected))
        poll(are_back, "the workers to be started again")
        assert expected.startswith(content)
        if len(content) < len(expected):
            break
    assert len(content) < len(expected), "none was cut"
    assert proxy.get("/healthz").status == 200


def test_idle_connections_of_a_dead_worker_cost_no_request(
    server: RunningServer, proxy: ReverseProxy, root: Path
) -> None:
    """All workers are killed between two requests; the next ones wait for the successors."""
    body = body_of(root, "SMALL")
    with Crowd(proxy, SMALL, body) as crowd:
        crowd.more(100)
    assert crowd.wrong() == {}
    are_back = kill(server, *server.worker_pids())
    with Crowd(proxy, SMALL, body) as crowd:
        crowd.more(100)
    assert crowd.wrong() == {}
    poll(are_back, "the workers to be started again")


def test_worker_killed_under_load_is_survived(
    server: RunningServer, proxy: ReverseProxy, root: Path
) -> None:
    """Only requests in flight on the dead worker may fail, at most one a client, and then no more.

    Go's transport may send again only what met a connection that had been used before; so a request
    that opened its connection to the dying worker gets the proxy's 502.
    """
    clients = 8
    with Crowd(proxy, SMALL, body_of(root, "SMALL"), clients=clients) as crowd:
        crowd.more(200)
        is_back = kill(server, server.worker_pids()[0])
        crowd.more(200)
        poll(is_back, "the worker to be started again")
        failed = sum(crowd.wrong().values())
        crowd.more(200)
        assert sum(crowd.wrong().values()) == failed, "a failure after the death was survived"
    assert failed <= clients
