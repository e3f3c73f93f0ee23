"""System calls of a process, as strace(1) sees them."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CALL = re.compile(r"\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed).* = (-?\d+|\?)")


@contextlib.contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """Write every system call of a process to `output` while the block runs."""
    strace = subprocess.Popen(
        ["strace", "-f", "-q", "-p", str(pid), "-o", output], stderr=subprocess.PIPE
    )
    try:
        poll(lambda: _tracer(pid) == strace.pid or strace.poll() is not None, "strace to attach")
        if strace.poll() is not None:
            assert strace.stderr is not None
            pytest.skip(f"strace may not attach here: {strace.stderr.read().decode().strip()}")
        yield
        # The last call has returned, and strace has seen it, once the process waits again.
        poll(lambda: _state(pid) == "S" or strace.poll() is not None, "the worker to wait")
    finally:
        if strace.poll() is None:
            strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=10)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]


def _tracer(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("TracerPid"))


def calls_of(output: Path) -> list[tuple[str, int]]:
    """Name and result of every call that returned while it was traced."""
    matches = map(_CALL.match, output.read_text(encoding="ascii").splitlines())
    return [(match[1], int(match[2])) for match in matches if match and match[2] != "?"]
