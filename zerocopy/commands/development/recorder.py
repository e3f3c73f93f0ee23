"""The demo's recorder: a process that appends to today's files as ticks come.

    python -m zerocopy.commands.development.recorder ROOT SEED DAY

Owns when it looks at the clock, and its end: with its standard input, which is a pipe from the
demo, so that it never outlives it. It begins with DAY (since 1970) and goes on with the next once a
day is over and written. It says `READY` once the files hold all up to now.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from zerocopy.commands.development.demo_data import series_of_day
from zerocopy.commands.development.growing import GrowingDay
from zerocopy.commands.development.sample_market import S_TO_NS
from zerocopy.core.layout import DAY_S
from zerocopy.supervise.control import child_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.commands.development.demo_data import DemoRoot

READY: Final = b"recording\n"
PERIOD_S: Final = 0.2
"""The least time between two appends: a chart that moves five times a second looks alive."""

_END_S: Final = 5.0
"""How long the process may take to end; it writes some kilobytes at most."""


class Recorder:
    """Every series of the demo, one day after the other."""

    def __init__(self, root: str, seed: int, first_day: int) -> None:
        self._root = root
        self._seed = seed
        self._day = first_day
        self._stack = contextlib.ExitStack()
        self._growing: list[GrowingDay] = []

    def step(self, now_ns: int) -> int:
        """Append what is there by `now_ns` (unix); when the next record is due.

        A day is written to its end before the next begins.

        Raises:
            OSError: a file cannot be written.
        """
        while True:
            if not self._growing:
                self._growing = [
                    self._stack.enter_context(GrowingDay(self._root, ticks))
                    for ticks in series_of_day(self._day, self._seed)
                ]
            dues = [due for day in self._growing if (due := day.grow(now_ns)) is not None]
            if dues:
                return min(dues)
            end_ns = (self._day + 1) * DAY_S * S_TO_NS
            if now_ns < end_ns:
                return end_ns
            self.close()
            self._day += 1

    def close(self) -> None:
        """Close every file."""
        self._stack.close()
        self._growing = []


@contextlib.contextmanager
def recording(root: DemoRoot, first_day: int) -> Iterator[bool]:
    """Record into `root` from a process of its own; False where it could not begin.

    It begins with what the files of `first_day` lack, and the block is entered when they have it.
    """
    command = [sys.executable, "-P", "-m", __name__, root.path, str(root.seed), str(first_day)]
    with subprocess.Popen(  # noqa: S603 - ourselves
        command,
        env=child_environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[root.lock_fd],
        start_new_session=True,  # Ctrl-C of the terminal is the demo's affair
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline() == READY
        finally:
            process.stdin.close()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> int:
    """Record until standard input ends; the exit code."""
    root, seed, first_day = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with contextlib.closing(Recorder(root, seed, first_day)) as recorder:
        is_told = False
        while True:
            try:
                due_ns = recorder.step(time.time_ns())
            except OSError as error:
                where = error.filename or root
                sys.stderr.write(f"zerocopy: the demo records no more: {where}: {error.strerror}\n")
                return 1
            if not is_told:
                is_told = True
                sys.stdout.buffer.write(READY)
                sys.stdout.buffer.flush()
            wait_s = max(PERIOD_S, due_ns / S_TO_NS - time.time())
            if select.select([sys.stdin], [], [], wait_s)[0]:
                return 0


if __name__ == "__main__":
    sys.exit(main())
