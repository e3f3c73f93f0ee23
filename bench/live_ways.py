"""Ways to bring one short message to all who listen: zerocopy's event stream, and its peers'.

Owns what a listener says first, how a message is published, and how its number is found in what
comes. A message is a record of eight bytes in two day files, or a number of as many digits.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, ClassVar

from bench.peers import Peer
from tests.server import RunningServer
from zerocopy.core.layout import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORD = struct.Struct("<If")
_DAY_S = 86_400


class Way:
    """A server that runs, and how to listen and to publish."""

    name: str
    port: int
    pids: tuple[int, ...]
    hello: bytes
    welcome: re.Pattern[bytes]
    """Matches what a listener has got once nothing published is missed."""
    number: re.Pattern[bytes]
    """Its first group tells how many messages there were with this one."""
    published: int = 0

    def publish(self) -> None:
        """Bring the next message out."""
        self.published += 1


class ZerocopyWay(Way):
    """Appends a record to the day files of today, and nothing else."""

    name = "zerocopy"
    welcome = re.compile(rb"id: \d+\.\d+\r?\n")
    number = re.compile(rb"id: \d+\.(\d+)\r?\n")

    def __init__(self, server: RunningServer, files: tuple[int, int]) -> None:
        self.port = server.port
        self.pids = tuple(server.worker_pids())
        self._files = files
        self.hello = (
            b"GET /api/live?symbol=X&type=MD&columns=time,price HTTP/1.1\r\nHost: bench\r\n\r\n"
        )

    def publish(self) -> None:
        """One record: the price first, so that it is whole once its time is there."""
        super().publish()
        time_file, price_file = self._files
        record = _RECORD.pack(int(time.time()), self.published)
        os.write(price_file, record[4:])
        os.write(time_file, record[:4])


class LivePeer(Peer):
    """A server that knows nothing of files: a message is published to it."""

    hello: ClassVar[bytes]
    welcome: ClassVar[re.Pattern[bytes]]
    line: ClassVar[bytes]

    @property
    def port(self) -> int:
        """Where to listen."""
        return self._port

    def publisher(self) -> socket.socket:
        """A connection to publish on."""
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


class Redis(LivePeer):
    """Redis publish and subscribe (https://redis.io/docs/latest/develop/pubsub/)."""

    name = "redis-server"
    hello = b"SUBSCRIBE bench\r\n"
    welcome = re.compile(rb":1\r\n")
    line = b"PUBLISH bench #%d;\r\n"

    def _command(self) -> list[str]:
        program = shutil.which(self.name)
        assert program is not None, "asked before"
        return [
            *(program, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", self._prefix),
            *("--save", "", "--appendonly", "no", "--maxclients", "12000"),
        ]


class Websockets(LivePeer):
    """`websockets`, and its broadcast."""

    name = "websockets"
    hello = (
        b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    welcome = re.compile(rb"\r\n\r\n")
    line = b"#%d;\n"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bench.websockets_server", str(self._port), self._path]

    def publisher(self) -> socket.socket:
        """The same, for lines."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self._path)
        return sock

    @property
    def _path(self) -> str:
        return os.path.join(self._prefix, "publisher")


class PeerWay(Way):
    """A peer with a connection to publish on."""

    number = re.compile(rb"#(\d+);")

    def __init__(self, peer: LivePeer, publisher: socket.socket) -> None:
        self.name, self.port, self.pids = peer.name, peer.port, (peer.pid,)
        self.hello, self.welcome = peer.hello, peer.welcome
        self._line = peer.line
        self._publisher = publisher

    def publish(self) -> None:
        """One line."""
        super().publish()
        self._publisher.sendall(self._line % self.published)


PEERS: tuple[type[LivePeer], ...] = (Redis, Websockets)


@contextlib.contextmanager
def zerocopy_way(root: str) -> Iterator[Way]:
    """A server over `root`, in which one series grows."""
    folder = os.path.join(root, "coinbase", "X", "MD")
    os.makedirs(folder, exist_ok=True)
    day = int(time.time()) // _DAY_S
    with contextlib.ExitStack() as stack:
        files = []
        for column in ("time", "price"):
            path = os.path.join(folder, file_name(column, day))
            file = stack.enter_context(open(path, "wb", buffering=0))
            files.append(file.fileno())
        limits = {"ZEROCOPY_LIMITS_CONNECTIONS_MAX": "12000"}
        limits["ZEROCOPY_LIVE_SUBSCRIBERS_MAX"] = "12000"
        server = stack.enter_context(RunningServer(root, USE_TLS="false", **limits))
        yield ZerocopyWay(server, (files[0], files[1]))


@contextlib.contextmanager
def peer_way(kind: type[LivePeer], prefix: str) -> Iterator[Way]:
    """A peer, and a connection to publish on."""
    with kind(prefix) as peer, peer.publisher() as publisher:
        yield PeerWay(peer, publisher)
