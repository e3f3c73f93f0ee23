"""A TLS connection over loopback: a non-blocking server's end, and a client that sees the records.

The server's end is an `ssl.SSLSocket`, as the server has it. The client decrypts with OpenSSL in
user space, never with the kernel, so it judges what the kernel encrypted.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import select
import socket
import ssl
import struct
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from tests.certificate import certificate_files, client_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

OP_ENABLE_KTLS = 1 << 3  # ssl.OP_ENABLE_KTLS of Python 3.12; OpenSSL 3.0 takes it from any Python
TCP_ULP = 31
SOL_TLS = 282
TLS_TX, TLS_RX = 1, 2
TLS_TX_ZEROCOPY_RO = 3
WAIT_S = 60.0
"""An emulated processor, on a machine that has other work."""

APPLICATION_DATA = 23
"""The content type of a record, RFC 8446 section 5.1."""

FILE_BYTES = 6_000_007
"""Odd, and more than loopback's buffers take at once."""

BIO_CTRL_GET_KTLS_SEND, BIO_CTRL_GET_KTLS_RECV = 73, 76
HEAD_BYTES = object.__basicsize__
SSL_OFFSET = HEAD_BYTES + 8
"""Where CPython's _ssl._SSLSocket keeps its SSL*: after the object's head and one reference."""

libssl = ctypes.CDLL("libssl.so.3")
libcrypto = ctypes.CDLL("libcrypto.so.3")
libssl.SSL_get_wbio.restype = libssl.SSL_get_rbio.restype = ctypes.c_void_p
libcrypto.BIO_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
libcrypto.BIO_ctrl.restype = ctypes.c_long


def openssl_handle(sock: ssl.SSLSocket | ssl.SSLObject) -> ctypes.c_void_p:
    """OpenSSL's SSL* of a connection, for calls that Python does not offer."""
    address = id(sock._sslobj) + SSL_OFFSET  # type: ignore[union-attr]
    return ctypes.c_void_p(ctypes.c_void_p.from_address(address).value)


