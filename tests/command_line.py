"""Every command of `zerocopy`, with arguments by which it succeeds: for tests of what all share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import pytest

from tests.forkserver import Forked
from tests.server import write_column
from zerocopy.access.keys import add_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.server import RunningServer

ZEROCOPY = (sys.executable, "-P", "-m", "zerocopy")
"""As the script `zerocopy` starts it: nothing is imported from the working directory."""

COMMANDS = (
    *("--help", "--version", "check-config", "check-config --json", "symbols", "symbols --json"),
    *("query", "query --output -", "rollup", "import", "generate", "certs", "get", "bars", "tail"),
    "verify",
    *("keys list", "keys list --json"),
    *("get --format=npz", "doctor", "doctor --json", "health", "status", "status --json"),
)
"""All that end by themselves and print; `serve`, `demo` and `record` do not."""

ENDED_BY_THEIR_READER = ("get", "get --format=npz", "bars", "tail")
"""What prints records: once nobody reads any more, as `head`, there is nothing to say."""

WAYS_TO_TELL = ("--version", "symbols", "symbols --json", "query", "query --output -", "generate")
"""One of each way to write: a line, a table, JSON, a report, raw records, progress."""

EVERY_COMMAND = [
    pytest.param(command, marks=() if command in WAYS_TO_TELL else pytest.mark.slow)
    for command in COMMANDS
]
"""All of `COMMANDS`; those that write as another does are left to `make slow`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A data root, a server over it, and a directory to write to."""

    root: Path
    server: RunningServer
    scratch: Path

    def run(self, command: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run one of `COMMANDS` to its end."""
        return run(self.arguments(command), **{"env": self.environment(), **options})

    def environment(self, **environ: str) -> dict[str, str]:
        """What a command needs to find the data and the server."""
        url = f"http://127.0.0.1:{self.server.port}"
        return environment(DATA_PATH=str(self.root), ZEROCOPY_URL=url, **environ)

    def keys_file(self) -> Path:
        """A key file of one key."""
        path = self.scratch / "keys.json"
        if not path.exists():
            add_key(str(path), "desk")
        return path

    def arguments(self, command: str) -> list[str]:
        """What to type for one of `COMMANDS`."""
        name, *options = command.split()
        if name == "keys":
            return [*command.split(), "--file", str(self.keys_file())]
        more: dict[str, list[str]] = {
            "query": ["BTC-USD", "MD", "0", "86399", "time,price"],
            "verify": [str(self.root)],
            "rollup": ["--path", str(self.scratch / "rollups"), "--processes=1"],
            "import": [os.devnull, "--root", str(self.scratch / "imported"), "--preset=truefx"],
            "generate": [str(self.scratch / "made"), "--days=1", "--records=10", "--overwrite"],
            "certs": ["--directory", str(self.scratch / "certs"), "--force"],
            "get": ["BTC-USD", "--type=MD", "--columns=time,price"],
            "bars": ["BTC-USD", "--type=MD"],
            "tail": ["BTC-USD", "--type=MD", "--columns=time,price", "--from=1", "--to=900"],
            "health": ["--url", f"http://127.0.0.1:{self.server.port}"],
            "status": ["--url", f"http://127.0.0.1:{self.server.metrics_port}/metrics"],
        }
        return [name, *more.get(name, []), *options]


def make_root(root: Path) -> None:
    """One symbol with one day."""
    for column, code in (("time", "I"), ("price", "f")):
        path = f"{root}/coinbase/BTC-USD/MD/{column}.01.01.70.bin"
        write_column(path, list(range(1, 1001)), code)


def environment(**environ: str) -> dict[str, str]:
    """What a command needs, and nothing of whoever runs the tests."""
    return {
        "PATH": os.environ["PATH"],
        "ZEROCOPY_CONFIG": os.devnull,
        "USE_TLS": "false",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "METRICS_PORT": "0",
        "ZEROCOPY_LOG_FORMAT": "json",
        "ZEROCOPY_SERVER_DRAIN_IDLE_S": "0",
        **environ,
    }


def run(arguments: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run `zerocopy` to its end; what is written is captured unless `options` have it elsewhere."""
    settings: dict[str, Any] = {"env": environment(), "timeout": 30}
    settings |= {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run([*ZEROCOPY, *arguments], check=False, **(settings | options))


@contextmanager
def started(
    arguments: Sequence[str], *, under: Sequence[str] = (), **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Start `zerocopy`; it ends with the block, whatever the test finds.

    `under` is a command that executes it in its place.
    """
    with subprocess.Popen([*under, *ZEROCOPY, *arguments], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run_forked(
    arguments: Sequence[str],
    env: Mapping[str, str],
    *,
    given: bytes = b"",
    folder: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """The same without a start: for tests of what a command does, not of how it comes to be.

    See `tests.forkserver`. Its streams are files, with `given` as standard input.
    """
    with TemporaryFile() as source, TemporaryFile() as out, TemporaryFile() as err:
        source.write(given)
        source.seek(0)
        streams = (source.fileno(), out.fileno(), err.fileno())
        process = Forked(arguments, env, streams, folder)
        try:
            code = process.wait(50)
        finally:
            process.kill()
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read())
    return subprocess.CompletedProcess([*arguments], code, *told)


def in_text(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[str]:
    """The same with what was written as text."""
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def end(process: subprocess.Popen[Any]) -> int:
    """Ctrl-C; the exit code."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(20)
    finally:
        process.kill()
        process.wait()
