"""Reload and stop of the server under load through a proxy: no client sees any of it."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    poll,
    request_of,
)
from tests.proxies.crowd import Crowd
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.proxies.reverse import ReverseProxy


@pytest.mark.parametrize("reloads", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_reload_under_load_fails_no_request(
    proxy_type: type[ReverseProxy], root: Path, tmp_path: Path, reloads: int
) -> None:
    """SIGHUP replaces all workers; every answer through the proxy is right, before and after.

    With time for requests that are on their way: at 0, as other tests have it, a new connection may
    be closed before its request comes, and Go's transport sends nothing twice on a new one.
    """
    options = {"ZEROCOPY_SERVER_WORKERS": "2", "ZEROCOPY_SERVER_DRAIN_IDLE_S": "1"}
    with (
        ForkedServer(root, **options) as server,
        proxy_type(str(tmp_path), server.port) as proxy,
        Crowd(proxy, SMALL, body_of(root, "SMALL")) as crowd,
    ):
        first = set(server.worker_pids())
        for turn in range(reloads):
            crowd.more(200)
            os.kill(server.pid, signal.SIGHUP)
            poll(partial(has_reloaded, server, turn + 1), "the server to reload", 30)
        crowd.more(200)
        poll(lambda: not first & set(server.worker_pids()), "the first workers to go", 30)
        crowd.more(200)
    assert crowd.wrong() == {}


def has_reloaded(server: RunningServer, times: int) -> bool:
    """Whether a server has told so many times that a new generation serves."""
    return sum(event["event"] == "reloaded" for event in server.events()) == times


@pytest.mark.slow
def test_stop_under_way_finishes_the_answer_that_a_proxy_passes_on(
    proxy_type: type[ReverseProxy], root: Path, tmp_path: Path
) -> None:
    """SIGTERM amid 16 MB for a slow client: it gets all of them, and the exit code is 0."""
    with ForkedServer(root) as server, proxy_type(str(tmp_path), server.port) as proxy:
        expected = body_of(root, "LARGE", ["price"])
        with Client(proxy, TINY_BUFFER_BYTES) as client:
            client.send(request_of(LARGE))
            client.head()
            os.kill(server.pid, signal.SIGTERM)
            assert client.read(len(expected)) == expected
        assert server.process is not None
        assert server.process.wait(10) == 0
