"""Processor time a GB and rate of 48 MB bodies over TLS: written by OpenSSL, and by kernel TLS.

`python -m tests.ktls -m tests.ktls.guest.sketch [ROUNDS]` runs it in the virtual machine, one line
of JSON a way of sending. The ways take turns; of each way the median round counts. The client is a
process of its own that decrypts in user space. Its hash of one body is compared before anything is
measured.

Under emulation (TCG) the times are not those of a processor: AES and carry-less multiplication are
function calls there. With KTLS_ICOUNT=1 the machine's clock counts instructions, so "seconds" are
thousand millions of instructions, and a busy host changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import resource
import select
import socket
import ssl
import statistics
import sys
import time
from typing import TYPE_CHECKING

from tests.certificate import client_context
from tests.ktls.guest.tlspair import Kind, openssl_state, server_context

if TYPE_CHECKING:
    from collections.abc import Callable

BODY_BYTES = 48_000_000
PIECE_BYTES = 256 << 10
ROUNDS = 5
CIPHERS = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
GB = 1e9

Send = "Callable[[ssl.SSLSocket, int, memoryview], None]"


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
    """The server's end here, the client in another process, which answers by a pipe."""

    def __init__(self, cipher: str, *, ktls: bool) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        # Before it forks: both processes know one authority.
        context = server_context(Kind(ktls=ktls))
        trusting = client_context(["http/1.1"])
        Kind(cipher=cipher).choose(trusting)
        self._reports, reporting = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                receive_bodies(listener.getsockname(), trusting, reporting)
            finally:
                os._exit(0)
        os.close(reporting)
        accepted, _ = listener.accept()
        listener.close()
        self.sock = context.wrap_socket(accepted, server_side=True)
        self.sock.setblocking(False)
        assert openssl_state(self.sock)["BIO_get_ktls_send"] == ktls

    def report(self) -> str:
        """What the client says after a whole body: its SHA-256, or nothing."""
        return os.read(self._reports, 64).decode()

    def close(self) -> None:
        """The client ends as well."""
        self.sock.close()
        os.waitpid(self._child, 0)
        os.close(self._reports)


def receive_bodies(address: tuple[str, int], context: ssl.SSLContext, reporting: int) -> None:
    """The client: reports the hash of the first body, and the arrival of each other."""
    buffer = bytearray(PIECE_BYTES)
    with context.wrap_socket(socket.create_connection(address), server_hostname="127.0.0.1") as sock:
        body = hashlib.sha256()
        left = BODY_BYTES
        is_first = True
        while got := sock.recv_into(buffer, min(left, PIECE_BYTES)):
            if is_first:
                body.update(memoryview(buffer)[:got])
            left -= got
            if left == 0:
                os.write(reporting, body.hexdigest().encode() if is_first else b"all of it")
                left, is_first = BODY_BYTES, False


def sample() -> tuple[int, memoryview, str]:
    """A file in memory, its mapping and its hash."""
    fd = os.memfd_create("body")
    block = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(3000))
    os.write(fd, block * (BODY_BYTES // len(block)))
    assert os.fstat(fd).st_size == BODY_BYTES
    body = memoryview(mmap.mmap(fd, BODY_BYTES, prot=mmap.PROT_READ))
    return fd, body, hashlib.sha256(body).hexdigest()


def measure(cipher: str, rounds: int) -> None:
    """Print what each way costs."""
    fd, body, digest = sample()
    connections = {name: Connection(cipher, ktls=ktls) for name, (ktls, _) in WAYS.items()}
    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
    for turn in range(rounds + 1):
        for name, (_, send) in WAYS.items():
            connection = connections[name]
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            send(connection.sock, fd, body)
            after = resource.getrusage(resource.RUSAGE_SELF)
            said = connection.report()
            seconds = time.perf_counter() - began
            if turn == 0:
                assert said == digest, f"{name}: {said} is not {digest}"
                continue
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            costs[name].append((user, system, seconds))
    for name, of_rounds in costs.items():
        user, system, seconds = (statistics.median(column) for column in zip(*of_rounds, strict=True))
        both = statistics.median(row[0] + row[1] for row in of_rounds)
        found = {
            "cipher": cipher,
            "way": name,
            "cpu_s_per_gb": round(both / BODY_BYTES * GB, 2),
            "user": round(user / BODY_BYTES * GB, 2),
            "system": round(system / BODY_BYTES * GB, 2),
            "mb_per_s": round(BODY_BYTES / seconds / 1e6, 1),
        }
        print(json.dumps(found), flush=True)
        connections[name].close()


if __name__ == "__main__":
    for each_cipher in CIPHERS:
        measure(each_cipher, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
