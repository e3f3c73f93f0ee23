"""A server with keys, reached by every transport, and readers of its live streams."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest
from websockets.exceptions import ConnectionClosed

from tests.certificate import client_context
from tests.faults.client import poll
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import DAY_START_S, append, marks, path_of, put, u32
from tests.web_socket import WebSocketClient
from zerocopy.access.keys import add_key, revoke_key
from zerocopy.core.access import Scope
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SEEN, HIDDEN = Series("coinbase", "BTC-USD", "MD"), Series("coinbase", "ETH-USD", "MD")
SCOPE = Scope(symbols=("BTC-*",))
WRONG = "zc_" + "A" * 43
LIVE = "/api/live?symbol=BTC-USD&type=MD&columns=time,price"
TIMEOUT_S = 30.0

Fields = list[tuple[str, str]]


def bearer(key: str | None) -> Fields:
    """The field that says who asks; none for nobody."""
    return [] if key is None else [("authorization", f"Bearer {key}")]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A server and its key file; `keys` are there from the start, by name."""

    root: str
    server: RunningServer
    keys_path: str
    keys: dict[str, str]

    def add(self, name: str, scope: Scope = SCOPE) -> str:
        """A key that the server knows when this returns."""
        key = add_key(self.keys_path, name, scope=scope)
        field = {"Authorization": f"Bearer {key}"}
        poll(lambda: self.server.get("/none", fields=field).status == 404, "the key to be known")
        return key

    def revoke(self, name: str) -> None:
        """Take a key out of the file; the server will know within two seconds."""
        revoke_key(self.keys_path, name)

    def grow(self) -> None:
        """One record more of the series that may be seen."""
        for column, record in (("price", marks(1)), ("time", u32(DAY_START_S + 9))):
            append(path_of(self.root, column, series=SEEN), record)


@contextmanager
def guarded_server(folder: Path) -> Iterator[Guarded]:
    """A server over two series with a key for all of it, `ops`, and one for half, `desk`."""
    root, keys_path = str(folder / "root"), str(folder / "keys.json")
    for series in (SEEN, HIDDEN):
        put(root, {"time": u32(DAY_START_S, DAY_START_S + 1), "price": marks(2)}, series=series)
    keys = {"ops": add_key(keys_path, "ops"), "desk": add_key(keys_path, "desk", scope=SCOPE)}
    environ = {"ZEROCOPY_AUTH_KEYS_PATH": keys_path, "ZEROCOPY_LOG_ACCESS_SAMPLE": "1"}
    with ForkedServer(root, ZEROCOPY_TLS_PORT="0", **environ) as server:
        yield Guarded(root, server, keys_path, keys)


# ---- readers of live streams


class Stream(Protocol):
    """One reader of a live stream that has begun."""

    def wait_for(self, count: int) -> None:
        """Wait for so many messages since it began."""

    def wait_for_end(self) -> None:
        """Wait until the server ends it, as it ends one whose key holds no longer."""

    def close(self) -> None:
        """Leave."""


class Http1Events:
    """Server-sent events over HTTP/1.1, whose end is the last chunk."""

    def __init__(self, guarded: Guarded, key: str, *, over_tls: bool) -> None:
        server = guarded.server
        self._sock = server.connect_tls(["http/1.1"]) if over_tls else server.connect()
        self._sock.settimeout(TIMEOUT_S)
        lines = [f"GET {LIVE} HTTP/1.1", "Host: t", f"Authorization: Bearer {key}", "", ""]
        self._sock.sendall("\r\n".join(lines).encode())
        self._received = b""
        self._read_until(lambda: b"\nid: " in self._received)
        assert self._received.startswith(b"HTTP/1.1 200 ")

    def _read_until(self, until: Callable[[], bool]) -> None:
        while not until():
            data = self._sock.recv(65_536)
            assert data, self._received
            self._received += data

    def wait_for(self, count: int) -> None:
        """See `Stream`."""
        self._read_until(lambda: self._received.count(b"event: records") >= count)

    def wait_for_end(self) -> None:
        """See `Stream`."""
        self._read_until(lambda: self._received.endswith(b"0\r\n\r\n"))

    def close(self) -> None:
        """See `Stream`."""
        self._sock.close()


class Http2Events:
    """The same over HTTP/2, whose end is that of its stream; others of the connection go on."""

    def __init__(self, guarded: Guarded, key: str) -> None:
        self._client = H2Client(guarded.server)
        self._id = self._client.request(LIVE, fields=bearer(key))
        self._stream = self._client.streams[self._id]
        self._client.pump(lambda: b"id: " in self._stream.content, "the first cursor")
        assert self._stream.status == 200

    def wait_for(self, count: int) -> None:
        """See `Stream`."""
        content = self._stream.content
        self._client.pump(lambda: content.count(b"event: records") >= count, "a record")

    def wait_for_end(self) -> None:
        """See `Stream`."""
        self._client.pump(lambda: self._stream.is_ended, "the end of the stream", TIMEOUT_S)
        self._client.ping()
        assert not self._client.goaways

    def close(self) -> None:
        """See `Stream`."""
        self._client.close()


class WebSocket:
    """A WebSocket, whose end is close code 1008 (policy violation)."""

    def __init__(self, guarded: Guarded, key: str, *, over_tls: bool) -> None:
        server = guarded.server
        port = server.tls_port if over_tls else server.plain_port
        self._socket = WebSocketClient(
            f"ws{'s' * over_tls}://127.0.0.1:{port}{LIVE}",
            additional_headers=bearer(key),
            ssl=client_context(["http/1.1"]) if over_tls else None,
        )
        self._count = 0

    def wait_for(self, count: int) -> None:
        """See `Stream`."""
        while self._count < count:
            message = self._socket.recv(TIMEOUT_S)
            assert isinstance(message, bytes)
            self._count += b'"num_records":0' not in message

    def wait_for_end(self) -> None:
        """See `Stream`."""
        with pytest.raises(ConnectionClosed) as caught:
            self._receive_to_the_end()
        end = caught.value.rcvd
        assert end is not None
        assert end.code == 1008
        assert "key" in end.reason

    def _receive_to_the_end(self) -> None:
        while True:
            self._socket.recv(TIMEOUT_S)

    def close(self) -> None:
        """See `Stream`."""
        self._socket.close()


STREAMS: Sequence[Callable[[Guarded, str], Stream]] = (
    lambda guarded, key: Http1Events(guarded, key, over_tls=False),
    lambda guarded, key: Http1Events(guarded, key, over_tls=True),
    Http2Events,
    lambda guarded, key: WebSocket(guarded, key, over_tls=False),
    lambda guarded, key: WebSocket(guarded, key, over_tls=True),
)
"""Every way to read a live stream."""
