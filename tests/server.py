"""The real `zerocopy serve` on a free port, for black-box tests."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.certificate import certificate_files, client_context, shared_context
from tests.forkserver import Forked

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_TIMEOUT_S = 45.0
"""A start takes a second; a machine that is busy otherwise takes its time, below a test's 60 s."""

STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as a client saw it; field names are lower-case."""

    status: int
    fields: dict[str, str]
    content: bytes


class RunningServer:
    """Starts `zerocopy serve` over `root`; waits for its `ready` line, never for time to pass.

    `environ` are options as environment variables (`ZEROCOPY_LIMITS_COLUMNS_MAX`). With
    `USE_TLS="true"` or `ZEROCOPY_TLS_PORT` it has the certificate of `tests.certificate`. `under`
    is a command that executes the server in its place.

    Nobody can set a change time, so nothing has to settle: a past day is closed as soon as no time
    of its files lies ahead. Tests whose past days are still written say another `settle_s`.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, under: Sequence[str] = (), **environ: str
    ) -> None:
        self._command = [*under, sys.executable, "-m", "zerocopy", "serve"]
        self.is_tls = environ.get("USE_TLS") == "true"
        if self.is_tls or "ZEROCOPY_TLS_PORT" in environ:
            names = ("SSL_CERT_PATH", "SSL_PRIVATE_FILE")
            environ = {**dict(zip(names, certificate_files(), strict=True)), **environ}
        self._environ: dict[str, str] = {
            **{name: value for name, value in os.environ.items() if name.startswith("COV")},
            "PATH": os.environ["PATH"],
            "DATA_PATH": os.fspath(root),
            "USE_TLS": "false",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "METRICS_PORT": "0",
            "ZEROCOPY_CONFIG": os.devnull,
            "ZEROCOPY_LOG_FORMAT": "json",
            "ZEROCOPY_DATA_SETTLE_S": "0",
            "ZEROCOPY_SERVER_DRAIN_IDLE_S": "0",  # or each stop would wait for idle clients
            # A line that a test waits for is not to be one too many for what others have asked.
            "ZEROCOPY_LOG_EVENTS_PER_SECOND_MAX": "1000",
            **environ,
        }
        self.log = tempfile.NamedTemporaryFile(prefix="zerocopy-", suffix=".log")  # noqa: SIM115
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.port = 0
        """Of the main listener; it is one of the next two."""
        self.plain_port = 0
        self.tls_port = 0
        self.metrics_port = 0

    def __enter__(self) -> Self:
        """Start, and wait until every worker accepts; for its root the server waits by itself."""
        self.process = self.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while (ready := self.event("ready") or self.event("waiting_for_data_root")) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                told = self.log_text()
                self.log.close()
                raise AssertionError("the server did not start: " + told)
            time.sleep(0.01)
        self.port = port_of(ready["address"])
        self.plain_port = port_of(ready.get("plain", "" if self.is_tls else ready["address"]))
        self.tls_port = port_of(ready.get("tls", ready["address"] if self.is_tls else ""))
        self.metrics_port = port_of(ready["metrics"])
        return self

    def start(self) -> subprocess.Popen[bytes] | Forked:
        """Start, and wait for nothing; one process at a time, or nobody ends the first."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.process = self._launch()
        return self.process

    def _launch(self) -> subprocess.Popen[bytes] | Forked:
        return subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stderr=self.log,
        )

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop, if it still runs; it must have drained, unless the test has failed already."""
        with self.log:
            if self.process is None or self.process.poll() is not None:
                return
            code, told = self.stop(), self.log_text()
            assert code == 0 or _error is not None, told

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The process ids of the workers that live now."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as when a machine dies; its ports are free then.

        A killed worker listens until the kernel has closed its files. Until then bind(2) to its
        port fails, and a client that connects gets no response.
        """
        with contextlib.ExitStack() as stack:
            dying, poller = [], select.poll()
            for pid in [self.pid, *self.worker_pids()]:
                descriptor = os.pidfd_open(pid)
                stack.callback(os.close, descriptor)
                dying.append(descriptor)
            for descriptor in dying:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            for descriptor in dying:
                poller.register(descriptor, select.POLLIN)
                poller.poll()  # pytest's time-out ends it
                poller.unregister(descriptor)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in [*self.worker_pids(), self.pid]:
                os.kill(pid, 9)
            raise

    def log_text(self) -> str:
        """Every whole line of standard error so far.

        A write(2) that crosses a page of the file is seen by a reader page by page, so the end
        may be a piece of a line.
        """
        with open(self.log.name, "rb") as file:
            lines, newline, _piece = file.read().rpartition(b"\n")
        return (lines + newline).decode()

    def events(self) -> list[dict[str, str]]:
        """The log lines that are JSON."""
        return [json.loads(line) for line in self.log_text().splitlines() if line.startswith("{")]

    def event(self, name: str) -> dict[str, str] | None:
        """The first log event of that name."""
        return next((event for event in self.events() if event["event"] == name), None)

    def logged(self, name: str, times: int = 1) -> list[dict[str, str]]:
        """The events of that name, once there are so many: who logs does not wait for the log."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while len(events := [event for event in self.events() if event["event"] == name]) < times:
            assert time.monotonic() < deadline_s, f"{len(events)} of {times} {name}"
            time.sleep(0.02)
        return events

    def get(
        self, target: str, *, method: str = "GET", fields: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own to the main listener, by http.client."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        if self.is_tls:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=20, context=client_context(["http/1.1"])
            )
        try:
            connection.request(method, target, headers=dict(fields or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    def metric(self, sample: str) -> float:
        """The sum of the samples of /metrics that have this name and at least these labels.

        Such as `zerocopy_connections`, whatever their transport, or
        `zerocopy_sent_bytes_total{path="copy"}`.
        """
        name, labels = _series(sample)
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=20)
        try:
            # That metric alone: the whole page takes the supervisor 4 ms, and `poll` asks often.
            connection.request("GET", f"/metrics?name%5B%5D={name}")
            page = connection.getresponse().read().decode()
        finally:
            connection.close()
        found = [
            float(value)
            for series, _, value in (line.rpartition(" ") for line in page.splitlines())
            if series.partition("{")[0] == name and labels <= _series(series)[1]
        ]
        assert found, f"no sample {sample}"
        return sum(found)

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A raw connection to the main listener; a small buffer makes a slow reader felt soon."""
        return connect_to(self.port, receive_buffer_bytes)

    def connect_tls(
        self, alpn: Sequence[str], receive_buffer_bytes: int | None = None
    ) -> ssl.SSLSocket:
        """A TLS connection; verified, and an end without close_notify is an error (SSLEOFError)."""
        sock = connect_to(self.tls_port, receive_buffer_bytes)
        try:
            return shared_context(*alpn).wrap_socket(
                sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False
            )
        except OSError:
            sock.close()
            raise


class ForkedServer(RunningServer):
    """The same, forked off a process that has imported all of it: a fifth of the processor time.

    For tests whose subject is what a server answers, not how its processes come to be. See
    `tests.forkserver` for the difference.
    """

    def _launch(self) -> Forked:
        with open(os.devnull, "r+b") as nothing:
            streams = (nothing.fileno(), nothing.fileno(), self.log.fileno())
            return Forked(["serve"], self._environ, streams)


def port_of(address: str) -> int:
    """The port of `host:port`; 0 where there is none."""
    return int(address.rpartition(":")[2] or 0)


def connect_to(port: int, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A TCP connection to a port of this machine, with a timeout."""
    sock = socket.socket()
    # As every client has it: else two small writes in a row cost 40 ms (RFC 1122, 4.2.3.2).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.settimeout(20)
    try:
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def is_refused(port: int) -> bool:
    """Whether the kernel refuses a new connection to a port of this machine."""
    # A socket of its own: one that was let in says EISCONN from then on.
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def open_descriptors(pid: int) -> int:
    """How many descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_bytes(pid: int) -> int:
    """The resident set of a process now."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write_column(path: str, values: list[int] | list[float], code: str) -> None:
    """Write a day file of records in struct format `code` (I, f, Q), little-endian."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack(f"<{len(values)}{code}", *values))


def _series(text: str) -> tuple[str, set[str]]:
    """The name of a series and its labels, `status="200"` each."""
    name, _, labels = text.rstrip("}").partition("{")
    return name, set(labels.split(",")) - {""}
