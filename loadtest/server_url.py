"""Where the server is, and how to connect to it.

Owns sockets and certificates of the clients. Under locust, gevent has replaced `socket` and `ssl`
before this is imported, so that one user waits while others go on.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

TIMEOUT_S = 60.0
"""Without a byte: twice the 30 s after which the server itself gives up on a client."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """`http://host:port` or `https://host:port`."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> ServerUrl:
        """Take a URL apart.

        Raises:
            ValueError: it is not one of these.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url}: must be http://host:port or https://host:port")
        default = 443 if parts.scheme == "https" else 80
        return cls(parts.scheme, parts.hostname, parts.port or default)

    @property
    def authority(self) -> str:
        """What stands in Host or :authority."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def connect(self) -> socket.socket:
        """A TCP connection with a timeout; small writes leave at once."""
        sock = socket.create_connection((self.host, self.port), TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def connect_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A connection over TLS; an end without close_notify is an error."""
        sock = self.connect()
        try:
            return context.wrap_socket(sock, server_hostname=self.host, suppress_ragged_eofs=False)
        except OSError:
            sock.close()
            raise


def client_context(ca: str = "", *, insecure: bool = False) -> ssl.SSLContext:
    """Trust what the system trusts, or the CA in this file, or, if told so, anyone."""
    context = ssl.create_default_context(cafile=ca or None)
    context.set_alpn_protocols(["h2"])
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
