"""Real reverse proxies in front of a server: Debian's caddy and HAProxy, on a free port.

caddy forwards by the HTTP/1.1 transport of Go's net/http, which is the one cloudflared forwards by,
with the same pool: 100 idle connections, kept for 90 s. So what caddy makes of an answer, of a
connection that closes and of a client that leaves is what a tunnel makes of them.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, ClassVar, Self

from tests.ports import accepts, free_port
from tests.server import Answer, connect_to

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0

CADDY_CONFIGURATION = """\
{{
	admin off
	auto_https off
	grace_period 1s
}}
http://:{port} {{
	bind 127.0.0.1
	reverse_proxy 127.0.0.1:{origin_port} {{
		transport http {{
			dial_timeout 30s
			keepalive {keep_alive_s}s
			keepalive_idle_conns 100
			keepalive_idle_conns_per_host 100
		}}
	}}
}}
"""

HAPROXY_CONFIGURATION = """\
global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
    option http-no-delay
    http-reuse always
    retries 20
    retry-on conn-failure empty-response
frontend proxy
    bind 127.0.0.1:{port}
    option forwardfor
    default_backend zerocopy
backend zerocopy
    server one 127.0.0.1:{origin_port} pool-purge-delay {keep_alive_s}s pool-max-conn 100
"""
"""`retry-on empty-response` is what Go's transport does by itself: a request that met a connection
which was just closing is sent again (RFC 9112 section 9.3.1). Each kept connection of a worker
that dies costs one attempt, so there are more `retries` than kept connections: with three, a
request that came amid the death of a process met four of them and got a 502.

`http-no-delay` sends each event on as it comes; without it an event waits 200 ms for more."""


class ReverseProxy:
    """Starts a proxy in front of `origin_port`; it keeps idle connections for `keep_alive_s`."""

    name: ClassVar[str]
    configuration: ClassVar[str]

    def __init__(self, folder: str, origin_port: int, *, keep_alive_s: int = 90) -> None:
        self._folder = folder
        self._origin_port = origin_port
        self._keep_alive_s = keep_alive_s
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def command(cls, configuration_path: str) -> list[str]:
        """What runs the proxy in the foreground."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """Start, and wait until it accepts."""
        self.port = free_port()
        path = os.path.join(self._folder, f"{self.name}-{self.port}.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(
                self.configuration.format(
                    port=self.port, origin_port=self._origin_port, keep_alive_s=self._keep_alive_s
                )
            )
        with open(f"{path}.log", "wb") as log:
            homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), self._folder)
            self._process = subprocess.Popen(
                self.command(path),
                env={"PATH": os.environ["PATH"], **homes},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not accepts(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                with open(f"{path}.log", encoding="utf-8", errors="replace") as log_read:
                    raise AssertionError(f"{self.name} did not start: {log_read.read()}")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A raw connection to the proxy."""
        return connect_to(self.port, receive_buffer_bytes)

    def connections_to(self, port: int) -> list[str]:
        """The established connections of the proxy's process to a port of this machine."""
        assert self._process is not None
        folder = f"/proc/{self._process.pid}/fd"
        links = set()
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                links.add(os.readlink(f"{folder}/{fd}"))
        with open(f"/proc/{self._process.pid}/net/tcp", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        remote, established = f"0100007F:{port:04X}", "01"
        return [
            row[9]
            for row in rows
            if row[2] == remote and row[3] == established and f"socket:[{row[9]}]" in links
        ]

    def get(
        self, target: str, *, method: str = "GET", fields: Mapping[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, target, headers=dict(fields or {}))
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())


class Caddy(ReverseProxy):
    """caddy: the transport of Go's net/http, as in cloudflared."""

    name = "caddy"
    configuration = CADDY_CONFIGURATION

    @classmethod
    def command(cls, configuration_path: str) -> list[str]:
        """`caddy run` reads no other file and writes only below its home."""
        return ["caddy", "run", "--config", configuration_path, "--adapter", "caddyfile"]


class HAProxy(ReverseProxy):
    """HAProxy with connections to the server shared by all clients."""

    name = "haproxy"
    configuration = HAPROXY_CONFIGURATION

    @classmethod
    def command(cls, configuration_path: str) -> list[str]:
        """`-db`: in the foreground. Debian has it in /usr/sbin."""
        path = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
        return [shutil.which("haproxy", path=path) or "haproxy", "-db", "-f", configuration_path]


PROXIES: tuple[type[ReverseProxy], ...] = (Caddy, HAProxy)


def is_installed(proxy: type[ReverseProxy]) -> bool:
    """Whether the program of a proxy can be run here."""
    return shutil.which(proxy.command("")[0]) is not None
