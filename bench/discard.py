"""The client that drops what it is sent, in this process or as one of its own.

Owns plain HTTP/1.1 on any number of connections. With MSG_TRUNC the kernel takes bytes from a TCP
socket without copying them (tcp(7)), so the client costs as little as a client can, and what is
measured is the server. `python -m bench.discard PORT TARGET CONNECTIONS NICE` is a load beside
which others are measured: it writes a line once every connection is being answered, goes on until
its standard input ends, and says in one line of JSON what it was sent.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bench.clients import ClientError, LoadRun, Streamed, TooShortError
from bench.percentiles import percentiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers import Endpoint

TIMEOUT_S = 30.0
HEAD_BYTES_MAX = 65_536
HEAD_RECV_BYTES = 8_192
"""Bytes asked of the recv(2) that takes the head: the whole of a small answer with it."""

DISCARD_BYTES = 4 << 20
"""Bytes asked of one recv(2) that drops: never the limit."""

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Download:
    """One connection that asks for the same again and again."""

    def __init__(self, port: int, target: str, buffer: memoryview, *, blocking: bool) -> None:
        self._request = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % target.encode()
        self._buffer = buffer
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.sock.settimeout(None)  # a timeout would poll(2) before every recv(2)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(blocking)
        self.nbytes = 0
        self.took_us: list[float] = []
        self._head = b""
        self._left: int | None = None
        self._asked_s = 0.0

    def ask(self) -> None:
        """Send the request, which any socket buffer holds."""
        self._asked_s = time.perf_counter()
        self._head, self._left = b"", None
        self.sock.sendall(self._request)

    def receive(self) -> bool:
        """Take once what is there; whether that ended an answer.

        Raises:
            BlockingIOError: nothing is there, and the socket does not wait.
            ClientError: this is no 200 with its whole body.
        """
        if self._left is None:
            self._left = self._receive_head()
        else:
            nbytes = min(self._left, DISCARD_BYTES)
            dropped = self.sock.recv_into(self._buffer, nbytes, socket.MSG_TRUNC)
            if not dropped:
                raise ClientError(f"the connection closed {self._left} bytes early")
            self._left -= dropped
            self.nbytes += dropped
        if self._left == 0:
            self.took_us.append((time.perf_counter() - self._asked_s) * 1e6)
        return self._left == 0

    def _receive_head(self) -> int | None:
        """Bytes left of the body, once the head is whole."""
        received = self.sock.recv(HEAD_RECV_BYTES)
        self._head += received
        if not received or len(self._head) > HEAD_BYTES_MAX:
            raise ClientError(f"no answer but {self._head[:80]!r}")
        fields, ended, begun = self._head.partition(b"\r\n\r\n")
        if not ended:
            return None
        length = _CONTENT_LENGTH.search(fields + b"\r\n")
        if not fields.startswith(b"HTTP/1.1 200 ") or length is None:
            raise ClientError(f"not a 200 with a length: {fields[:80]!r}")
        self.nbytes += len(begun)
        return int(length[1]) - len(begun)


def run_discard(port: int, target: str, *, connections: int, seconds: float) -> LoadRun:
    """Ask for `target` again and again, at least once, and drop every byte unread.

    One connection waits in recv(2) itself: an epoll_wait(2) before it would cost a system call.

    Raises:
        ClientError: an answer was not a 200 with its whole body.
    """
    buffer = memoryview(bytearray(DISCARD_BYTES))
    with ExitStack() as stack:
        downloads = [
            Download(port, target, buffer, blocking=connections == 1) for _ in range(connections)
        ]
        for download in downloads:
            stack.enter_context(download.sock)
        begun_s = time.perf_counter()
        if connections == 1:
            elapsed_s = _run_one(downloads[0], begun_s, seconds)
        else:
            _ask_all(downloads)
            _take_while(downloads, lambda: time.perf_counter() - begun_s < seconds)
            elapsed_s = time.perf_counter() - begun_s
    took_us = [took for download in downloads for took in download.took_us]
    if not took_us:
        raise TooShortError("no request was answered in time")
    nbytes = sum(download.nbytes for download in downloads)
    return LoadRun(len(took_us), nbytes, elapsed_s, percentiles(took_us), tuple(took_us))


def _run_one(download: Download, begun_s: float, seconds: float) -> float:
    """Whole answers until the time is over; the seconds they took."""
    while (elapsed_s := time.perf_counter() - begun_s) < seconds or not download.took_us:
        download.ask()
        while not download.receive():
            pass
    return elapsed_s


def _ask_all(downloads: list[Download]) -> None:
    for download in downloads:
        download.ask()


def _take_while(downloads: list[Download], goes_on: Callable[[], bool]) -> None:
    """Every connection takes what it is sent, until `goes_on` says no; asked at every wait."""
    by_fd = {download.sock.fileno(): download for download in downloads}
    with select.epoll(len(downloads)) as epoll:
        for fd in by_fd:
            epoll.register(fd, select.EPOLLIN)
        while goes_on():
            events = epoll.poll(TIMEOUT_S)
            if not events:
                raise ClientError(f"no byte for {TIMEOUT_S:.0f} s")
            for fd, _ in events:
                _take(by_fd[fd])


def _take(download: Download) -> None:
    """Everything that is there, up to the end of an answer, after which the next is asked for."""
    try:
        while not download.receive():
            pass
    except BlockingIOError:
        return
    download.ask()


@contextmanager
def streaming(endpoint: Endpoint, connections: int, *, nice: int = 0) -> Iterator[Streamed]:
    """`connections` that download over and over, in a process of its own while the block runs.

    Raises:
        ClientError: not every connection is answered.
    """
    streamed = Streamed()
    command = [sys.executable, "-m", "bench.discard", str(endpoint.port), endpoint.target]
    with subprocess.Popen(
        [*command, str(connections), str(nice)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise ClientError(f"{endpoint.name} does not answer {connections} connections")
            yield streamed
            told = json.loads(process.communicate()[0])  # its standard input ends here
        except BaseException:
            process.kill()
            raise
    streamed.bytes_per_s = told["nbytes"] / told["seconds"]


def main() -> None:
    """Load the server until standard input ends."""
    port, target, connections, nice = sys.argv[1:]
    os.nice(int(nice))
    buffer = memoryview(bytearray(DISCARD_BYTES))
    downloads = [
        Download(int(port), target, buffer, blocking=False) for _ in range(int(connections))
    ]
    stdin = select.poll()
    stdin.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
    _ask_all(downloads)
    _take_while(downloads, lambda: not all(download.nbytes for download in downloads))
    print("every connection is being answered", flush=True)
    begun_s = time.perf_counter()
    before = sum(download.nbytes for download in downloads)
    _take_while(downloads, lambda: not stdin.poll(0))
    seconds = time.perf_counter() - begun_s
    nbytes = sum(download.nbytes for download in downloads) - before
    print(json.dumps({"nbytes": nbytes, "seconds": seconds}))


if __name__ == "__main__":
    main()
