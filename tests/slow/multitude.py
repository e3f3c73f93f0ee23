"""Thousands of plain or TLS clients in a process of their own, which has its own descriptors.

`python -m tests.slow.multitude MODE PORT …` prints a line of JSON when it has done what it is for;
where it holds connections it does so until its standard input ends. `Multitude` runs it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from typing import Any, Self

from tests.faults.client import RESET, request_of
from tests.faults.tls_client import HELLO, request_frame
from tests.h2client import SETTINGS

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STORM_AT_ONCE = 4_000
"""More than a backlog of 1,024 holds."""

TICK_S = 0.1
RECEIVE_BUFFER_BYTES = 65_536
"""So that a slow reader is soon felt by the server."""

PORTS_PER_ADDRESS = 20_000
IP_BIND_ADDRESS_NO_PORT = 24
"""Of <linux/in.h>; ip(7)."""


class Multitude:
    """Runs this module; `report` is what it said."""

    def __init__(self, mode: str, port: int, *arguments: object) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.slow.multitude",
            mode,
            str(port),
            *map(str, arguments),
        ]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """The process itself has begun by itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """All of its connections end by reset."""
        self._process.communicate(timeout=60)

    def wait(self) -> dict[str, Any]:
        """What it reports once it has done what it is for."""
        assert self._process.stdout is not None
        self.report = json.loads(self._process.stdout.readline())
        return self.report


def hold(port: int, count: int, target: str, kind: str) -> list[socket.socket]:
    """Connections that asked once, read their answer, and stay.

    `kind` is alike or different (whether a head was seen before), a protocol of ALPN (over TLS), or
    none: only connected.
    """
    held: list[socket.socket] = []
    context = unverified(kind) if kind in {"h2", "http/1.1"} else None
    for number in range(count):
        sock: socket.socket = connect(port, number)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        if kind == "h2":
            sock.sendall(HELLO + request_frame(target))
            read_h2_answer(sock)
        elif kind != "none":
            fields = [f"X-Client: {number}"] if kind == "different" else []
            sock.sendall(request_of(target, *fields))
            read_answer(sock)
        held.append(sock)
    return held


def unverified(protocol: str) -> ssl.SSLContext:
    """The certificate's authority is known to the process that runs the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def bound(number: int) -> socket.socket:
    """A socket with a source address; its port is left to connect(2), which finds one sooner."""
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((f"127.0.0.{2 + number // PORTS_PER_ADDRESS}", 0))
    return sock


def connect(port: int, number: int, receive_buffer_bytes: int = 0) -> socket.socket:
    """A connection of its own source address where ports would run short."""
    sock = bound(number)
    sock.settimeout(30)
    if receive_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.connect(("127.0.0.1", port))
    return sock


def read_answer(sock: socket.socket) -> None:
    """The whole of one answer over HTTP/1.1, which must be 200."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(sock)
    head, _, content = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(content) < length:
        content += _more(sock)


def read_h2_answer(sock: socket.socket) -> None:
    """All frames up to the one that ends stream 1, whose settings are acknowledged."""
    received = b""
    while True:
        while len(received) >= 9 + int.from_bytes(received[:3], "big"):
            length, kind, flags = int.from_bytes(received[:3], "big"), received[3], received[4]
            stream = int.from_bytes(received[5:9], "big")
            if kind == SETTINGS and not flags & 1:
                sock.sendall(b"\0\0\0\4\1\0\0\0\0")
            if stream == 1 and kind in (0, 1) and flags & 1:
                return
            received = received[9 + length :]
        received += _more(sock)


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise EOFError("the server ended a connection")
    return data


