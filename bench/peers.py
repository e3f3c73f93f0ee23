"""The servers that are measured: started on one core, stopped by their process ids.

Owns nginx with everything it writes in a temporary prefix, Hypercorn as it is released, and the
real `zerocopy serve` by way of the tests' runner. nginx runs in the variants an operator would
choose from; which of them is best is measured, not believed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from bench.workload import warm
from tests.certificate import certificate_files
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PACKAGES = {"h2load": "nghttp2-client"}
"""Debian's, where it is not called as the tool."""

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

VARIANTS_TLS_SMALL = {
    "defaults": "",
    "http2_chunk_size 16k, output_buffers 1 64k": "http2_chunk_size 16k; output_buffers 1 64k;",
}

VARIANTS_TLS_LARGE = {
    "defaults": "",
    "http2_chunk_size 16k": "http2_chunk_size 16k;",
    "http2_chunk_size 16k, output_buffers 2 256k": ("http2_chunk_size 16k; output_buffers 2 256k;"),
}
"""A frame of 16 KiB is the largest that h2load, curl and browsers accept."""

VARIANTS = {
    "small": VARIANTS_SMALL,
    "large": VARIANTS_LARGE,
    "tls-small": VARIANTS_TLS_SMALL,
    "tls-large": VARIANTS_TLS_LARGE,
}
"""By the name of the question, which is also the first part of a location's name."""

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
    ssl_protocols TLSv1.3;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        listen 127.0.0.1:{tls_port} ssl http2 backlog=1024;
        ssl_certificate {cert_path};
        ssl_certificate_key {key_path};
{locations}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to ask of one server; `pid` is the process that answers.

    Over TLS it speaks HTTP/2, else HTTP/1.1.
    """

    name: str
    port: int
    target: str
    pid: int
    is_tls: bool = False

    @property
    def url(self) -> str:
        """Where it is, for a client that takes a URL."""
        scheme = "https" if self.is_tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}{self.target}"


class _Peer:
    """A server in a process of its own, with a directory for everything it writes."""

    name: ClassVar[str]

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        os.makedirs(prefix)
        self._port = _free_port()
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
            for pid in [*_children(self._process.pid), self._process.pid]:
                os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def _log_text(self) -> str:
        with open(f"{self._prefix}/error.log", encoding="utf-8", errors="replace") as file:
            return file.read().strip()


class Nginx(_Peer):
    """nginx with one worker in `prefix`, serving two files in every variant."""

    name = "nginx"

    def __init__(self, prefix: str, small: bytes, large: bytes) -> None:
        super().__init__(prefix)
        os.makedirs(f"{prefix}/www")
        for name, content in (("small.bin", small), ("large.bin", large)):
            with open(f"{prefix}/www/{name}", "wb") as file:
                file.write(content)
            warm(file.name)
        self._tls_port = _free_port()

    def endpoints(self, question: str) -> dict[str, Endpoint]:
        """Where the file of that question is, by variant."""
        worker_pid = _children(self.pid)[0]
        file = f"{question.removeprefix('tls-')}.bin"
        is_tls = question.startswith("tls-")
        port = self._tls_port if is_tls else self._port
        return {
            variant: Endpoint(self.name, port, f"/{question}-{index}/{file}", worker_pid, is_tls)
            for index, variant in enumerate(VARIANTS[question])
        }

    def _command(self) -> list[str]:
        path = f"{self._prefix}/nginx.conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(self._configuration())
        return ["nginx", "-p", self._prefix, "-c", path]

    def _configuration(self) -> str:
        locations = [
            f"        location /{question}-{index}/ {{ alias {self._prefix}/www/; {directives} }}"
            for question, variants in VARIANTS.items()
            for index, directives in enumerate(variants.values())
        ]
        cert_path, key_path = certificate_files()
        return _CONFIGURATION.format(
            # A worker that changed to another user could not read the temporary directory.
            user="user root;" if os.geteuid() == 0 else "",
            prefix=self._prefix,
            port=self._port,
            tls_port=self._tls_port,
            cert_path=cert_path,
            key_path=key_path,
            locations="\n".join(locations),
        )

    def _accepts(self) -> bool:
        return super()._accepts() and bool(_children(self.pid))


class StockHypercorn(_Peer):
    """Hypercorn as it is released, with the same application over `root`."""

    name = "stock Hypercorn"

    def __init__(self, prefix: str, root: str) -> None:
        super().__init__(prefix)
        self._root = root

    def endpoint(self, target: str) -> Endpoint:
        """Where to ask for `target`."""
        return Endpoint(self.name, self._port, target, self.pid, is_tls=True)

    def _command(self) -> list[str]:
        paths = (self._root, *certificate_files())
        return [sys.executable, "-m", "bench.stock_hypercorn", str(self._port), *paths]


@contextlib.contextmanager
def zerocopy(root: str, *, is_tls: bool) -> Iterator[RunningServer]:
    """`zerocopy serve` with one worker over `root`, with the tests' certificate over TLS."""
    use_tls = "true" if is_tls else "false"
    with RunningServer(root, ZEROCOPY_SERVER_WORKERS="1", USE_TLS=use_tls) as server:
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


def missing(tool: str) -> str | None:
    """Why `tool` cannot be used and what to do about it, or None where it is there."""
    if shutil.which(tool) is not None:
        return None
    return f"{tool} is not on PATH: apt-get install {PACKAGES.get(tool, tool)}"


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
