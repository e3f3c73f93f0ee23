"""Socket activation: the listening sockets that systemd has opened for this process.

Owns the protocol of sd_listen_fds(3): LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES. The names say what
is spoken on a socket: `plain` or `tls` (FileDescriptorName= of a socket unit). It must never know
who accepts.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START: the first descriptor after standard error."""

NAMES = ("plain", "tls")

_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})


def take_passed_sockets(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The sockets passed to this process, by name; the variables are removed from `environ`.

    A variable that stayed would reach the workers, which have other descriptors at those numbers.

    Raises:
        ConfigError: a socket has another name, or is no listening TCP socket.
    """
    process, count, names = (
        environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if process != str(os.getpid()) or not count.isdecimal():
        return {}  # meant for another process, which has passed its environment on
    passed: dict[str, list[socket.socket]] = {}
    for fd, name in enumerate((names.split(":") + [""] * int(count))[: int(count)], FIRST_FD):
        if name not in NAMES:
            raise ConfigError(
                f"socket activation: descriptor {fd} is named {name!r:.80}; "
                "FileDescriptorName= must be plain or tls"
            )
        try:
            os.set_inheritable(fd, False)
            listener = socket.socket(fileno=fd)
        except OSError as error:  # a FIFO, or a file that the manager keeps for us
            raise ConfigError(
                f"socket activation: descriptor {fd}, {name}, is no socket: {error.strerror}"
            ) from error
        if not _is_listening_tcp(listener):
            raise ConfigError(
                f"socket activation: descriptor {fd}, {name}, is no listening TCP socket; "
                "the unit needs ListenStream= with a port and Accept=no"
            )
        passed.setdefault(name, []).append(listener)
    return passed


def _is_listening_tcp(listener: socket.socket) -> bool:
    return (
        listener.family in _FAMILIES
        and listener.type == socket.SOCK_STREAM
        and bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )
