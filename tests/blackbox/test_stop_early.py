"""Stopping a server that is still starting: at every step it ends at once, in silence, entirely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.certificate import certificate_files
from tests.faults.client import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXIT_TIMEOUT_S = 15.0


class Starting:
    """A `zerocopy serve` on both paths whose readiness nobody waits for."""

    def __init__(self, folder: Path) -> None:
        cert_path, key_path = certificate_files()
        self.log_path = folder / "log"
        environ = {
            "PATH": os.environ["PATH"],
            "ZEROCOPY_CONFIG": os.devnull,
            "ZEROCOPY_LOG_FORMAT": "json",
            "DATA_PATH": str(folder),
            "PORT": "0",
            "METRICS_PORT": "0",
            "ZEROCOPY_PLAIN_PORT": "0",
            "SSL_CERT_PATH": cert_path,
            "SSL_PRIVATE_FILE": key_path,
        }
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zerocopy", "serve"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.seen: set[int] = set()

    def workers(self) -> set[int]:
        """The process ids of the workers that were ever seen."""
        with suppress(OSError):
            path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
            with open(path, encoding="ascii") as file:
                self.seen |= {int(pid) for pid in file.read().split()}
        return self.seen

    def log_text(self) -> str:
        """Everything that was written to standard error."""
        return self.log_path.read_text(encoding="utf-8")


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    with suppress(OSError), open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
    return True


def is_handled(starting: Starting) -> bool:
    """The supervisor has its handlers."""
    return catches(starting.process.pid, signal.SIGTERM)


def has_worker(starting: Starting) -> bool:
    """A worker was started; it is an interpreter that imports yet."""
    return bool(starting.workers())


def has_handled_worker(starting: Starting) -> bool:
    """A worker has its handlers, and is about to accept."""
    return any(catches(pid, signal.SIGTERM) for pid in starting.workers())


STEPS: dict[str, Callable[[Starting], bool]] = {
    "supervisor handles signals": is_handled,
    "worker starts": has_worker,
    "worker handles signals": has_handled_worker,
}


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Starting]:
    """One that leaves no process behind, whatever the test finds."""
    started = Starting(tmp_path)
    yield started
    for pid in started.workers():
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)
    started.process.kill()
    started.process.wait()


def when(starting: Starting, condition: Callable[[Starting], bool]) -> None:
    """Wait for a step of the start as closely as one can look."""
    deadline_s = time.monotonic() + EXIT_TIMEOUT_S
    while not condition(starting):
        assert starting.process.poll() is None, starting.log_text()
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def assert_ended(starting: Starting, code: int) -> None:
    """The exit code, no word of a fault, no process left."""
    assert starting.process.wait(EXIT_TIMEOUT_S) == code, starting.log_text()
    poll(lambda: all(map(is_gone, starting.workers())), "the workers to be gone")
    assert "Traceback" not in starting.log_text()
    assert "error" not in starting.log_text()


@pytest.mark.parametrize("step", STEPS)
def test_stop_amid_the_start_is_a_stop(starting: Starting, step: str) -> None:
    """Exit code 0 and no worker left, although none had begun to accept."""
    when(starting, STEPS[step])
    starting.workers()
    starting.process.terminate()
    assert_ended(starting, 0)


def test_stop_before_there_is_anything_to_stop(starting: Starting) -> None:
    """An interpreter that has only begun to import is ended by the signal itself."""
    starting.process.terminate()
    assert_ended(starting, -signal.SIGTERM)


def test_worker_whose_supervisor_dies_before_its_orders_ends_in_silence() -> None:
    """No orders, or half of them, and then the end of the pipe: nothing is left to serve for."""
    for spec in (b"", b'{"config":'):
        done = subprocess.run(
            [sys.executable, "-m", "zerocopy.supervise.worker"],
            input=spec,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
