"""A certificate authority of this test process, one certificate, and clients that trust only it.

Made on first use, and kept until the process ends.
"""

from __future__ import annotations

import atexit
import os
import shutil
import ssl
import tempfile
from functools import cache
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("localhost", "127.0.0.1")


@cache
def authority() -> trustme.CA:
    """The authority that clients trust."""
    return trustme.CA()


@cache
def certificate_files() -> tuple[str, str]:
    """Paths of the PEM files of a certificate for `NAMES`: the chain and its private key."""
    folder = tempfile.mkdtemp(prefix="zerocopy-certificate-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    leaf = authority().issue_cert(*NAMES)
    chain_path, key_path = (os.path.join(folder, name) for name in ("leaf.crt", "leaf.key"))
    for index, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(chain_path, append=index > 0)
    leaf.private_key_pem.write_to_path(key_path)
    return chain_path, key_path


def client_context(alpn: Sequence[str]) -> ssl.SSLContext:
    """A context that verifies certificate and name, and offers the protocols `alpn`; to change."""
    return _context(alpn)


@cache
def shared_context(*alpn: str) -> ssl.SSLContext:
    """The same for many connections, to be left as it is: making one costs 2 ms."""
    return _context(alpn)


def _context(alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # and none of the system's authorities
    authority().configure_trust(context)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which CPython 3.11.2 sets
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    return context


def is_cut_off(error: OSError) -> bool:
    """Whether it is a reset, or an end without close_notify (no class of CPython 3.11.2)."""
    ends = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError)
    return isinstance(error, ends) or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"
