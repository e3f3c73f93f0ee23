"""The servers that are measured: started on one core, stopped by their process ids.

Owns nginx with everything it writes in a temporary prefix, and the real `zerocopy serve` by way of
the tests' runner. nginx runs in the variants an operator would choose from; which of them is best
is measured, not believed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bench.workload import warm
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

SMALL_FILE = "small.bin"
LARGE_FILE = "large.bin"

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0

VARIANTS_SMALL = {
    "sendfile on, tcp_nopush on": "sendfile on; tcp_nopush on;",
    "sendfile on, tcp_nopush off": "sendfile on; tcp_nopush off;",
    "sendfile off": "sendfile off; tcp_nopush off; output_buffers 1 64k;",
}
"""By what an operator would call them; a copied 4 KB file costs one system call less than a sent
one, so sendfile is not always the best that nginx can do."""

VARIANTS_LARGE = {
    "sendfile on, sendfile_max_chunk 2m (default)": "sendfile on; tcp_nopush on;",
    "sendfile on, sendfile_max_chunk 0": "sendfile on; tcp_nopush on; sendfile_max_chunk 0;",
    "sendfile on, sendfile_max_chunk 1m": "sendfile on; tcp_nopush on; sendfile_max_chunk 1m;",
}

_CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    default_type application/octet-stream;
    tcp_nodelay on;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    keepalive_requests 1000000000;
    keepalive_time 24h;
    keepalive_timeout 3600s;
    client_body_temp_path {prefix}/client_body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
{locations}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask of one server; `pid` is the process that answers."""

    name: str
    port: int
    target: str
    pid: int

    @property
    def url(self) -> str:
        """Where it is, for a client that takes a URL."""
        return f"http://127.0.0.1:{self.port}{self.target}"


class Nginx:
    """nginx with one worker in `prefix`, serving two files in every variant."""

    def __init__(self, prefix: str, small: bytes, large: bytes) -> None:
        self._prefix = prefix
        os.makedirs(f"{prefix}/www")
        for name, content in ((SMALL_FILE, small), (LARGE_FILE, large)):
            with open(f"{prefix}/www/{name}", "wb") as file:
                file.write(content)
            warm(file.name)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._worker_pid = 0

    def __enter__(self) -> Self:
        """Start, and wait until it accepts."""
        configuration = f"{self._prefix}/nginx.conf"
        with open(configuration, "w", encoding="utf-8") as file:
            file.write(self._configuration())
        with open(f"{self._prefix}/error.log", "wb") as log:
            self._process = subprocess.Popen(
                ["nginx", "-p", self._prefix, "-c", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                self._process.wait()
                raise RuntimeError("nginx did not start: " + self._log_text())
            time.sleep(0.01)
        self._worker_pid = _children(self._process.pid)[0]
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Stop it, kindly first."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for pid in [*_children(self._process.pid), self._process.pid]:
                os.kill(pid, 9)
            self._process.wait()

    def small(self) -> dict[str, Endpoint]:
        """The small file, by variant."""
        return self._endpoints(VARIANTS_SMALL, "s", SMALL_FILE)

    def large(self) -> dict[str, Endpoint]:
        """The large file, by variant."""
        return self._endpoints(VARIANTS_LARGE, "l", LARGE_FILE)

    def _endpoints(self, variants: dict[str, str], letter: str, file: str) -> dict[str, Endpoint]:
        return {
            variant: Endpoint("nginx", self._port, f"/{letter}{index}/{file}", self._worker_pid)
            for index, variant in enumerate(variants)
        }

    def _configuration(self) -> str:
        locations = [
            f"        location /{letter}{index}/ {{ alias {self._prefix}/www/; {directives} }}"
            for letter, variants in (("s", VARIANTS_SMALL), ("l", VARIANTS_LARGE))
            for index, directives in enumerate(variants.values())
        ]
        return _CONFIGURATION.format(
            # A worker that changed to another user could not read the temporary directory.
            user="user root;" if os.geteuid() == 0 else "",
            prefix=self._prefix,
            port=self._port,
            locations="\n".join(locations),
        )

    def _accepts(self) -> bool:
        assert self._process is not None
        with socket.socket() as sock:
            accepted = sock.connect_ex(("127.0.0.1", self._port)) == 0
        return accepted and bool(_children(self._process.pid))

    def _log_text(self) -> str:
        with open(f"{self._prefix}/error.log", encoding="utf-8", errors="replace") as file:
            return file.read().strip()


@contextlib.contextmanager
def zerocopy(root: str) -> Iterator[RunningServer]:
    """`zerocopy serve` with one worker over `root`."""
    with RunningServer(root, ZEROCOPY_SERVER_WORKERS="1") as server:
        yield server


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run the block, and whatever it starts for good, on `core` (sched_setaffinity(2))."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Meter:
    """Processor time from its construction to `read`: the server's, and that of strangers."""

    def __init__(self, pid: int, cores: frozenset[int]) -> None:
        self._pid = pid
        self._cores = cores
        self._begun = self._sample()

    def read(self) -> tuple[float, float]:
        """The server's processor seconds, and the share of all `cores` that strangers took."""
        server_s, client_s, busy_s, wall_s = (
            after - before for before, after in zip(self._begun, self._sample(), strict=True)
        )
        others_s = max(0.0, busy_s - server_s - client_s)
        return server_s, others_s / (wall_s * len(self._cores))

    def _sample(self) -> tuple[float, float, float, float]:
        times = os.times()
        client_s = times.user + times.system + times.children_user + times.children_system
        return cpu_seconds(self._pid), client_s, _busy_seconds(self._cores), time.monotonic()


def cpu_seconds(pid: int) -> float:
    """Processor seconds, user and system, of all threads of a process until now (proc(5))."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _busy_seconds(cores: frozenset[int]) -> float:
    """Seconds in which `cores` ran anything at all since boot: neither idle nor waiting for I/O.

    Time the hypervisor gave to another machine (steal) counts as busy: it disturbs as much.
    """
    ticks = 0
    with open("/proc/stat", encoding="ascii") as file:
        for line in file:
            name, *values = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
                ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def missing(tool: str) -> str | None:
    """Why `tool` cannot be used and what to do about it, or None where it is there."""
    if shutil.which(tool) is not None:
        return None
    return f"{tool} is not on PATH: apt-get install {tool}"


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
