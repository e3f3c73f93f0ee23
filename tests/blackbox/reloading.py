"""Clients that count every request that failed while the server changes under them.

Owns what a correct client does: over HTTP/1.1 it keeps its connection until an answer says
`Connection: close`; over HTTP/2 it opens no stream after a GOAWAY and finishes the others; one that
resumes asks for the rest of a download with Range and If-Range. Nothing is retried in silence.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.faults.client import Client, poll, request_of
from tests.h2client import H2Client
from tests.server import RunningServer, connect_to

if TYPE_CHECKING:
    from collections.abc import Callable


PAUSE_S = 0.004
"""Between two requests of a client: a crowd is not there to keep a processor busy."""

RESUMING_BUFFER_BYTES = 32_768
"""What the kernel of one that resumes takes while it does not read."""


@dataclass(slots=True)
class Crowd:
    """Threads of clients that ask for `target` until the block ends; what came of it."""

    server: RunningServer
    target: str
    body: bytes
    http1: int = 0
    http2: int = 0
    resuming: int = 0
    answers: int = 0
    goodbyes: int = 0
    """Connections whose last answer, or GOAWAY, said that it was the last."""
    resumed: int = 0
    failures: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        """Start all clients."""
        for count, work in (
            (self.http1, self._ask_http1),
            (self.http2, self._ask_http2),
            (self.resuming, self._resume),
        ):
            self._threads += [
                threading.Thread(target=self._repeat, args=(work,)) for _ in range(count)
            ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let each finish what it has begun."""
        self.stop()

    def stop(self) -> None:
        """No client begins anything more; returns when all have ended."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._done.is_set():
            try:
                work()
            except (AssertionError, OSError, EOFError) as error:
                self.failures.append(f"{work.__name__}: {error!r}")
                self._done.wait(0.05)

    def _ask_http1(self) -> None:
        """One connection, until it is told to be the last."""
        with Client(self.server) as client:
            while not self._done.wait(PAUSE_S):
                client.send(request_of(self.target))
                answer = client.answer()
                assert answer.status == 200
                assert answer.content == self.body
                self.answers += 1
                if answer.fields.get("connection") == "close":
                    self.goodbyes += 1
                    return

    def _ask_http2(self) -> None:
        with H2Client(self.server) as client:
            while not self._done.wait(PAUSE_S):
                streams = [client.request(self.target) for _ in range(3)]
                for stream_id in streams:
                    assert client.answer(stream_id).content == self.body
                    self.answers += 1
                if client.goaways:
                    self.goodbyes += 1
                    return

    def _resume(self) -> None:
        """A download that is read slowly; whatever cuts it off, the rest is asked for."""
        content, etag = b"", ""
        while len(content) < len(self.body):
            fields = [f"Range: bytes={len(content)}-", f"If-Range: {etag}"] if etag else []
            with connect_to(self.server.plain_port, RESUMING_BUFFER_BYTES) as sock:
                client = Client.__new__(Client)
                client.sock, client._buffer = sock, bytearray()
                client.send(request_of(self.target, *fields))
                status, head = client.head()
                assert status == (206 if etag else 200)
                etag = head["etag"]
                length, begun = int(head["content-length"]), len(content)
                while len(content) - begun < length:
                    try:
                        data = client.read_some(RESUMING_BUFFER_BYTES)
                    except ConnectionResetError:
                        data = b""
                    if not data:
                        self.resumed += 1
                        break
                    content += data
        assert content == self.body
        self.answers += 1


def exit_code(server: RunningServer) -> int:
    """Wait for the supervisor to exit; its exit code."""
    assert server.process is not None
    return server.process.wait(20)


def count_of(server: RunningServer, name: str) -> int:
    """How often an event was logged."""
    return sum(event["event"] == name for event in server.events())


def workers_settled(server: RunningServer, count: int) -> bool:
    """Whether the old generation is gone."""
    return len(server.worker_pids()) == count


def reload_once(server: RunningServer, count: int) -> None:
    """SIGHUP, and wait until the generation before has gone; `count` reloads in all."""
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: count_of(server, "reloaded") == count, "the reload", 30)
    poll(lambda: count_of(server, "generation_gone") == count, "the drain", 30)
