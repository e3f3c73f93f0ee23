"""The clients that measure: wrk for small answers, one that discards bytes for large ones.

Owns what a client saw: counts, seconds, latencies. Both hold their connections open and run on the
core the caller is pinned to.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.peers import Endpoint

TIMEOUT_S = 30.0
HEAD_BYTES_MAX = 65_536
DISCARD_BYTES = 4 << 20
"""Bytes asked of one recv(2) of the discarding client: never the limit."""

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m),")
_PERCENTILE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", re.MULTILINE)
_FAULTS = re.compile(r"^\s*(Socket errors: .*|Non-2xx or 3xx responses: .*)$", re.MULTILINE)
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class ClientError(Exception):
    """A server did not answer as it should have; figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class WrkRun:
    """What wrk counted."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class DiscardRun:
    """What the discarding client counted; `nbytes` are bytes of bodies."""

    answers: int
    nbytes: int
    seconds: float


def run_wrk(endpoint: Endpoint, *, connections: int, seconds: int) -> WrkRun:
    """Ask for `endpoint` over and over on `connections` connections from one thread.

    Raises:
        ClientError: wrk failed, or saw an error status or a socket error.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", endpoint.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClientError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return parse_wrk(done.stdout)


def parse_wrk(report: str) -> WrkRun:
    """The figures of a report of `wrk --latency`.

    Raises:
        ClientError: the report tells of errors, or is none.
    """
    faults = _FAULTS.findall(report)
    if faults:
        raise ClientError("wrk: " + "; ".join(faults))
    total = _REQUESTS.search(report)
    latencies = {
        percent: float(number) * _UNITS_US[unit]
        for percent, number, unit in _PERCENTILE.findall(report)
    }
    if total is None or latencies.keys() != {"50", "99"}:
        raise ClientError(f"wrk wrote no report: {report.strip()}")
    return WrkRun(
        requests=int(total[1]),
        seconds=float(total[2]) * _UNITS_US[total[3]] / 1e6,
        p50_us=latencies["50"],
        p99_us=latencies["99"],
    )


def run_discard(endpoint: Endpoint, *, seconds: float) -> DiscardRun:
    """Ask for `endpoint` again and again on one connection, and drop every byte unread.

    With MSG_TRUNC the kernel takes bytes from a TCP socket without copying them (tcp(7)), so the
    client costs as little as a client can, and what is measured is the server.

    Raises:
        ClientError: an answer was not a 200 with its whole body.
    """
    request = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % endpoint.target.encode()
    buffer = memoryview(bytearray(DISCARD_BYTES))
    answers = nbytes = 0
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=TIMEOUT_S) as sock:
        sock.settimeout(None)  # a timeout would poll(2) before every recv(2)
        begun_s = time.perf_counter()
        while (elapsed_s := time.perf_counter() - begun_s) < seconds or not answers:
            sock.sendall(request)
            nbytes += _discard_answer(sock, buffer)
            answers += 1
    return DiscardRun(answers, nbytes, elapsed_s)


def _discard_answer(sock: socket.socket, buffer: memoryview) -> int:
    """Receive one answer, the body dropped by the kernel; the bytes of its body."""
    head = b""
    while b"\r\n\r\n" not in head:
        received = sock.recv(4_096)
        head += received
        if not received or len(head) > HEAD_BYTES_MAX:
            raise ClientError(f"no answer but {head[:80]!r}")
    fields, _, begun = head.partition(b"\r\n\r\n")
    length = _CONTENT_LENGTH.search(fields + b"\r\n")
    if not fields.startswith(b"HTTP/1.1 200 ") or length is None:
        raise ClientError(f"not a 200 with a length: {fields[:80]!r}")
    nbytes = int(length[1])
    left = nbytes - len(begun)
    while left > 0:
        dropped = sock.recv_into(buffer, min(left, DISCARD_BYTES), socket.MSG_TRUNC)
        if not dropped:
            raise ClientError(f"the connection closed {left} bytes early")
        left -= dropped
    return nbytes
