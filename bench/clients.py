"""The clients that were made to measure: wrk for HTTP/1.1, h2load for TLS.

Owns their command lines, and the reading of what they write. They hold their connections open and
run on the core the caller is pinned to.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.percentiles import Latencies, percentiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from bench.peers import Endpoint

CIPHER = "TLS_AES_128_GCM_SHA256"
"""The only one h2load offers, or servers with different preferences would do different work."""

WINDOW_BITS = 24
"""HTTP/2 windows of 16 MB, of a stream and of a connection: near what browsers and curl offer."""

SILENCE_SHARE_MAX, SILENCE_S_MAX = 0.1, 0.25
"""Of the time, and seconds, that h2load may see no answer at the end, beside the longest wait: it
neither opens a connection again that the server ended nor tells of it."""

WRK_SCRIPT = """\
done = function(summary, latency, requests)
    io.write(string.format("latencies: %d %d %d us of %d requests, %d bytes in %d us\\n",
        latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
        summary.requests, summary.bytes, summary.duration))
end
"""
"""wrk itself tells no percentile above the 99th. A script with `done` alone runs after the load."""

OPENSSL_CONF = f"""\
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.3
Ciphersuites = {CIPHER}
"""
"""wrk has no option for what h2load offers."""

LEAD_S, TAIL_S = 0.5, 0.3
"""Seconds that streams run before and after what is measured beside them."""

TIMEOUT_S = 60.0
"""After which a client that was told to end hangs."""

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_WRK_LINE = re.compile(
    r"^latencies: (\d+) (\d+) (\d+) us of (\d+) requests, (\d+) bytes in (\d+) us$", re.MULTILINE
)
_FAULTS = re.compile(r"^\s*(Socket errors: .*|Non-2xx or 3xx responses: .*)$", re.MULTILINE)
_STOPPED, _REPORTED = "Stopped all clients", "\nfinished in "
_H2LOAD_COUNTS = re.compile(
    r"^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, "
    r"(\d+) failed, (\d+) errored, (\d+) timeout$",
    re.MULTILINE,
)
_H2LOAD_PROTOCOL = (
    "TLS Protocol: TLSv1.3",
    f"Cipher: {CIPHER}",
    "Application protocol: h2",
)
_H2LOAD_SECONDS = re.compile(r"^finished in ([\d.]+)(us|ms|s), ", re.MULTILINE)
_H2LOAD_DATA = re.compile(r"^traffic: .* \((\d+)\) data$", re.MULTILINE)


class ClientError(Exception):
    """A server did not answer as it should have; figures would mean nothing."""


class TooShortError(ClientError):
    """Nothing was answered before the time was over; more of it may help."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What a client counted; `nbytes` are bytes of bodies, and of heads too where wrk asked."""

    answers: int
    nbytes: int
    seconds: float
    latencies: Latencies
    took_us: tuple[float, ...] = ()
    """Of every answer, where the client keeps it."""


@dataclass(slots=True)
class Streamed:
    """What a load beside the measurement was sent, once it has ended."""

    bytes_per_s: float = 0.0


def run_wrk(endpoint: Endpoint, *, connections: int, seconds: float) -> LoadRun:
    """Ask for `endpoint` over and over on `connections` connections of HTTP/1.1 from one thread.

    Raises:
        ClientError: wrk failed, or saw an error status or a socket error.
        TooShortError: no answer came in time.
    """
    with (
        tempfile.NamedTemporaryFile("w", suffix=".lua") as script,
        tempfile.NamedTemporaryFile("w", suffix=".cnf") as tls,
    ):
        script.write(WRK_SCRIPT)
        script.flush()
        tls.write(OPENSSL_CONF)
        tls.flush()
        duration = f"-d{math.ceil(seconds)}s"
        command = ["wrk", "-t1", f"-c{connections}", duration, "-s", script.name, endpoint.url]
        command += [option for field in endpoint.fields for option in ("-H", field)]
        return parse_wrk(
            _run(
                command,
                interrupt_after_s=seconds if seconds % 1 else None,
                environ={**os.environ, "OPENSSL_CONF": tls.name},
            )
        )


