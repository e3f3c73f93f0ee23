"""How a request reaches the server: one entry for each transport, the only place that knows.

A new transport is a `Session` and a line in `TRANSPORTS`; every test of the contract then runs over
it too. Sessions are strict on purpose: what a lenient client would forgive is an error here.
"""

from __future__ import annotations

import re
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tests.h2client import H2Client
from tests.server import Answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from tests.server import RunningServer

RECV_BYTES = 1 << 20
H2_WINDOW_BYTES = 1 << 20
REQUESTS_KEPT = 50
"""Of one connection; the client keeps what it received."""

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z -]+")
_STATUS_LINE_BARE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [A-Za-z -]*")
_FIELD_LINE = re.compile(rb"([A-Za-z0-9-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_WITHOUT_CONTENT = frozenset({204, 304})


class Session(Protocol):
    """One connection, on which requests are made one after the other."""

    def send(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> None:
        """Send a request; with `last` nothing may follow its response."""

    def receive(self) -> Answer:
        """The response to the request that was sent."""

    def request(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> Answer:
        """Send a request and receive its response."""

    def close(self) -> None:
        """Give the connection up."""


class Http1Session:
    """Plain HTTP/1.1, framed by hand: exact syntax, exact Content-Length, nothing in between."""

    _status_line = _STATUS_LINE

    def __init__(self, server: RunningServer) -> None:
        self._sock = self._connect(server)
        self._received = bytearray()
        self._method = ""
        self._last = False

    @staticmethod
    def _connect(server: RunningServer) -> socket.socket:
        return server.connect()

    def send(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> None:
        """Send a request; see `Session`."""
        lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in fields]
        lines += ["Connection: close"] if last else []
        self._sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._method, self._last = method, last

    def receive(self) -> Answer:
        """Receive its response; see `Session`."""
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            assert self._receive(), "the connection ended inside a head"
        status, names = self._parse_head(bytes(self._received[:end]))
        del self._received[: end + 4]
        length = 0
        if status in _WITHOUT_CONTENT:
            assert "content-length" not in names
        elif self._method == "HEAD":
            assert "content-length" in names
        else:
            length = int(names["content-length"])
        while len(self._received) < length:
            assert self._receive(), "the connection ended inside the content"
        content = bytes(self._received[:length])
        del self._received[:length]
        if self._last:
            assert names.get("connection") == "close"
            assert not self._received, "bytes after the content"
            assert not self._receive(), "bytes after the content"
        return Answer(status, names, content)

    def request(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> Answer:
        """Make a request; see `Session`."""
        self.send(target, method=method, fields=fields, last=last)
        return self.receive()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _receive(self) -> bool:
        data = self._sock.recv(RECV_BYTES)
        self._received += data
        return bool(data)

    @classmethod
    def _parse_head(cls, head: bytes) -> tuple[int, dict[str, str]]:
        status_line, *lines = head.split(b"\r\n")
        status = cls._status_line.fullmatch(status_line)
        assert status, status_line
        names: dict[str, str] = {}
        for line in lines:
            match = _FIELD_LINE.fullmatch(line)
            assert match, line
            name = match[1].decode().lower()
            assert name not in names, f"{name} is there twice"
            names[name] = match[2].decode()
        return int(status[1]), names


class Http1TlsSession(Http1Session):
    """The same over TLS, chosen by ALPN; the connection ends with close_notify or is an error."""

    _status_line = _STATUS_LINE_BARE

    @staticmethod
    def _connect(server: RunningServer) -> socket.socket:
        sock = server.connect_tls(["http/1.1"])
        assert sock.selected_alpn_protocol() == "http/1.1"
        return sock


class Http2Session:
    """HTTP/2 over TLS; see `H2Client` for what it does not forgive."""

    def __init__(self, server: RunningServer) -> None:
        self._client = H2Client(
            server, initial_window=H2_WINDOW_BYTES, connection_window=H2_WINDOW_BYTES
        )
        self._stream_id = 0
        self._last = False

    def send(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> None:
        """Send a request; see `Session`."""
        lower = [(name.lower(), value) for name, value in fields]
        self._stream_id = self._client.request(target, method, lower)
        self._last = last

    def receive(self) -> Answer:
        """Receive its response; see `Session`."""
        answer = self._client.answer(self._stream_id)
        assert ":status" not in answer.fields
        if self._last and not self._client.is_closed and not self._client.goaways:
            seen = len(self._client.frames)
            self._client.ping()
            late = self._client.frames[seen:]
            assert not [frame for frame in late if frame.stream_id], "frames after the content"
        return answer

    def request(
        self,
        target: str,
        *,
        method: str = "GET",
        fields: Sequence[tuple[str, str]] = (),
        last: bool = False,
    ) -> Answer:
        """Make a request; see `Session`."""
        self.send(target, method=method, fields=fields, last=last)
        return self.receive()

    def close(self) -> None:
        """Close the socket."""
        self._client.close()

    @property
    def is_open(self) -> bool:
        """Whether the server has said nothing since: neither GOAWAY, nor that it closes."""
        return not select.select([self._client.sock], [], [], 0)[0]


class KeptHttp2:
    """One connection of HTTP/2 after the other, for many tests: a new one costs both ends 15 ms."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._session: Http2Session | None = None
        self._requests = 0

    def request(
        self, target: str, *, method: str = "GET", fields: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Make a request, and see that nothing follows its response."""
        if self._session is None or self._requests == REQUESTS_KEPT or not self._session.is_open:
            self.close()
            self._session, self._requests = Http2Session(self._server), 0
        self._requests += 1
        return self._session.request(target, method=method, fields=fields, last=True)

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._session is not None:
            self._session.close()


@dataclass(frozen=True, slots=True)
class Transport:
    """A way to the server: how to open a session, and the options that make the server listen."""

    connect: Callable[[RunningServer], Session]
    environ: Mapping[str, str] = field(default_factory=dict)


TRANSPORTS: Mapping[str, Transport] = {
    "http1": Transport(Http1Session, {"USE_TLS": "false"}),
    "http1-tls": Transport(Http1TlsSession, {"USE_TLS": "true"}),
    "http2": Transport(Http2Session, {"USE_TLS": "true"}),
}
