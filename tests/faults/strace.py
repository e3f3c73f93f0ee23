"""Real faults of the disk: strace(1) makes system calls of the running worker fail.

Owns attaching and detaching. What is injected is what the kernel would return; the call itself is
not made. Only calls on the paths given are touched, by name or by descriptor.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@contextmanager
def injecting(pid: int, call: str, how: str, *paths: str) -> Iterator[None]:
    """Let `call` fail in all threads of a process while the block runs: `how` is strace's syntax.

    `error=EIO:when=3+` fails each thread's third call and all after it.
    """
    command = ["strace", "-f", "-qq", "-p", str(pid), "-o", os.devnull]
    for path in paths:
        command += ["-P", path]
    command += ["-e", f"trace={call}", "-e", f"inject={call}:{how}"]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        poll(lambda: is_traced(pid) or strace.poll() is not None, "strace to attach")
        if strace.poll() is not None:
            assert strace.stderr is not None
            pytest.skip(f"strace may not attach here: {strace.stderr.read().decode().strip()}")
        yield
    finally:
        if strace.poll() is None:
            strace.send_signal(signal.SIGINT)
        strace.communicate(timeout=10)
        poll(lambda: not is_traced(pid), "strace to detach")


def is_traced(pid: int) -> bool:
    """Whether every thread of a process has a tracer."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as file:
            if any(line == "TracerPid:\t0\n" for line in file):
                return False
    return True
