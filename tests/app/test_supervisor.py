"""Supervisor: what a black-box test cannot time, a worker that dies at the worst moment."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from zerocopy.app.supervisor import Supervisor, open_listeners
from zerocopy.config import load
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRON = {"ZEROCOPY_CONFIG": os.devnull, "USE_TLS": "false", "PORT": "0", "METRICS_PORT": "0"}


class Stillborn(subprocess.Popen[bytes]):
    """A worker that was killed before it read a byte of its orders."""

    def __init__(self, _command: list[str], **options: Any) -> None:
        super().__init__(["/bin/false"], **options)
        self.wait()


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """A supervisor that has opened its listener and started nothing."""
    supervisor = Supervisor(load(environ=ENVIRON))
    yield supervisor
    supervisor._selector.close()
    os.close(supervisor._counters_fd)
    for worker in supervisor._workers:
        assert worker.plain is not None
        worker.plain.close()
        if worker.ready_fd != -1:
            os.close(worker.ready_fd)
        if worker.process is not None and worker.process.stdin is not None:
            worker.process.stdin.close()


def test_worker_that_dies_before_its_orders_is_started_again(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OOM kill right after fork is one more death to the supervisor, not its own end."""
    monkeypatch.setattr(subprocess, "Popen", Stillborn)
    (worker,) = supervisor._workers
    with capture_logs() as logs:
        supervisor._start(worker)
        supervisor._reap()
    assert worker.process is None
    assert worker.restart_at_s > time.monotonic() - 1
    assert [log["event"] for log in logs] == ["worker_died"]


def test_listeners_share_one_port_and_refuse_a_taken_one() -> None:
    """Port 0 is chosen once for all; a port where somebody listens is the operator's error."""
    listeners = open_listeners("127.0.0.1", 0, 3, 16)
    port = listeners[0].getsockname()[1]
    assert [listener.getsockname()[1] for listener in listeners] == [port] * 3
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}"):
        open_listeners("127.0.0.1", port, 1, 16)
    for listener in listeners:
        listener.close()
