"""What supervisor and workers say to each other, one line or one byte at a time.

Owns the words, and the command that starts a worker.

| direction | on | message | meaning |
|---|---|---|---|
| to the worker | its standard input | one line of JSON | its orders |
| | | `ACCEPT` | accept connections |
| | | `REPLACED` | before the SIGTERM of a reload: keep reporting the server as ready |
| | | end of the pipe | the supervisor is gone |
| to the supervisor | a pipe of its own | `PREPARED`, then `ACCEPTING` | how far it is |
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from importlib.machinery import PathFinder
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from zerocopy.config.load import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCEPT, REPLACED = b"accept\n", b"replaced\n"
PREPARED, ACCEPTING = b"p", b"a"

OF_LOG_ROTATION = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask other servers to reopen their log; this one's is standard error."""

OF_THE_GROUP = (signal.SIGINT, signal.SIGHUP, *OF_LOG_ROTATION)
"""Signals that a terminal or a script sends to all processes, and that no worker understands.

A worker inherits them blocked, and lets them in once it ignores them.
"""

WORKER_COMMAND = (sys.executable, "-P", "-m", "zerocopy.supervise.worker")
"""-P: or Python would look for modules in the working directory first, before its own library."""


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told: its configuration and the descriptors it inherits."""

    config: Config
    worker: int
    row: int
    """Its row of the counters, of the heartbeats and, one further, of the limits."""
    listener_fds: dict[str, list[int]]
    """By protocol: `plain`, `tls`."""
    shared: list[str]
    """Protocols whose sockets other workers share."""
    certificate_fds: tuple[int, int] | None
    """Copies of the certificate and its key, as they were when they were checked."""
    counters_fd: int
    beats_fd: int
    names_fd: int
    limits_fd: int
    report_fd: int
    ticket_secret: bytes = b""
    """What signs tickets, where `[auth]` is on."""
    key_set_fds: tuple[int, int] | None = None
    """The memory of the key set of tokens, and by what the supervisor is asked to fetch it."""


def child_environ() -> dict[str, str]:
    """The environment of a child process: ours, by which it finds the package that runs here.

    Where only the entry that -P leaves out leads to this very package, as in a checkout that is not
    installed, its directory is handed over. OpenSSL reads the groups of the key exchange from a
    file of ours, unless the operator has named one.
    """
    environ = dict(os.environ)
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environ.setdefault("OPENSSL_CONF", os.path.join(package, "transport", "tls", "openssl.cnf"))
    found = PathFinder.find_spec("zerocopy", sys.path[not sys.flags.safe_path :])
    if found is None or found.origin != os.path.join(package, "__init__.py"):
        entries = (os.path.dirname(package), environ.get("PYTHONPATH"))
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
    return environ


def start_worker(spec: WorkerSpec) -> subprocess.Popen[bytes]:
    """A process that inherits the descriptors of `spec`, and has yet to be told them.

    Raises:
        OSError: the system has no room for one more.
    """
    listeners = chain(*spec.listener_fds.values())
    copies = (*(spec.certificate_fds or ()), *(spec.key_set_fds or ()))
    own = (spec.counters_fd, spec.beats_fd, spec.names_fd, spec.limits_fd, spec.report_fd)
    with _signals_of_the_group_blocked():
        return subprocess.Popen(  # noqa: S603 - a constant
            WORKER_COMMAND,
            env=child_environ(),
            stdin=subprocess.PIPE,
            pass_fds=[*listeners, *copies, *own],
            bufsize=0,
        )


@contextlib.contextmanager
def _signals_of_the_group_blocked() -> Iterator[None]:
    """Block signals until a new process ignores them.

    Else Ctrl-C or a hang-up of the terminal would end one that has just begun.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_GROUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
