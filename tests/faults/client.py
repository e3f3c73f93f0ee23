"""A raw HTTP/1.1 client and sample data for tests that watch every byte.

Owns what black-box and fault tests share: a data root with a small, a medium and a large series,
a client that frames answers itself and is as slow or as rude as a test wants, and polling.
"""

from __future__ import annotations

import array
import http.client
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Protocol, Self

from tests.server import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.server import RunningServer

DAY = "01.01.70"
"""The day whose first second is 0, so that a sparse file is a legal `time` column."""

SMALL_RECORDS = 500
MEDIUM_RECORDS = 100_000
LARGE_RECORDS = 4_000_000
LARGE_BYTES = 4 * LARGE_RECORDS
TINY_BUFFER_BYTES = 8_192
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close() sends RST
OLD_S = 1_000_000_000  # a modification time that makes a past day a closed one


def target_of(series: str, columns: str = "time,price", end: int = 86_399) -> str:
    """The request target for all records of a series of `make_root`."""
    return f"/api/data?symbol=BTC-USD&type={series}&start=0&end={end}&columns={columns}"


SMALL = target_of("SMALL")
MEDIUM = target_of("MEDIUM")
LARGE = target_of("LARGE", "price")


def column_path(root: str | os.PathLike[str], series: str, column: str) -> str:
    """The path of a column of the only day there is."""
    return os.path.join(root, "coinbase", "BTC-USD", series, f"{column}.{DAY}.bin")


def write_series(root: str | os.PathLike[str], series: str, records: int) -> bytes:
    """Make `time` (a second a record, or all zero when there are too many) and a random `price`.

    Its day is open until it is sealed.
    """
    path = column_path(root, series, "time")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        if records <= 86_400:
            file.write(array.array("I", range(records)).tobytes())
        else:
            file.truncate(4 * records)
    price = os.urandom(4 * records)
    path = column_path(root, series, "price")
    with open(path, "wb") as file:
        file.write(price)
    unseal(root, series)
    return price


def seal(root: str | os.PathLike[str], series: str) -> None:
    """Age the files of a series: its day is closed, for `RunningServer` lets nothing settle."""
    for column in ("time", "price"):
        os.utime(column_path(root, series, column), (OLD_S, OLD_S))


def unseal(root: str | os.PathLike[str], series: str) -> None:
    """Have the files of a series change tomorrow: its day is open however soon days settle."""
    ahead_s = time.time() + 86_400
    for column in ("time", "price"):
        os.utime(column_path(root, series, column), (ahead_s, ahead_s))


def make_root(root: str | os.PathLike[str]) -> None:
    """All three series: 4 KB, 800 KB and 16 MB an answer."""
    write_series(root, "SMALL", SMALL_RECORDS)
    write_series(root, "MEDIUM", MEDIUM_RECORDS)
    write_series(root, "LARGE", LARGE_RECORDS)


def body_of(
    root: str | os.PathLike[str], series: str, columns: Sequence[str] = ("time", "price")
) -> bytes:
    """The body that the contract promises for all records of a series."""
    contents = []
    for column in columns:
        with open(column_path(root, series, column), "rb") as file:
            contents.append(file.read())
    header = ",".join(
        f'{{"name":"{column}","record_size":4,"num_records":{len(content) // 4},'
        f'"data_length":{len(content)},"dtype":"{"<u4" if column == "time" else "<f4"}"}}'
        for column, content in zip(columns, contents, strict=True)
    )
    return b"".join([b'{"columns":[%s]}\n' % header.encode(), *contents])


def request_of(
    target: str, *fields: str, method: str = "GET", version: str = "1.1", host: str | None = "t"
) -> bytes:
    """The bytes of one request head."""
    lines = [f"{method} {target} HTTP/{version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    return "\r\n".join([*lines, *fields, "", ""]).encode("latin-1")


class Listener(Protocol):
    """What a client connects to: a server, or a proxy in front of it."""

    def connect(self, receive_buffer_bytes: int | None = None) -> socket.socket:
        """A new connection."""


class Client:
    """One connection; answers are framed by Content-Length, and nothing is retried."""

    def __init__(self, server: Listener, receive_buffer_bytes: int | None = None) -> None:
        self.sock = server.connect(receive_buffer_bytes)
        # What is sent leaves as its own packet, so that a split request is one.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, whatever is unread."""
        self.sock.close()

    def reset(self) -> None:
        """Close the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def send(self, *requests: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(b"".join(requests))

    def head(self) -> tuple[int, dict[str, str]]:
        """The status and the fields of the next answer; names are lower-case."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.sock.recv(4_096)
            if not data:
                raise EOFError("the connection ended before an answer")
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return int(status_line.split()[1]), {n.lower(): value.strip() for n, _, value in pairs}

    def answer(self, *, is_head: bool = False) -> Answer:
        """The whole next answer; EOFError when it is cut off."""
        status, fields = self.head()
        length = 0 if is_head else int(fields.get("content-length", "0"))
        content = self.read(length)
        if len(content) < length:
            raise EOFError("the answer was cut off")
        return Answer(status, fields, content)

    def read(self, count: int) -> bytes:
        """`count` bytes of content, fewer at the end of the connection."""
        content = bytearray(count)
        view, filled = memoryview(content), min(count, len(self._buffer))
        view[:filled] = self._buffer[:filled]
        del self._buffer[:filled]
        while filled < count and (received := self.sock.recv_into(view[filled:])):
            filled += received
        return bytes(view[:filled])

    def read_some(self, count: int) -> bytes:
        """At least one byte of content and at most `count`; none at the end of the connection."""
        if not self._buffer:
            return self.sock.recv(count)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_until_end(self, count: int) -> tuple[bytes, bool]:
        """Up to `count` bytes of content, and whether the connection was reset amid them."""
        content = bytearray()
        try:
            while len(content) < count and (data := self.read_some(count - len(content))):
                content += data
        except ConnectionResetError:
            return bytes(content), True
        return bytes(content), False

    def is_closed(self) -> bool:
        """Whether the server closes, cleanly or by reset, before it sends another byte."""
        try:
            return self.read_some(1) == b""
        except ConnectionResetError:
            return True


def poll(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Wait until `condition` holds; fail, saying `what` was waited for, at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        time.sleep(0.02)


def is_still(server: RunningServer, nbytes: int) -> bool:
    """Whether fewer than `nbytes` are sent from memory while others get ten small answers."""
    sent = server.metric('zerocopy_sent_bytes_total{path="copy"}')
    assert {server.get("/healthz").status for _ in range(10)} == {200}
    return server.metric('zerocopy_sent_bytes_total{path="copy"}') - sent < nbytes


def cpu_s(pid: int) -> float:
    """Seconds of processor time a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def get_many(server: RunningServer, targets: Sequence[str]) -> list[tuple[int, bytes]]:
    """Ask for `targets` one after another on one keep-alive connection, by http.client."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    answers = []
    for target in targets:
        connection.request("GET", target)
        response = connection.getresponse()
        answers.append((response.status, response.read()))
    connection.close()
    return answers
