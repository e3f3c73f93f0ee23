"""Standard streams that are closed at the start: cron jobs and supervisors of processes do that."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.command_line import (
    EVERY_COMMAND,
    ZEROCOPY,
    Place,
    end,
    environment,
    make_root,
    run,
    started,
)
from tests.faults.client import poll
from tests.server import ForkedServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

IN_SHORT = ((2,), (0, 1, 2))
CLOSED = [
    pytest.param(fds, marks=() if fds in IN_SHORT else pytest.mark.slow)
    for count in (1, 2, 3)
    for fds in itertools.combinations((0, 1, 2), count)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server to ask, whose streams are open."""
    root = tmp_path_factory.mktemp("data")
    make_root(root)
    with ForkedServer(root) as server:
        yield Place(root, server, tmp_path_factory.mktemp("scratch"))


def closing(fds: Sequence[int]) -> list[str]:
    """What executes a command without these descriptors."""
    return ["sh", "-c", f'exec "$@" {" ".join(f"{fd}>&-" for fd in fds)}', "sh"]


@pytest.mark.parametrize("fds", CLOSED, ids=str)
def test_server_starts_whatever_streams_are_closed(place: Place, fds: tuple[int, ...]) -> None:
    """No socket and no counter gets the number of a stream: /dev/null is there in its place."""
    server = subprocess.Popen(
        [*closing(fds), *ZEROCOPY, "serve"],
        env=environment(DATA_PATH=str(place.root)),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        poll(lambda: has_answered(server.pid) or server.poll() is not None, "an answer")
        assert server.poll() is None
        (worker,) = children(server.pid)
        for pid in (server.pid, worker):
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]
            assert all(targets[fd] == os.devnull for fd in fds if pid == server.pid or fd)
    finally:
        assert end(server) == 0


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_command_ends_well_without_input_and_output(place: Place, command: str) -> None:
    """What is said to a closed stream is lost, as on /dev/null, and nothing else is."""
    done = subprocess.run(
        [*closing((0, 1)), *ZEROCOPY, *place.arguments(command)],
        env=place.environment(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 or "doctor" in command
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("fds", [pytest.param((0,), marks=pytest.mark.slow), (2,)], ids=str)
def test_demo_serves_whatever_streams_are_closed(tmp_path: Path, fds: tuple[int, ...]) -> None:
    """Its URLs are those of a server that answers."""
    assert run(["generate", str(tmp_path / "data"), "--records", "10"]).returncode == 0
    options = f"--root {tmp_path}/data --certs {tmp_path} --port 0 --tls-port 0"
    with started(
        ["demo", *options.split()],
        under=closing(fds),
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        urls = (re.search(r"http://\S+/api/symbols", line) for line in demo.stdout)
        assert answered(next(url.group() for url in urls if url))
        assert end(demo) == 0


def has_answered(pid: int) -> bool:
    """Whether the server answers on one of the ports on which it listens."""
    return any(answered(f"http://127.0.0.1:{port}/api/symbols") for port in ports(pid))


def ports(pid: int) -> list[int]:
    """The ports on which a process listens: with standard error closed it does not tell."""
    held = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            held.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    with open("/proc/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file][1:]
    listening = [row for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]
    return [int(row[1].rpartition(":")[2], 16) for row in listening]


def answered(url: str) -> bool:
    """Whether the symbols of the sample data are there."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return b"BTC-USD" in response.read()
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """The process ids of the children that live now."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
