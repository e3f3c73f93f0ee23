"""A drain and heads that have begun: HTTP/1.1 is the same on both listeners."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.reloading import exit_code
from tests.faults.client import SMALL, Client, body_of, make_root, poll, request_of, seal
from tests.faults.tls_client import TlsClient
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = request_of(SMALL)
HALF = len(HEAD) // 2
KINDS = (Client, TlsClient)
"""The plain listener and the one of TLS, of a server that has both."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("heads")
    make_root(path)
    seal(path, "SMALL")
    yield path
    shutil.rmtree(path)


def amid_heads(server: RunningServer, stack: ExitStack) -> list[Client]:
    """Clients that have sent half a head: the first, one after an answer, one behind a request."""
    clients = []
    for kind in KINDS:
        for first in (b"", HEAD, HEAD + HEAD[:HALF]):
            client = stack.enter_context(kind(server))
            client.send(first or HEAD[:HALF])
            if first:
                assert client.answer().status == 200
            if first == HEAD:
                client.send(HEAD[:HALF])
            clients.append(client)
    fence(server)
    return clients


def fence(server: RunningServer) -> None:
    """Return when the worker has read what was sent before: it reads in the order of arrival."""
    for kind in KINDS:
        with kind(server) as client:
            client.send(HEAD)
            assert client.answer().status == 200


@pytest.mark.parametrize("drain_idle_s", ["0", pytest.param("0.5", marks=pytest.mark.slow)])
def test_drain_waits_for_the_end_of_a_head_that_has_begun(root: Path, drain_idle_s: str) -> None:
    """Idle connections have gone by then; the request is answered, with Connection: close."""
    with (
        ForkedServer(
            root, ZEROCOPY_TLS_PORT="0", ZEROCOPY_SERVER_DRAIN_IDLE_S=drain_idle_s
        ) as server,
        ExitStack() as stack,
    ):
        idle = [stack.enter_context(kind(server)) for kind in KINDS]
        clients = amid_heads(server, stack)
        os.kill(server.pid, signal.SIGTERM)
        for client in idle:
            assert client.read_until_end(1) == (b"", False)
        for client in clients:
            client.send(HEAD[HALF:])
            answer = client.answer()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            assert answer.content == body_of(root, "SMALL")
            assert client.read_until_end(1) == (b"", False)
        stack.close()
        assert exit_code(server) == 0


def test_head_that_does_not_end_holds_a_drain_up_for_its_own_deadline_only(root: Path) -> None:
    """After `header_read_s` its connection is closed, long before the deadline of the drain."""
    with (
        ForkedServer(
            root,
            ZEROCOPY_TLS_PORT="0",
            ZEROCOPY_TIMEOUTS_HEADER_READ_S="1",
            ZEROCOPY_SERVER_DRAIN_DEADLINE_S="120",
        ) as server,
        ExitStack() as stack,
    ):
        clients = amid_heads(server, stack)
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server) == 0
        for client in clients:
            assert client.read_until_end(1)[0] == b""


def test_head_behind_a_request_has_the_deadline_of_a_head(root: Path) -> None:
    """A part that came with an earlier request counts from the end of that answer."""
    with (
        ForkedServer(root, ZEROCOPY_TLS_PORT="0", ZEROCOPY_TIMEOUTS_HEADER_READ_S="1") as server,
        ExitStack() as stack,
    ):
        clients = amid_heads(server, stack)
        idle = stack.enter_context(Client(server))
        idle.send(HEAD)
        assert idle.answer().status == 200
        poll(
            lambda: server.metric("zerocopy_connections") == 1, "all but the idle one to be closed"
        )
        for client in clients:
            assert client.read_until_end(1)[0] == b""
        idle.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            idle.sock.recv(1, socket.MSG_PEEK)
