"""What supervisor and workers say to each other, one line or one byte at a time.

Owns the words, and the command that starts a worker. The supervisor writes the orders as one line
of JSON to the worker's standard input, and later `ACCEPT`; before the SIGTERM of a reload
`REPLACED`, so that it goes on calling the server ready, which it is; the end of that pipe says that
the supervisor is gone. The worker answers on a pipe of its own: `PREPARED`, then `ACCEPTING`.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import PathFinder

import msgspec

from zerocopy.config import Config

ACCEPT, REPLACED = b"accept\n", b"replaced\n"
PREPARED, ACCEPTING = b"p", b"a"

OF_LOG_ROTATION = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that ask other servers to open their log anew. Ours is standard error, without a name."""

OF_THE_GROUP = (signal.SIGINT, signal.SIGHUP, *OF_LOG_ROTATION)
"""Signals that a terminal or a script sends to all processes, and that no worker understands.

A worker inherits them blocked, and lets them in once it ignores them.
"""

WORKER_COMMAND = (sys.executable, "-P", "-m", "zerocopy.app.worker")
"""-P: or Python would look for modules in the working directory first, before its own library."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told: its configuration and the descriptors it inherits."""

    config: Config
    worker: int
    row: int
    """Its row of the counters and of the heartbeats."""
    listener_fds: dict[str, list[int]]
    """By what is spoken on them: `plain`, `tls`."""
    shared: list[str]
    """Of these the sockets are also other workers'."""
    certificate_fds: tuple[int, int] | None
    """Copies of the certificate and its key, as they were when they were checked."""
    counters_fd: int
    beats_fd: int
    report_fd: int


def worker_environ() -> dict[str, str]:
    """The environment of a worker: ours, by which it finds the package that runs here.

    Where only the entry that -P leaves out leads to this very package, as in a checkout that is not
    installed, its directory is handed over.
    """
    environ = dict(os.environ)
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = PathFinder.find_spec("zerocopy", sys.path[not sys.flags.safe_path :])
    if found is None or found.origin != os.path.join(package, "__init__.py"):
        entries = (os.path.dirname(package), environ.get("PYTHONPATH"))
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, entries))
    return environ
