"""The clients that measure: wrk and a client that discards bytes for HTTP/1.1, h2load for HTTP/2.

Owns what a client saw: counts, seconds, latencies. All hold their connections open and run on the
core the caller is pinned to.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.peers import Endpoint

TIMEOUT_S = 30.0
HEAD_BYTES_MAX = 65_536
DISCARD_BYTES = 4 << 20
"""Bytes asked of one recv(2) of the discarding client: never the limit."""

CIPHER = "TLS_AES_128_GCM_SHA256"
"""The only one h2load offers, or servers with different preferences would do different work."""

WINDOW_BITS = 24
"""HTTP/2 windows of 16 MB, of a stream and of a connection: near what browsers and curl offer."""

SILENCE_SHARE_MAX, SILENCE_S_MAX = 0.1, 0.25
"""Of the time, and seconds, that h2load may see no answer at the end, beside the longest wait: it
neither opens a connection again that the server ended nor tells of it."""

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}
_REQUESTS = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m),")
_PERCENTILE = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", re.MULTILINE)
_FAULTS = re.compile(r"^\s*(Socket errors: .*|Non-2xx or 3xx responses: .*)$", re.MULTILINE)
_H2LOAD_COUNTS = re.compile(
    r"^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, "
    r"(\d+) failed, (\d+) errored, (\d+) timeout$",
    re.MULTILINE,
)
_H2LOAD_SECONDS = re.compile(r"^finished in ([\d.]+)(us|ms|s), ", re.MULTILINE)
_H2LOAD_DATA = re.compile(r"^traffic: .* \((\d+)\) data$", re.MULTILINE)
_H2LOAD_PROTOCOL = (
    "TLS Protocol: TLSv1.3",
    f"Cipher: {CIPHER}",
    "Application protocol: h2",
)
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


@dataclass(frozen=True, slots=True)
class H2loadRun:
    """What h2load counted; `nbytes` are bytes of bodies, of unfinished answers too."""

    requests: int
    nbytes: int
    seconds: float
    p50_us: float
    p99_us: float


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


def run_h2load(endpoint: Endpoint, *, connections: int, streams: int, seconds: float) -> H2loadRun:
    """Ask for `endpoint` over HTTP/2 and TLS with `streams` requests open on every connection.

    The handshakes are part of the time: with a warm-up they would be part of neither the time nor
    the answers, but of the processor seconds.

    Raises:
        ClientError: h2load failed, its report is not one of answers alone, or they stopped early.
    """
    with tempfile.TemporaryDirectory(prefix="h2load-") as directory:
        log_path = os.path.join(directory, "log")
        command = [
            *("h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{round(seconds * 1e3)}ms"),
            *(f"-w{WINDOW_BITS}", f"-W{WINDOW_BITS}", f"--tls13-ciphers={CIPHER}"),
            *("--npn-list=h2", f"--log-file={log_path}", endpoint.url),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClientError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        requests, nbytes, elapsed_s = parse_h2load(done.stdout, in_flight_max=connections * streams)
        with open(log_path, encoding="ascii") as log:
            p50_us, p99_us = parse_h2load_log(log, seconds)
    return H2loadRun(requests, nbytes, elapsed_s, p50_us, p99_us)


def parse_h2load_log(lines: Iterable[str], seconds: float) -> tuple[float, float]:
    """The median and the 99th percentile, in µs, of a log of a run of `seconds`.

    Raises:
        ClientError: there is no answer in it, or none near its end.
    """
    rows = [(int(begun), int(took)) for begun, _, took in map(str.split, lines)]
    if not rows:
        raise ClientError("h2load: no answer in its log")
    answered_s = (max(map(sum, rows)) - min(begun for begun, _ in rows)) / 1e6
    took_us = sorted(took for _, took in rows)
    silence_s_max = seconds * SILENCE_SHARE_MAX + SILENCE_S_MAX + took_us[-1] / 1e6
    if seconds - answered_s > silence_s_max:
        raise ClientError(f"h2load: answers for {answered_s:.2f} s of {seconds:.2f} s")
    return took_us[len(took_us) // 2], took_us[len(took_us) * 99 // 100]


def parse_h2load(report: str, *, in_flight_max: int) -> tuple[int, int, float]:
    """Requests answered, bytes of bodies and seconds of a report of `h2load --duration`.

    It ends with at most `in_flight_max` requests unanswered; more of them were lost on the way.

    Raises:
        ClientError: the report tells of errors, lost requests or another protocol, or is none.
    """
    counts, elapsed = _H2LOAD_COUNTS.search(report), _H2LOAD_SECONDS.search(report)
    data = _H2LOAD_DATA.search(report)
    if counts is None or elapsed is None or data is None:
        raise ClientError(f"h2load wrote no report: {report.strip()}")
    _, started, done, succeeded, failed, errored, timeout = map(int, counts.groups())
    if failed or errored or timeout or succeeded != done or started - done > in_flight_max:
        raise ClientError(f"h2load: {counts[0]}")
    if done == 0:
        raise ClientError("h2load: no request was answered in time")
    for line in _H2LOAD_PROTOCOL:
        if f"\n{line}\n" not in report:
            raise ClientError(f"h2load: no line {line!r}: {report.strip()}")
    return done, int(data[1]), float(elapsed[1]) * _UNITS_US[elapsed[2]] / 1e6


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
