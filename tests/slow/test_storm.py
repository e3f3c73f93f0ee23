"""Hundreds of thousands of answers beside a writer at full speed: none is stale, none is mixed.

`STORM_S` says for how many seconds (120). The brief one is the same code for two seconds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.server import RunningServer, connect_to
from tests.slow.storm import WILD, shapes
from tests.storage.trees import OPEN_START_S

if TYPE_CHECKING:
    from pathlib import Path

STORM_S = float(os.environ.get("STORM_S", "120"))
CONNECTIONS = 4
"""They ask for the same at the same time, so that one proof answers several."""

ASKED_IN_A_ROW = 200
"""How often a calm series is asked for before the next: planned, used again, and then changed."""

REFUSED_SHARE_MAX = 0.001
"""500 is allowed where a day changes faster than it can be read, and has to be rare."""


class Client:
    """One kept connection of HTTP/1.1."""

    def __init__(self, port: int) -> None:
        self._sock = connect_to(port)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, target: str) -> None:
        """Send a request."""
        self._sock.sendall(f"GET {target} HTTP/1.1\r\nHost: t\r\n\r\n".encode())

    def answer(self) -> tuple[int, bytes]:
        """Status and content of the answer."""
        received = self._sock.recv(1 << 18)
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = int(head.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        while len(received) < end + 4 + length:
            received += self._more()
        assert len(received) == end + 4 + length, "more than one answer came"
        return int(head[9:12]), received[end + 4 :]

    def _more(self) -> bytes:
        data = self._sock.recv(1 << 18)
        assert data, "the connection was closed"
        return data

    def close(self) -> None:
        """End the connection."""
        self._sock.close()


KINDS = {"whole", "skipped", "absent", "present", "prefix"}


def storm(root: str, *, seconds: float, calm: int, seed: int) -> Counter[str]:
    """Kinds of answers by how often they came; each was judged.

    It lasts for `seconds`, and on a busy machine until each of `KINDS` came.
    """
    asked = shapes(root, OPEN_START_S, calm)
    for shape in asked:
        shape.prepare()
    shared = os.memfd_create("numbers")
    os.ftruncate(shared, 8 + 16 * len(asked))
    memory = mmap.mmap(shared, 0)
    numbers = memoryview(memory).cast("Q")
    path = f"/proc/{os.getpid()}/fd/{shared}"
    command = [sys.executable, "-m", "tests.slow.storm", root, str(OPEN_START_S), str(calm), path]
    kinds: Counter[str] = Counter()
    rng = random.Random(seed)
    with RunningServer(root) as server, contextlib.ExitStack() as stack:
        clients = [Client(server.port) for _ in range(CONNECTIONS)]
        for client in clients:
            stack.callback(client.close)
        writer = stack.enter_context(subprocess.Popen([*command, str(seed)]))
        stack.callback(numbers.__setitem__, 0, 1)
        calm_index = WILD
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s or not kinds.keys() >= KINDS:
            if rng.random() < 1 / ASKED_IN_A_ROW:
                calm_index = rng.randrange(WILD, len(asked))
            # Half of what is asked changes all the while, half of it pauses.
            index = rng.randrange(WILD) if rng.random() < 0.5 else calm_index
            done = numbers[2 + 2 * index]
            target = asked[index].target(done)
            for client in clients:
                client.ask(target)
            answers = [client.answer() for client in clients]
            begun = numbers[1 + 2 * index]
            for status, content in answers:
                if status == 500:
                    kinds["500"] += 1
                    continue
                kinds[asked[index].judge(status, content, done, begun)] += 1
        assert writer.poll() is None, "the writer ended"
        numbers[0] = 1
        assert writer.wait(20) == 0
        kinds["changes"] = sum(numbers[2::2])
        kinds["reused"] = int(server.metric("zerocopy_plans_reused_total"))
    numbers.release()
    memory.close()
    os.close(shared)
    return kinds


def judged(kinds: Counter[str]) -> int:
    """How many answers were held against the files."""
    return sum(kinds.values()) - kinds["changes"] - kinds["reused"] - kinds["500"]


@pytest.mark.slow
@pytest.mark.timeout(STORM_S + 120)
def test_storm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Hundreds of thousands of answers, each that of a moment between request and answer."""
    seed = int(os.environ.get("STORM_SEED", str(time.time_ns() % 1_000_000)))
    kinds = storm(str(tmp_path), seconds=STORM_S, calm=40, seed=seed)
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}, {STORM_S:.0f} s: {dict(kinds)}\n")
    assert kinds["500"] <= judged(kinds) * REFUSED_SHARE_MAX
    assert kinds["reused"] > judged(kinds) / 10, "reuse was never put to the test"


def test_brief_storm(tmp_path: Path) -> None:
    """The same for two seconds or a little more: thousands of answers."""
    kinds = storm(str(tmp_path), seconds=2, calm=10, seed=1)
    assert kinds["reused"] > 0