def storm(port: int, count: int, *, stays: bool) -> tuple[dict[str, Any], list[socket.socket]]:
    """`count` connections as fast as they can be made; closed at once, or asking and held."""
    began_s = time.monotonic()
    ends: Counter[str] = Counter()
    held: list[socket.socket] = []
    under_way: dict[int, socket.socket] = {}
    poll = select.poll()
    started_s: dict[int, float] = {}
    made, slowest_s = 0, 0.0
    while made < count or under_way:
        while made < count and len(under_way) < STORM_AT_ONCE:
            sock = bound(made)
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            under_way[sock.fileno()] = sock
            started_s[sock.fileno()] = time.monotonic()
            poll.register(sock, select.POLLOUT)
            made += 1
            if made % 64 == 0:
                break
        for fd, _ in poll.poll(0 if made < count else 1_000):
            sock = under_way.pop(fd)
            poll.unregister(fd)
            slowest_s = max(slowest_s, time.monotonic() - started_s.pop(fd))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            ends[os.strerror(code) if code else "connected"] += 1
            if stays and not code:
                held.append(sock)
            else:
                sock.close()
    report = {
        "ends": dict(ends),
        "seconds": time.monotonic() - began_s,
        "slowest_s": slowest_s,
    }
    return report, held


def ask_all(held: list[socket.socket], target: str) -> dict[str, int]:
    """One request on each of the connections that are held; how they were answered."""
    statuses: Counter[str] = Counter()
    for sock in held:
        sock.settimeout(30)
        try:
            sock.sendall(request_of(target))
            statuses[sock.recv(12).decode() or "closed"] += 1
        except OSError as error:
            statuses[type(error).__name__] += 1
    return dict(statuses)


def stream(port: int, count: int, target: str, body_path: str, seconds: float) -> dict[str, Any]:
    """`count` answers, each read evenly over so many seconds and compared byte for byte."""
    with open(body_path, "rb") as file:
        body = file.read()
    share = int(len(body) / seconds * TICK_S) + 1
    socks: dict[socket.socket, int] = {}
    for number in range(count):
        sock = connect(port, number, RECEIVE_BUFFER_BYTES)
        sock.sendall(request_of(target))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert b" 200 " in head.split(b"\r\n", 1)[0], head
        sock.setblocking(False)
        socks[sock] = 0
    print(json.dumps({"streaming": len(socks)}), flush=True)  # noqa: T201 - the protocol
    ends: Counter[str] = Counter()
    began_s = next_s = time.monotonic()
    while socks:
        next_s += TICK_S
        for sock, position in list(socks.items()):
            outcome, reached = _read_share(sock, body, position, share)
            if outcome:
                ends[outcome] += 1
                del socks[sock]
                sock.close()
            else:
                socks[sock] = reached
        time.sleep(max(0.0, next_s - time.monotonic()))
    return {"ends": dict(ends), "seconds": time.monotonic() - began_s, "bytes": len(body)}


def _read_share(sock: socket.socket, body: bytes, position: int, share: int) -> tuple[str, int]:
    """Read up to `share` bytes; how the answer ended, if it has, and how far it came."""
    try:
        data = sock.recv(min(share, len(body) - position))
    except BlockingIOError:
        return "", position
    except OSError as error:
        return type(error).__name__, position
    if not data:
        return "cut off", position
    if data != body[position : position + len(data)]:
        return "wrong", position
    position += len(data)
    return "right" if position == len(body) else "", position


def main() -> None:
    """Do what the command line says."""
    mode, port, *rest = sys.argv[1:]
    held: list[socket.socket] = []
    if mode == "hold":
        count, target, kind = rest
        held = hold(int(port), int(count), target, kind)
        report: dict[str, Any] = {"held": len(held)}
    elif mode == "storm":
        report, held = storm(int(port), int(rest[0]), stays=rest[1] == "stay")
        if held:
            report["statuses"] = ask_all(held, rest[2])
    else:
        count, target, path, seconds = rest
        report = stream(int(port), int(count), target, path, float(seconds))
    print(json.dumps(report), flush=True)  # noqa: T201 - the protocol
    sys.stdin.read()
    for sock in held:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()


if __name__ == "__main__":
    main()
