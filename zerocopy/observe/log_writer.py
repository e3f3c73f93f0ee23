"""Lines on their way to standard error: a bounded queue and the thread that writes them.

Owns the one place where logging may block. A pipe without a reader, or a slow disk, stops this
thread and nothing else. Lines that find the queue full are dropped and counted.
"""

from __future__ import annotations

import os
import select
from queue import Empty, SimpleQueue
from threading import Event, Thread

WRITE_BYTES_MAX = 4_096
"""PIPE_BUF: lines that are written together stay whole beside those of other processes."""

GATHER_S = 0.01
"""How long a line may wait for company: the thread is woken at most a hundred times a second."""

CLOSE_S = 1.0
"""How long the end of the process waits for the last lines."""

_END = b""


class LineWriter:
    """Writes lines to a descriptor, in their order; `dropped` counts those that were not."""

    def __init__(self, fd: int, waiting_max: int) -> None:
        self._fd = fd
        self._waiting_max = waiting_max
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._closing = Event()
        self.dropped = 0
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def has_room(self) -> bool:
        """Whether the queue takes another line."""
        return self._queue.qsize() < self._waiting_max

    def put(self, line: bytes) -> None:
        """Have a line written, its line feed included; or drop it. Never waits."""
        if self.has_room:
            self._queue.put(line)
        else:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, as far as that takes no longer than `CLOSE_S`."""
        self._closing.set()
        self._queue.put(_END)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        line: bytes | None = self._queue.get()
        while line != _END:
            batch: list[bytes] = []
            nbytes = 0
            while line and (not batch or nbytes + len(line) <= WRITE_BYTES_MAX):
                batch.append(line)
                nbytes += len(line)
                line = self._next()
            if not self._write(b"".join(batch)):
                self.dropped += len(batch)
            if line is None:
                self._closing.wait(GATHER_S)
                line = self._queue.get()

    def _next(self) -> bytes | None:
        try:
            return self._queue.get_nowait()
        except Empty:
            return None

    def _write(self, data: bytes) -> bool:
        """Wait as long as it takes; False where the reader is gone or the disk is full."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # the parent process has made the pipe non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        return True
