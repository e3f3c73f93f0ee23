"""Cores that do not fall asleep while something is timed that happens now and then.

Owns a process for each core that runs whenever nothing else wants it (SCHED_IDLE, sched(7)), as a
kernel with `idle=poll` would. A virtual core that sleeps may take tens of milliseconds to wake up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPIN = """
import os, sys
core, parent = map(int, sys.argv[1:])
os.sched_setaffinity(0, {core})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while os.getppid() == parent:
    sum(range(100_000))
"""


@contextmanager
def awake(*cores: int) -> Iterator[None]:
    """Keep these cores awake as long as the block runs, or this process lives."""
    with ExitStack() as stack:
        for core in {*cores}:
            command = [sys.executable, "-c", _SPIN, str(core), str(os.getpid())]
            spinning = stack.enter_context(subprocess.Popen(command))
            stack.callback(spinning.kill)
        yield