def _run(
    command: list[str],
    *,
    interrupt_after_s: float | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """What a client wrote; wrk, which counts whole seconds, reports early when interrupted."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        try:
            try:
                out, err = process.communicate(timeout=interrupt_after_s or TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        told = f"{' '.join(command)}: {process.returncode}: {err.strip() or out.strip()}"
        # h2load 1.52 may fail where its time is over before anything was answered.
        raise (TooShortError if _STOPPED in out and _REPORTED not in out else ClientError)(told)
    return out


def parse_wrk(report: str) -> LoadRun:
    """The figures of a report of wrk with `WRK_SCRIPT`.

    Raises:
        ClientError: the report tells of errors, or is none.
    """
    faults = _FAULTS.findall(report)
    if faults:
        raise ClientError("wrk: " + "; ".join(faults))
    line = _WRK_LINE.search(report)
    if line is None:
        raise ClientError(f"wrk wrote no report: {report.strip()}")
    p50_us, p99_us, p999_us, requests, nbytes, duration_us = map(int, line.groups())
    if requests == 0:
        raise TooShortError("wrk: no request was answered in time")
    latencies = Latencies(p50_us, p99_us, p999_us)
    return LoadRun(requests, nbytes, duration_us / 1e6, latencies)


def run_h2load(endpoint: Endpoint, *, connections: int, streams: int, seconds: float) -> LoadRun:
    """Ask for `endpoint` over HTTP/2 and TLS with `streams` requests open on every connection.

    The handshakes are part of the time: with a warm-up they would be part of neither the time nor
    the answers, but of the processor seconds.

    Raises:
        ClientError: h2load failed, its report is not one of answers alone, or they stopped early.
        TooShortError: no answer came in time.
    """
    with tempfile.TemporaryDirectory(prefix="h2load-") as directory:
        log_path = os.path.join(directory, "log")
        command = [
            *_h2load(endpoint, connections, streams, seconds),
            f"--log-file={log_path}",
        ]
        in_flight_max = connections * streams
        answers, nbytes, elapsed_s = parse_h2load(_run(command), in_flight_max=in_flight_max)
        with open(log_path, encoding="ascii") as log:
            took_us = parse_h2load_log(log, seconds)
    return LoadRun(answers, nbytes, elapsed_s, percentiles(took_us), tuple(took_us))


def _h2load(endpoint: Endpoint, connections: int, streams: int, seconds: float) -> list[str]:
    return [
        *("h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{round(seconds * 1e3)}ms"),
        *(f"-w{WINDOW_BITS}", f"-W{WINDOW_BITS}", f"--tls13-ciphers={CIPHER}"),
        *(f"--header={field}" for field in endpoint.fields),
        *("--npn-list=h2", endpoint.url),
    ]


@contextmanager
def streaming_h2load(
    endpoint: Endpoint, connections: int, seconds: float, *, nice: int = 0
) -> Iterator[Streamed]:
    """Load by `connections` of HTTP/2, each one answer after the other, in a process of its own.

    It begins `LEAD_S` before the block, which takes `seconds`, and goes on a little after it. What
    it was sent is told at the end.

    Raises:
        ClientError: h2load failed, or an answer did.
    """
    streamed = Streamed()
    command = _h2load(endpoint, connections, 1, LEAD_S + seconds + TAIL_S)
    with subprocess.Popen(
        ["nice", f"-n{nice}", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            time.sleep(LEAD_S)
            yield streamed
            report, _ = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            process.kill()
            raise
    counts, elapsed = _H2LOAD_COUNTS.search(report), _H2LOAD_SECONDS.search(report)
    data = _H2LOAD_DATA.search(report)
    if counts is None or elapsed is None or data is None or int(counts[5]) or int(counts[6]):
        raise ClientError(f"h2load: {counts[0] if counts else report.strip()}")
    streamed.bytes_per_s = int(data[1]) / (float(elapsed[1]) * _UNITS_US[elapsed[2]] / 1e6)


def parse_h2load_log(lines: Iterable[str], seconds: float) -> list[int]:
    """How many microseconds each answer took, by a log of a run of `seconds`.

    Raises:
        ClientError: there is no answer in it.
        TooShortError: there is none near its end; a longer run may tell a stall from an end.
    """
    rows = [(int(begun), int(took)) for begun, _, took in map(str.split, lines)]
    if not rows:
        raise ClientError("h2load: no answer in its log")
    answered_s = (max(map(sum, rows)) - min(begun for begun, _ in rows)) / 1e6
    took_us = [took for _, took in rows]
    silence_s_max = seconds * SILENCE_SHARE_MAX + SILENCE_S_MAX + max(took_us) / 1e6
    if seconds - answered_s > silence_s_max:
        raise TooShortError(f"h2load: answers for {answered_s:.2f} s of {seconds:.2f} s")
    return took_us


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
        raise TooShortError("h2load: no request was answered in time")
    for line in _H2LOAD_PROTOCOL:
        if f"\n{line}\n" not in report:
            raise ClientError(f"h2load: no line {line!r}: {report.strip()}")
    return done, int(data[1]), float(elapsed[1]) * _UNITS_US[elapsed[2]] / 1e6
