"""An honest client in a process of its own: two kept connections, a steady rate, right bytes.

`python -m tests.slow.honest` reads `Settings` as one line of JSON, then a number of seconds a line.
For each it asks for so long and answers with one line: how long each answer took, in seconds from
when its request was due, so that a server that stands still is seen by every request meant for
that time. `Honest` is the other end of the pipe.
"""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.certificate import authority
from tests.h2client import H2Client
from tests.server import RunningServer, connect_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONNECTIONS = 2
RATE = 200
"""Requests a second, over all connections."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Whom to ask, for what, and the exact content to expect."""

    port: int
    target: str
    content_hex: str
    is_tls: bool
    ca_pem: str


class _Elsewhere(RunningServer):
    """A TLS server that another process runs."""

    def __init__(self, port: int, ca_pem: str) -> None:
        self.tls_port = port
        self._context = ssl.create_default_context(cadata=ca_pem)
        self._context.set_alpn_protocols(["h2"])

    def connect_tls(
        self, alpn: Sequence[str], receive_buffer_bytes: int | None = None
    ) -> ssl.SSLSocket:
        """A verified connection."""
        assert list(alpn) == ["h2"]
        sock = connect_to(self.tls_port, receive_buffer_bytes)
        return self._context.wrap_socket(sock, server_hostname="127.0.0.1")


def http1(settings: Settings) -> Callable[[], None]:
    """A kept connection of HTTP/1.1; the function asks once on it."""
    content = bytes.fromhex(settings.content_hex)
    request = f"GET {settings.target} HTTP/1.1\r\nHost: t\r\n\r\n".encode()
    sock = connect_to(settings.port)

    def ask() -> None:
        sock.sendall(request)
        received = sock.recv(1 << 16)
        while (end := received.find(b"\r\n\r\n")) < 0 or len(received) < end + 4 + len(content):
            data = sock.recv(1 << 16)
            assert data, "the connection was closed"
            received += data
        assert received.startswith(b"HTTP/1.1 200 "), received[:100]
        assert received[end + 4 :] == content, "wrong bytes"

    return ask


def http2(settings: Settings) -> Callable[[], None]:
    """A kept connection of HTTP/2 over TLS; the function asks once on it."""
    content = bytes.fromhex(settings.content_hex)
    client = H2Client(_Elsewhere(settings.port, settings.ca_pem), connection_window=1 << 24)

    def ask() -> None:
        answer = client.ask(settings.target)
        assert answer.status == 200
        assert answer.content == content, "wrong bytes"
        client.events.clear()

    return ask


def ask_steadily(asks: Sequence[Callable[[], None]], seconds: float) -> list[float]:
    """Ask on every connection at its share of `RATE`; the delays."""
    delays_s: list[float] = []
    faults: list[BaseException] = []
    period_s = len(asks) / RATE
    begun_s = time.monotonic() + 0.05

    def run(index: int) -> None:
        due_s = begun_s + index / RATE
        try:
            while due_s < begun_s + seconds:
                time.sleep(max(0.0, due_s - time.monotonic()))
                asks[index]()
                delays_s.append(time.monotonic() - due_s)
                due_s += period_s
        except BaseException as error:  # noqa: BLE001 - raised below, in the main thread
            faults.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(asks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fault in faults:
        raise fault
    return delays_s


def main() -> None:
    """Serve the pipe until it is closed."""
    settings = Settings(**json.loads(sys.stdin.readline()))
    connect = http2 if settings.is_tls else http1
    asks = [connect(settings) for _ in range(CONNECTIONS)]
    for ask in asks:
        ask()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(ask_steadily(asks, float(line))) + "\n")
        sys.stdout.flush()


class Delays(NamedTuple):
    """Percentiles of one round, in milliseconds, and how many answers there were."""

    p50_ms: float
    p99_ms: float
    answers: int

    @classmethod
    def of(cls, delays_s: Sequence[float]) -> Delays:
        """The percentiles of `delays_s`."""
        ordered = sorted(delays_s)
        return cls(
            1e3 * ordered[len(ordered) // 2],
            1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
            len(ordered),
        )

    @classmethod
    def median_of(cls, rounds: Sequence[Delays]) -> Delays:
        """The medians of several rounds."""
        return cls(
            median(one.p50_ms for one in rounds),
            median(one.p99_ms for one in rounds),
            sum(one.answers for one in rounds),
        )


class Honest:
    """The process, and its connections, for as long as the block runs."""

    def __init__(self, port: int, target: str, content: bytes, *, is_tls: bool = False) -> None:
        ca_pem = authority().cert_pem.bytes().decode()
        self._settings = Settings(port, target, content.hex(), is_tls, ca_pem)

    def __enter__(self) -> Self:
        """Start; the connections are made before the first round."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.slow.honest"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(json.dumps(asdict(self._settings)))
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pipe, at which the process ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.stdout.close()

    def measure(self, seconds: float) -> Delays:
        """One round; every answer came, and was right."""
        self._write(str(seconds))
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the honest client was not answered, or got wrong bytes; see standard error"
        delays_s = json.loads(line)
        assert len(delays_s) >= int(seconds * RATE) - CONNECTIONS
        return Delays.of(delays_s)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


if __name__ == "__main__":
    socket.setdefaulttimeout(20)
    main()
