"""A server under fuzzing: many connections at a time, and what must be true of it afterwards."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.faults.client import SMALL, body_of, poll, write_series
from tests.server import ForkedServer, RunningServer, open_descriptors, resident_bytes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

AT_ONCE = 200
END_S = 30.0
"""Seconds in which every connection must have ended: far more than all deadlines together."""
GROWTH_BYTES_MAX = 64 << 20
GROWTH_BYTES_A_CONNECTION_MAX = 32 << 10
"""Freed memory that malloc keeps; it grows ever slower with the number of connections."""
DEADLINES = {
    "ZEROCOPY_TIMEOUTS_HEADER_READ_S": "0.5",
    "ZEROCOPY_TIMEOUTS_IDLE_S": "0.5",
    "ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S": "1",
    "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "2",
    "ZEROCOPY_LIMITS_PLANNER_THREADS": "1",
}
FAULTS = frozenset(
    {
        "connection_failed",
        "data_error",
        "internal_error",
        "loop_error",
        "transfer_aborted",
        "unraisable",
    }
)


class Case(Protocol):
    """One connection: what it sends, and whether it says that it is done (FIN)."""

    @property
    def raw(self) -> bytes:
        """All that is sent."""

    @property
    def is_done(self) -> bool:
        """Whether FIN follows."""


@dataclass(frozen=True, slots=True)
class Received:
    """All that the server sent before it ended the connection, and whether by a reset."""

    content: bytes
    was_reset: bool


def threads(pid: int) -> int:
    """How many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


@contextmanager
def besieged(root: Path, connections: int, **environ: str) -> Iterator[RunningServer]:
    """A server with short deadlines; after the block it must be as it was before.

    The same worker, the same descriptors and threads, not much more memory, the right bytes for
    whoever asks next, and nothing in its log that is the server's fault.
    """
    write_series(root, "SMALL", 500)
    with ForkedServer(root, **{**DEADLINES, **environ}) as server:
        body = body_of(root, "SMALL")
        for _ in range(3):
            assert server.get(SMALL).content == body
        assert server.get("/api/symbols").status == 200  # the tree of symbols stays watched
        (worker,) = server.worker_pids()
        before = open_descriptors(worker), threads(worker), resident_bytes(worker)
        yield server
        assert server.worker_pids() == [worker], server.log_text()
        answer = server.get(SMALL)
        assert (answer.status, answer.content) == (200, body)
        poll(lambda: open_descriptors(worker) <= before[0], "descriptors given back")
        poll(lambda: threads(worker) <= before[1], "threads gone")
        assert [event for event in server.events() if event["event"] in FAULTS] == []
        growth = resident_bytes(worker) - before[2]
        assert growth < GROWTH_BYTES_MAX + connections * GROWTH_BYTES_A_CONNECTION_MAX, growth


def converse(
    connect: Callable[[], socket.socket], cases: Sequence[Case]
) -> Iterator[tuple[Case, Received]]:
    """Send each case on a connection of its own, some at the same time; what came of each."""
    for first in range(0, len(cases), AT_ONCE):
        batch = cases[first : first + AT_ONCE]
        with ExitStack() as stack:
            socks = []
            for case in batch:
                socks.append(stack.enter_context(connect()))
                send(socks[-1], case)
            deadline_s = time.monotonic() + END_S
            for sock, case in zip(socks, batch, strict=True):
                yield case, receive(sock, case, deadline_s)


def send(sock: socket.socket, case: Case) -> None:
    """Send all of a case, as far as the server takes it."""
    try:
        sock.sendall(case.raw)
        if case.is_done:
            sock.shutdown(1)
    except TimeoutError:
        raise AssertionError(f"the server took no byte of {case}") from None
    except OSError:
        pass  # it may refuse and close while bytes are on their way


def receive(sock: socket.socket, case: Case, deadline_s: float) -> Received:
    """Read until the server ends the connection; AssertionError when it does not."""
    content, was_reset = bytearray(), False
    try:
        while True:
            sock.settimeout(max(0.01, deadline_s - time.monotonic()))
            data = sock.recv(1 << 16)
            if not data:
                break
            content += data
    except TimeoutError:
        raise AssertionError(f"no end after {END_S} s of {case}: {bytes(content)!r}") from None
    except OSError:
        was_reset = True
    return Received(bytes(content), was_reset)
