"""Ports for programs that cannot be given an open socket, and whether they have come to listen."""

from __future__ import annotations

import contextlib
import random
import socket

PORTS = range(20_000, 30_000)
"""Below Linux's ephemeral ports (from 32768), so that no test that asks for port 0 takes one."""


def free_port() -> int:
    """A port that nothing listens on and nobody is given by chance."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether something listens on a port of this machine."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def accepts_unix(path: str) -> bool:
    """Whether something listens on a socket of a path; the path is there before that."""
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0
