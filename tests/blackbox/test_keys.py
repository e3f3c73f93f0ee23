"""Keys and the running command: what stops a start, what a reload takes over, what a key costs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.tracing import calls_of, traced
from tests.faults.client import SMALL, Client, make_root, poll, request_of
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer
from zerocopy.access.keys import add_key, revoke_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUESTS = 200
LOOKS_MAX = 60
"""Looks at the key file while 200 requests are traced, one a second, and the calls of each."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample data."""
    path = tmp_path_factory.mktemp("keys")
    make_root(path)
    return path


@pytest.fixture(scope="module")
def keyed(root: Path) -> Iterator[tuple[RunningServer, str]]:
    """A worker with a key file of one key, and that key."""
    path = str(root.parent / "keys-of-one.json")
    key = add_key(path, "desk")
    with ForkedServer(root, ZEROCOPY_TLS_PORT="0", ZEROCOPY_AUTH_KEYS_PATH=path) as running:
        yield running, key
    os.unlink(path)


@pytest.fixture(scope="module")
def open_to_all(root: Path) -> Iterator[RunningServer]:
    """A worker without keys."""
    with ForkedServer(root, ZEROCOPY_TLS_PORT="0") as running:
        yield running


def status_with(server: RunningServer, key: str) -> int:
    """What a request with `key` gets, on a connection of its own."""
    return server.get(SMALL, fields={"Authorization": f"Bearer {key}"}).status


def test_key_file_that_others_may_write_stops_the_start_in_one_line(
    root: Path, tmp_path: Path
) -> None:
    """Serve and check-config alike; one that everybody may read is told of."""
    path = str(tmp_path / "keys.json")
    add_key(path, "desk")
    environ = {
        **os.environ,
        "ZEROCOPY_CONFIG": os.devnull,
        "ZEROCOPY_AUTH_KEYS_PATH": path,
        "DATA_PATH": str(root),
        "USE_TLS": "false",
        "PORT": "0",
        "METRICS_PORT": "0",
    }

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "zerocopy", command],
            env=environ,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    os.chmod(path, 0o644)
    done = run("check-config")
    assert done.returncode == 0
    assert "every user of this machine may read" in done.stderr
    os.chmod(path, 0o660)
    for command in ("check-config", "serve"):
        done = run(command)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert f"chmod 600 {path}" in done.stderr


def test_every_worker_takes_a_change_over_and_keeps_its_keys_while_the_file_is_broken(
    root: Path, tmp_path: Path
) -> None:
    """By a look each second and by SIGHUP; a reload with a broken file is refused."""
    path = tmp_path / "keys.json"
    first = add_key(str(path), "first")
    with ForkedServer(
        root, ZEROCOPY_SERVER_WORKERS="2", ZEROCOPY_AUTH_KEYS_PATH=str(path)
    ) as server:
        second = add_key(str(path), "second")
        assert {int(event["worker"]) for event in server.logged("keys_changed", 2)} == {0, 1}
        assert {status_with(server, key) for key in (first, second) * 8} == {200}
        good = path.read_bytes()
        path.write_bytes(b"{")
        assert {int(event["worker"]) for event in server.logged("keys_not_read", 2)} == {0, 1}
        assert server.metric("zerocopy_keys_unreadable") == 1
        os.kill(server.pid, signal.SIGHUP)
        (refused,) = server.logged("reload_refused")
        assert str(path) in refused["reason"]
        assert {status_with(server, first) for _ in range(16)} == {200}
        path.write_bytes(good)
        revoke_key(str(path), "first")
        revoked = [
            event for event in server.logged("keys_changed", 4) if "first" in event["revoked"]
        ]
        assert {int(event["worker"]) for event in revoked} == {0, 1}
        assert {status_with(server, first) for _ in range(16)} == {401}
        third = add_key(str(path), "third")
        os.kill(server.pid, signal.SIGHUP)
        server.logged("reloaded")
        # A connection may still have reached a worker that leaves, which looks once a second.
        poll(lambda: {status_with(server, third) for _ in range(16)} == {200}, "the third key")
        assert {status_with(server, first) for _ in range(16)} == {401}
        poll(lambda: server.metric("zerocopy_keys_unreadable") == 0, "the file to be read")
        assert server.metric("zerocopy_keys") == 2
        text = server.log_text()
        assert not [key for key in (first, second, third) if key in text]
        assert server.event("internal_error") is None


# ---- what a key costs


@contextmanager
def ask_http1(server: RunningServer, key: str | None) -> Iterator[Callable[[], bytes]]:
    """One connection of HTTP/1.1; each call is a request and its content."""
    fields = () if key is None else (f"Authorization: Bearer {key}",)
    with Client(server) as client:

        def ask() -> bytes:
            client.send(request_of(SMALL, *fields))
            answer = client.answer()
            assert answer.status == 200
            return answer.content

        yield ask


@contextmanager
def ask_http2(server: RunningServer, key: str | None) -> Iterator[Callable[[], bytes]]:
    """The same over HTTP/2."""
    fields = [] if key is None else [("authorization", f"Bearer {key}")]
    with H2Client(server) as client:

        def ask() -> bytes:
            answer = client.ask(SMALL, fields=fields)
            assert answer.status == 200
            return answer.content

        yield ask


ASKED = {"http1": ask_http1, "http2": ask_http2}


def tally_of(
    server: RunningServer, key: str | None, trace: Path, way: str
) -> tuple[Counter[str], float]:
    """System calls of so many requests on a warm connection, and the plans that were reused."""
    (worker,) = server.worker_pids()
    with ASKED[way](server, key) as ask:
        for _ in range(8):
            warm = ask()
        before = server.metric("zerocopy_plans_reused_total")
        made = server.metric("zerocopy_plans_made_total")
        with traced(worker, trace):
            for _ in range(REQUESTS):
                assert ask() == warm
        assert server.metric("zerocopy_plans_made_total") == made
        reused = server.metric("zerocopy_plans_reused_total") - before
    return Counter(name for name, _ in calls_of(trace)), reused


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("way", ASKED)
def test_request_with_a_key_costs_the_system_calls_of_one_without(
    keyed: tuple[RunningServer, str], open_to_all: RunningServer, tmp_path: Path, way: str
) -> None:
    """Its head is known with its key, its plan is kept: as many reads, writes and proofs.

    What a server with keys does beside that is a look at the file each second, in a thread.
    """
    server, key = keyed
    without, reused = tally_of(open_to_all, None, tmp_path / "without", way)
    with_key, reused_with_key = tally_of(server, key, tmp_path / "with", way)
    assert reused == reused_with_key == REQUESTS
    for name in with_key | without:
        assert abs(with_key[name] - without[name]) <= LOOKS_MAX, (name, with_key, without)
    exact = {"recvfrom", "sendto", "sendmsg", "lstat"}
    assert {name: with_key[name] for name in exact} == {name: without[name] for name in exact}
