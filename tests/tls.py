"""Certificates on disk, clients that trust them, and handshakes in memory."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from zerocopy.core.errors import ConfigError
from zerocopy.supervise.certificate import make_context

if TYPE_CHECKING:
    from pathlib import Path

CA = trustme.CA()
LEAF = CA.issue_cert("localhost", "127.0.0.1", common_name="first")
OTHER = CA.issue_cert("localhost", "127.0.0.1", common_name="second")
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=lambda version: version.name)


@dataclass
class Pair:
    """A certificate and a key on disk."""

    cert: Path
    key: Path

    def write(self, leaf: trustme.LeafCert) -> None:
        """Replace both by renaming, as certificate clients do."""
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        for path, content in ((self.cert, chain), (self.key, leaf.private_key_pem.bytes())):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(content)
            fresh.replace(path)

    def context(self) -> ssl.SSLContext:
        """What the server makes of it."""
        return make_context(str(self.cert), str(self.key))

    def refusal(self) -> str:
        """The one line that refuses it, without the directory."""
        with pytest.raises(ConfigError) as caught:
            self.context()
        assert caught.value.__cause__ is None  # the command line would add its path again
        assert "\n" not in caught.value.detail
        return caught.value.detail.replace(f"{self.cert.parent}/", "")


def make_pair(directory: Path) -> Pair:
    """Write a good pair."""
    pair = Pair(directory / "a.crt", directory / "a.key")
    pair.write(LEAF)
    return pair


def trusting(**settings: Any) -> ssl.SSLContext:
    """A client that trusts the CA, with these attributes set."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # and none of the system's authorities
    CA.configure_trust(context)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which CPython 3.11.2 sets
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def handshake(serving: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Connect in memory; the client's end.

    Raises:
        ssl.SSLError: one side refuses the other.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    connecting = client.wrap_bio(down, up, server_hostname="localhost")
    accepting = serving.wrap_bio(up, down, server_side=True)
    for side in (connecting, accepting, connecting, accepting, connecting):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert connecting.version() is not None
    return connecting
