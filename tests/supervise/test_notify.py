"""The service manager: what it is told, what it passes, and whom it is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from zerocopy.supervise.notify import Notifier

if TYPE_CHECKING:
    from pathlib import Path

TAKE = """
import os, sys
from zerocopy.supervise.activation import take_passed_sockets
from zerocopy.core.errors import ConfigError
os.environ["LISTEN_PID"] = os.environ["LISTEN_PID"] or str(os.getpid())
try:
    passed = take_passed_sockets(os.environ)
except ConfigError as error:
    sys.exit(error.detail)
inheritable = any(os.get_inheritable(s.fileno()) for each in passed.values() for s in each)
left = [name for name in os.environ if name.startswith("LISTEN")]
print({name: len(each) for name, each in passed.items()}, inheritable, left)
"""


@pytest.mark.parametrize("is_abstract", [False, True])
def test_messages_reach_the_socket_and_the_variables_are_taken(
    tmp_path: Path, *, is_abstract: bool
) -> None:
    """A path or a name of the abstract namespace; workers would inherit what stays."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{path}" if is_abstract else path)
        manager.settimeout(5)
        environ = {"NOTIFY_SOCKET": "@" + path if is_abstract else path, "PATH": "/bin"}
        notifier = Notifier(environ)
        assert environ == {"PATH": "/bin"}
        before_us = time.monotonic_ns() // 1_000
        notifier.reloading()
        first, second = manager.recv(1_000).decode().split("\n")
        assert first == "RELOADING=1"
        assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= before_us + 5_000_000
        notifier.close()


def test_status_is_one_line_whatever_it_holds(tmp_path: Path) -> None:
    """A line feed would begin another variable; what is no UTF-8 or too long must not be lost."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        notifier.send(READY=1, STATUS="a\nSTOPPING=1 \udcff")
        assert manager.recv(10_000) == b"READY=1\nSTATUS=a STOPPING=1 \\udcff"
        notifier.send(STATUS="x" * 5_000)
        assert manager.recv(10_000) == b"STATUS=" + b"x" * 1_024
        notifier.close()


def test_watchdog_is_fed_only_when_due_and_alive(tmp_path: Path) -> None:
    """Thrice within its time, and never for a loop that hangs."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(0)
        notifier = Notifier(
            {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
        )
        now_s = notifier.beat_at_s
        notifier.beat(now_s, is_alive=True)
        assert manager.recv(1_000) == b"WATCHDOG=1"
        assert notifier.beat_at_s == now_s + 1
        notifier.beat(now_s + 0.5, is_alive=True)
        notifier.beat(now_s + 1, is_alive=False)
        with pytest.raises(BlockingIOError):
            manager.recv(1_000)
        notifier.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "no"},
        {"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "1000000"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
def test_nobody_to_tell_is_no_fault(environ: dict[str, str]) -> None:
    """No socket, one that is gone, and a watchdog of another process: nothing, and no error."""
    notifier = Notifier(environ)
    notifier.send(READY=1)
    notifier.beat(time.monotonic(), is_alive=True)
    assert notifier.watchdog_s is None
    assert notifier.beat_at_s == float("inf")
    notifier.close()


def take(names: str, *, count: int = 1, process: str = "", listening: bool = True) -> str:
    """What a process makes of the sockets it is passed: its output, or its error."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if listening:
            listener.listen()

        def pass_on() -> None:
            for fd in range(3, 3 + count):
                os.dup2(listener.fileno(), fd)

        done = subprocess.run(
            [sys.executable, "-c", TAKE],
            env={"LISTEN_FDS": str(count), "LISTEN_FDNAMES": names, "LISTEN_PID": process},
            preexec_fn=pass_on,
            close_fds=False,
            capture_output=True,
            text=True,
            check=False,
        )
    return (done.stdout + done.stderr).strip()


def test_passed_sockets_are_taken_by_name() -> None:
    """Several of one name are all taken; none is inherited, and no variable stays."""
    assert take("plain:tls:plain", count=3) == "{'plain': 2, 'tls': 1} False []"
    assert take("plain", process="1") == "{} False []", "those of another process are not"


@pytest.mark.parametrize(
    ("names", "listening", "why"),
    [
        ("zerocopy.socket", True, "FileDescriptorName= must be plain or tls"),
        ("", True, "FileDescriptorName= must be plain or tls"),
        ("plain", False, "is no listening TCP socket"),
    ],
)
def test_passed_socket_of_no_use_is_refused(names: str, why: str, *, listening: bool) -> None:
    """The line names the setting of the unit that is wrong."""
    assert why in take(names, listening=listening)


def test_passed_descriptor_that_is_no_socket_is_refused() -> None:
    """A FIFO or a file of the unit, or nothing at all: one line, no traceback."""
    for descriptor in ("3</dev/null", "3<&-"):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec {descriptor}; exec "$0" -c "$1"', sys.executable, TAKE],
            env={"LISTEN_FDS": "1", "LISTEN_FDNAMES": "plain", "LISTEN_PID": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr.startswith("socket activation: descriptor 3, plain, is no socket: ")
        assert "Traceback" not in done.stderr