class Client:
    """The client's end; each method blocks, and `start` runs one in a thread."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.settimeout(WAIT_S)
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._unparsed = b""
        self.records: list[tuple[int, int]] = []
        """Type and length of each record that arrived, as seen from outside."""

    def _until_done(self, call: Callable[[], T]) -> T:
        while True:
            try:
                done = call()
            except ssl.SSLWantReadError:
                self.flush()
                self._receive()
            else:
                self.flush()
                return done

    def flush(self) -> None:
        """Send what OpenSSL wants to send."""
        if waiting := self._outgoing.read():
            self.sock.sendall(waiting)

    def _receive(self) -> None:
        received = self.sock.recv(1 << 18)
        if not received:
            self._incoming.write_eof()
            return
        self._incoming.write(received)
        self._unparsed += received
        while len(self._unparsed) >= 5:
            kind, _version, length = struct.unpack_from(">BHH", self._unparsed)
            if len(self._unparsed) < 5 + length:
                break
            self.records.append((kind, length))
            self._unparsed = self._unparsed[5 + length :]

    def handshake(self) -> None:
        """Connect."""
        self._until_done(self.tls.do_handshake)

    def write(self, data: bytes) -> None:
        """Send application data."""
        self._until_done(lambda: self.tls.write(data))

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        found = bytearray()
        while len(found) < count:
            rest = count - len(found)
            part = self._until_done(partial(self.tls.read, rest))
            assert part, f"close_notify after {len(found)} of {count} bytes"
            found += part
        return bytes(found)

    def read_to_end(self) -> bytes:
        """Everything until close_notify, which is answered; an end without it is an SSLEOFError."""
        found = bytearray()
        while part := self._until_done(lambda: self.tls.read(1 << 18)):
            found += part
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()
        return bytes(found)

    def is_waiting(self, seconds: float) -> bool:
        """Whether a byte arrives within this time."""
        return bool(select.select([self.sock], [], [], seconds)[0])

    def sizes(self) -> list[int]:
        """The lengths of the encrypted records that arrived."""
        return [length for kind, length in self.records if kind == APPLICATION_DATA]


class Kind(NamedTuple):
    """A protocol version, a cipher, and whether the server asks for kernel TLS."""

    version: str = "TLSv1.3"
    cipher: str = "TLS_AES_256_GCM_SHA384"
    ktls: bool = True
    send_buffer: int = 0

    def choose(self, client: ssl.SSLContext) -> None:
        """Let the client offer this version and this cipher alone."""
        version = ssl.TLSVersion[self.version.replace(".", "_")]
        client.minimum_version = client.maximum_version = version
        if version is ssl.TLSVersion.TLSv1_2:
            client.set_ciphers(self.cipher)
            return
        # SSLContext.set_ciphersuites is Python 3.15's. SSL_CTX* follows the object's head.
        handle = ctypes.c_void_p.from_address(id(client) + HEAD_BYTES)
        assert libssl.SSL_CTX_set_ciphersuites(handle, self.cipher.encode()) == 1


KINDS = (
    Kind("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    Kind("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    Kind("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    Kind("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    Kind("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    Kind("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
)
"""What the server may agree on with a client."""


def _sample_file() -> tuple[int, bytes]:
    """A descriptor of a file that repeats nowhere soon, and its bytes."""
    seed = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(4096))
    content = (seed * (FILE_BYTES // len(seed) + 1))[:FILE_BYTES]
    fd = os.memfd_create("sample")
    os.write(fd, content)
    return fd, content


FD, CONTENT = _sample_file()


class Pair:
    """A connection that has shaken hands."""

    def __init__(self, kind: Kind) -> None:
        self.pool = ThreadPoolExecutor(1)
        listener = socket.create_server(("127.0.0.1", 0))
        connecting = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        listener.close()
        if kind.send_buffer:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kind.send_buffer)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setblocking(False)
        trusting = client_context(["http/1.1"])
        kind.choose(trusting)
        self.client = Client(connecting, trusting)
        shaking = self.start(self.client.handshake)
        self.server = server_context(kind).wrap_socket(
            accepted, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self.until_done(self.server.do_handshake)
        shaking.result(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self.client.sock.close()
        self.pool.shutdown()

    def start(self, call: Callable[..., T], *arguments: Any) -> Future[T]:
        """Run one of the client's methods in a thread."""
        return self.pool.submit(call, *arguments)

    def until_done(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call until the non-blocking socket is ready."""
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                assert select.select([self.server], [], [], WAIT_S)[0], "nothing to read in time"
            except (ssl.SSLWantWriteError, BlockingIOError):
                self._wait_writable()

    def _wait_writable(self) -> None:
        assert select.select([], [self.server], [], WAIT_S)[1], "no room in time"

    def is_writable(self) -> bool:
        """Whether the kernel says so now."""
        return bool(select.select([], [self.server], [], 0)[1])

    def write_all(self, data: bytes) -> list[int]:
        """Write by OpenSSL; how many bytes each call took."""
        taken: list[int] = []
        while sum(taken) < len(data):
            taken.append(self.until_done(self.server.write, data[sum(taken) :]))
        return taken

    def send_file(self, offset: int, count: int) -> list[int]:
        """sendfile(2) until all is sent; how many bytes each call took, 0 for EAGAIN."""
        taken: list[int] = []
        while (sent := sum(taken)) < count:
            try:
                taken.append(os.sendfile(self.server.fileno(), FD, offset + sent, count - sent))
            except BlockingIOError:
                taken.append(0)
                self._wait_writable()
        return taken

    def fill_by_file(self, offset: int = 0) -> list[int]:
        """sendfile(2) until the socket takes no more; how many bytes each call took."""
        taken: list[int] = []
        while True:
            sent = sum(taken)
            try:
                taken.append(
                    os.sendfile(self.server.fileno(), FD, offset + sent, FILE_BYTES - offset - sent)
                )
            except BlockingIOError:
                return taken

    def fill_by_write(self, data: bytes) -> tuple[list[int], str]:
        """SSLSocket.write of all of `data` again and again; what it took, and the error's name."""
        taken: list[int] = []
        while True:
            try:
                taken.append(self.server.write(data))
            except OSError as error:
                return taken, type(error).__name__
            assert taken[-1] == len(data), "a part was taken"

    def end(self) -> str:
        """Send close_notify, and wait for the client's."""
        said = attempt(self.until_done, self.server.unwrap)
        return said if isinstance(said, str) else "both close_notify"


def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns, of bytes their number; or the error's name and text."""
    try:
        done = call(*arguments)
        return len(done) if isinstance(done, bytes) else done
    except Exception as error:  # noqa: BLE001  # the error is the fact
        return f"{type(error).__name__}: {error}"


def server_context(kind: Kind) -> ssl.SSLContext:
    """The server's end of such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate_files())
    if kind.ktls:
        context.options |= OP_ENABLE_KTLS
    return context


def kernel_state(sock: socket.socket) -> dict[str, Any]:
    """What getsockopt(2) says of kernel TLS: the ULP, and version and cipher each way."""

    def ask(level: int, option: int, size: int) -> bytes | str:
        try:
            return sock.getsockopt(level, option, size)
        except OSError as error:
            return str(error)

    def crypto(option: int) -> str:
        answer = ask(SOL_TLS, option, 4)
        if isinstance(answer, str):
            return answer
        version, cipher = struct.unpack("HH", answer)
        return f"version {version:#06x} cipher {cipher}"

    return {
        "TCP_ULP": repr(ask(socket.IPPROTO_TCP, TCP_ULP, 16)),
        "TLS_TX": crypto(TLS_TX),
        "TLS_RX": crypto(TLS_RX),
    }


def openssl_state(sock: ssl.SSLSocket) -> dict[str, int]:
    """What OpenSSL says of kernel TLS each way."""
    handle = openssl_handle(sock)
    write, read = libssl.SSL_get_wbio(handle), libssl.SSL_get_rbio(handle)
    return {
        "BIO_get_ktls_send": libcrypto.BIO_ctrl(write, BIO_CTRL_GET_KTLS_SEND, 0, None),
        "BIO_get_ktls_recv": libcrypto.BIO_ctrl(read, BIO_CTRL_GET_KTLS_RECV, 0, None),
    }
