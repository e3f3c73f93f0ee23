"""A server that is forked is the one that a user starts, as far as its tests can see."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from pathlib import Path


def descriptors_of(pid: int) -> list[str]:
    """What a process holds besides its standard streams; numbers and names left out."""
    targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")[3:]]
    return sorted(re.sub(r"\d+|/tmp/\S+", "", target) for target in targets)


def test_worker_holds_the_descriptors_of_one_that_was_executed(tmp_path: Path) -> None:
    """None of the tests, of the fork server or of the supervisor besides those it is told."""
    with (
        ForkedServer(tmp_path, ZEROCOPY_TLS_PORT="0") as forked,
        RunningServer(tmp_path, ZEROCOPY_TLS_PORT="0") as executed,
    ):
        workers = [*forked.worker_pids(), *executed.worker_pids()]

        def are_equal() -> bool:
            ours, theirs = map(descriptors_of, workers)
            return ours == theirs

        # Once it is ready a worker may still open or close one.
        poll(are_equal, "the same descriptors")


def test_ends_are_told_as_of_any_process(tmp_path: Path) -> None:
    """Exit codes and signals, of the supervisor to the test and of a worker to the supervisor."""
    with ForkedServer(tmp_path) as server:
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGKILL)
        (died,) = server.logged("worker_died")
        assert int(died["status"]) == -signal.SIGKILL
        poll(lambda: server.worker_pids() not in ([], [worker]), "another worker")
        assert server.get("/healthz").status == 200
        assert server.stop() == 0
    with ForkedServer(tmp_path) as server:
        assert server.process is not None
        server.process.kill()
        assert server.process.wait(20) == -signal.SIGKILL
    refused = ForkedServer(tmp_path, PORT="70000")
    with refused.log:
        assert refused.start().wait(20) == 1
        assert "PORT" in refused.log_text()


def test_variables_that_only_a_new_process_reads_are_refused(tmp_path: Path) -> None:
    """A test that relies on a sitecustomize.py would pass whatever the server does."""
    server = ForkedServer(tmp_path, PYTHONPATH=str(tmp_path))
    with server.log, pytest.raises(AssertionError, match="RunningServer"):
        server.start()
