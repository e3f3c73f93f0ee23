"""Processor time a GB and rate of large bodies over TLS: written by OpenSSL, and by kernel TLS.

`python -m tests.ktls -m tests.ktls.guest.sketch [MB [ROUNDS]]` runs it in the virtual machine, one
line of JSON a way of sending. The ways take turns; of each way the median round counts. The client,
a process of its own, decrypts the first body of each way, and its hash is compared. Afterwards it
drops what it takes, so the rate is the server's.

Under emulation (TCG) the times are not those of a processor: AES and carry-less multiplication are
function calls there, and the host's other work counts as the guest's. With KTLS_ICOUNT=1 the
machine's clock counts instructions: a "second" is a thousand million of them, and a busy host
changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import resource
import select
import socket
import ssl
import statistics
import struct
import sys
import termios
import time
from typing import TYPE_CHECKING

from tests.certificate import client_context
from tests.ktls.guest.tlspair import Kind, openssl_state, server_context

if TYPE_CHECKING:
    from collections.abc import Callable

BODY_MB = 8
"""48 where a processor runs the machine; emulated, eight take some minutes."""

PIECE_BYTES = 256 << 10
ROUNDS = 3
CIPHERS = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
GB = 1e9


def wait(sock: socket.socket) -> None:
    """Until it is writable."""
    select.select([], [sock], [])


def write_by_openssl(sock: ssl.SSLSocket, _fd: int, body: memoryview) -> None:
    """SSLSocket.write of a mapping, in pieces."""
    for start in range(0, len(body), PIECE_BYTES):
        piece = body[start : start + PIECE_BYTES]
        while True:
            try:
                sock.write(piece)
                break
            except ssl.SSLWantWriteError:
                wait(sock)


def send_mapping(sock: ssl.SSLSocket, _fd: int, body: memoryview) -> None:
    """send(2) of a mapping, in pieces, past OpenSSL; the kernel encrypts."""
    offset = 0
    while offset < len(body):
        try:
            offset += socket.socket.send(sock, body[offset : offset + PIECE_BYTES])
        except BlockingIOError:
            wait(sock)


def send_file(sock: ssl.SSLSocket, fd: int, body: memoryview) -> None:
    """sendfile(2), as much as the socket takes a call; the kernel encrypts."""
    offset = 0
    while offset < len(body):
        try:
            offset += os.sendfile(sock.fileno(), fd, offset, len(body) - offset)
        except BlockingIOError:
            wait(sock)


def send_file_pieces(sock: ssl.SSLSocket, fd: int, body: memoryview) -> None:
    """sendfile(2) in pieces."""
    offset = 0
    while offset < len(body):
        try:
            count = min(PIECE_BYTES, len(body) - offset)
            offset += os.sendfile(sock.fileno(), fd, offset, count)
        except BlockingIOError:
            wait(sock)


WAYS: dict[str, tuple[bool, Callable[[ssl.SSLSocket, int, memoryview], None]]] = {
    "user space: SSLSocket.write": (False, write_by_openssl),
    "kTLS: SSLSocket.write": (True, write_by_openssl),
    "kTLS: send": (True, send_mapping),
    "kTLS: sendfile": (True, send_file),
    "kTLS: sendfile in pieces": (True, send_file_pieces),
}


class Connection:
    """The server's end here, the client in another process."""

    def __init__(self, cipher: str, body_bytes: int, *, ktls: bool) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        # Before it forks: both processes know one authority.
        context = server_context(Kind(ktls=ktls))
        trusting = client_context(["http/1.1"])
        Kind(cipher=cipher).choose(trusting)
        self._reports, reporting = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                receive_bodies(listener.getsockname(), trusting, reporting, body_bytes)
            finally:
                os._exit(0)
        os.close(reporting)
        accepted, _ = listener.accept()
        listener.close()
        self.sock = context.wrap_socket(accepted, server_side=True)
        self.sock.setblocking(False)
        assert openssl_state(self.sock)["BIO_get_ktls_send"] == ktls

    def hash_of_first(self) -> str:
        """What the client says after the first body: its SHA-256."""
        return os.read(self._reports, 64).decode()

    def wait_until_taken(self) -> None:
        """Until the client has acknowledged every byte."""
        while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            time.sleep(0.001)

    def close(self) -> None:
        """The client ends as well."""
        self.sock.shutdown(socket.SHUT_RDWR)  # clients forked later hold a copy of the socket
        self.sock.close()
        os.waitpid(self._child, 0)
        os.close(self._reports)


def receive_bodies(
    address: tuple[str, int], context: ssl.SSLContext, reporting: int, body_bytes: int
) -> None:
    """The client: decrypts and hashes the first body, and takes the rest as it is."""
    with context.wrap_socket(
        socket.create_connection(address), server_hostname="127.0.0.1"
    ) as sock:
        body, left = hashlib.sha256(), body_bytes
        while left:
            piece = sock.recv(min(left, PIECE_BYTES))
            body.update(piece)
            left -= len(piece)
        os.write(reporting, body.hexdigest().encode())
        # MSG_TRUNC: the kernel drops the bytes. Decrypting would take the server's processor time.
        with socket.socket(fileno=sock.detach()) as plain, contextlib.suppress(ConnectionError):
            untouched = bytearray(1 << 20)
            while plain.recv_into(untouched, len(untouched), socket.MSG_TRUNC):
                pass


def sample(body_bytes: int) -> tuple[int, memoryview, str]:
    """A file in memory, its mapping and its hash."""
    fd = os.memfd_create("body")
    block = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(3000))
    os.write(fd, (block * (body_bytes // len(block) + 1))[:body_bytes])
    body = memoryview(mmap.mmap(fd, body_bytes, prot=mmap.PROT_READ))
    return fd, body, hashlib.sha256(body).hexdigest()


def measure(cipher: str, body_bytes: int, rounds: int) -> None:
    """Print what each way costs."""
    fd, body, digest = sample(body_bytes)
    connections = {
        name: Connection(cipher, body_bytes, ktls=ktls) for name, (ktls, _) in WAYS.items()
    }
    for name, (_, send) in WAYS.items():
        send(connections[name].sock, fd, body)
        assert connections[name].hash_of_first() == digest, name
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
    for _round in range(rounds):
        for name, (_, send) in WAYS.items():
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            send(connections[name].sock, fd, body)
            connections[name].wait_until_taken()
            seconds = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_SELF)
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            costs[name].append((user, system, seconds))
    for name, of_rounds in costs.items():
        user, system, seconds = (
            statistics.median(column) for column in zip(*of_rounds, strict=True)
        )
        both = statistics.median(row[0] + row[1] for row in of_rounds)
        found = {
            "cipher": cipher,
            "way": name,
            "cpu_s_per_gb": round(both / body_bytes * GB, 2),
            "user": round(user / body_bytes * GB, 2),
            "system": round(system / body_bytes * GB, 2),
            "mb_per_s": round(body_bytes / seconds / 1e6, 1),
        }
        print(json.dumps(found), flush=True)
        connections[name].close()


if __name__ == "__main__":
    megabytes, rounds = [*map(int, sys.argv[1:]), *(BODY_MB, ROUNDS)[len(sys.argv) - 1 :]]
    for each_cipher in CIPHERS:
        measure(each_cipher, megabytes * 1_000_000, rounds)
