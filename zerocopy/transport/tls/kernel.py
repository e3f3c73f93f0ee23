"""Kernel TLS: whether the kernel encrypts what is sent on a socket (tls.ko, Linux 4.13).

Owns the questions to Python, OpenSSL and the kernel. sendfile(2) on such a socket sends records
that no program has seen; OpenSSL speaks the handshake and hands the keys over.
"""

from __future__ import annotations

import errno
import socket
import ssl

ENABLE_KTLS = getattr(ssl, "OP_ENABLE_KTLS", 0)
"""The option of `ssl.SSLContext`; 0 where Python is older than 3.12."""

_TCP_ULP = 31  # linux/tcp.h
_SOL_TLS, _TLS_TX = 282, 1  # linux/tls.h
_CRYPTO_INFO_BYTES = 4
"""Of `struct tls_crypto_info`: version and cipher."""


def missing() -> str | None:
    """Why no connection can be encrypted by the kernel, as half a sentence; None where one may."""
    if not ENABLE_KTLS:
        return "Python is older than 3.12"
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        except OSError as error:
            # The upper layer is there, and wants a connection.
            if error.errno == errno.ENOTCONN:
                return None
    return "the kernel has no module tls"


def encrypts(sock: socket.socket) -> bool:
    """Whether the kernel encrypts what is sent on `sock`: OpenSSL has given it the keys."""
    try:
        return bool(sock.getsockopt(_SOL_TLS, _TLS_TX, _CRYPTO_INFO_BYTES))
    except OSError:  # of this cipher or version it has none, or OpenSSL was built without it
        return False
