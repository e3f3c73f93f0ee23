"""The servers that are measured: started on one core, stopped by their process ids.

Owns what is common to them, Hypercorn as it is released, uvicorn with what one would write for it,
and the real `zerocopy serve` by way of the tests' runner. nginx has a module of its own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from tests.certificate import certificate_files
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGES = {"h2load": "nghttp2-client"}
"""Debian's, where it is not called as the tool."""

MODULES = {
    **dict.fromkeys(("uvicorn", "polars", "duckdb"), "pip install -e '.[bench]'"),
    **dict.fromkeys(
        ("httpx", "pandas", "pyarrow", "requests", "websockets"), "pip install -e '.[dev]'"
    ),
    "obstore": "pip install 'zerocopy[s3]'",
    "chdb": "pip install chdb, which takes 0.5 GB",
}
"""Tools that are packages of Python, and how to get them."""

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask of one server; `pids` are all its processes.

    Over TLS it speaks HTTP/2 if it can, else HTTP/1.1. `fields` are sent with each request.
    """

    name: str
    port: int
    target: str
    pids: tuple[int, ...]
    is_tls: bool = False
    has_http2: bool = True
    fields: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where it is, for a client that takes a URL."""
        scheme = "https" if self.is_tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}{self.target}"


class Peer:
    """A server in a process of its own, with a directory for everything it writes."""

    name: ClassVar[str]

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        os.makedirs(prefix)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until it accepts."""
        with open(f"{self._prefix}/error.log", "wb") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._kill()
                raise RuntimeError(f"{self.name} did not start: {self._log_text()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, kindly first."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill()

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _accepts(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self._port)) == 0

    def _kill(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            for pid in [*children_of(self._process.pid), self._process.pid]:
                os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def _log_text(self) -> str:
        with open(f"{self._prefix}/error.log", encoding="utf-8", errors="replace") as file:
            return file.read().strip()


class PythonPeer(Peer):
    """A module of this folder that serves `root` on one path: `PORT ROOT [CERT KEY]`."""

    module: ClassVar[str]
    has_http2: ClassVar[bool]

    def __init__(self, prefix: str, root: str, *, is_tls: bool) -> None:
        super().__init__(prefix)
        self._root = root
        self._is_tls = is_tls

    def endpoint(self, target: str) -> Endpoint:
        """Where to ask for `target`."""
        pids = (self.pid,)
        return Endpoint(self.name, self._port, target, pids, self._is_tls, self.has_http2)

    def _command(self) -> list[str]:
        paths = certificate_files() if self._is_tls else ()
        return [sys.executable, "-m", self.module, str(self._port), self._root, *paths]


class StockHypercorn(PythonPeer):
    """Hypercorn as it is released, with the same application."""

    name = "stock Hypercorn"
    module = "bench.stock_hypercorn"
    has_http2 = True


class Uvicorn(PythonPeer):
    """uvicorn with a plain application; it knows no HTTP/2, and speaks HTTP/1.1 over TLS."""

    name = "uvicorn"
    module = "bench.uvicorn_server"
    has_http2 = False


@contextlib.contextmanager
def zerocopy(
    root: str, *, is_tls: bool, workers: int = 1, environ: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """`zerocopy serve` over `root`, with the tests' certificate over TLS."""
    options = {"ZEROCOPY_SERVER_WORKERS": str(workers), "USE_TLS": "true" if is_tls else "false"}
    with RunningServer(root, **options, **(environ or {})) as server:
        yield server


@contextlib.contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Run the block, and what it starts for good, on `cores` (sched_setaffinity(2)).

    It is this thread that is pinned, so two threads may start what runs on a core of their own.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def pin_process(pid: int, core: int) -> None:
    """Move every thread of a process that runs already to `core`; later ones inherit it."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {core})


def missing(tool: str) -> str | None:
    """Why `tool` cannot be used and what to do about it, or None where it is there."""
    if tool in MODULES:
        found = importlib.util.find_spec(tool) is not None
        return None if found else f"{tool} is not installed: {MODULES[tool]}"
    if shutil.which(tool) is not None:
        return None
    return f"{tool} is not on PATH: apt-get install {PACKAGES.get(tool, tool)}"


def children_of(pid: int) -> list[int]:
    """The processes that `pid` started and that live."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def free_port() -> int:
    """A port of this machine on which nobody listens now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
