"""Signals that scripts send to every server they know, and that mean nothing to this one."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.command_line import end, environment, make_root, run, started
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from pathlib import Path

ROTATION = (signal.SIGUSR1, signal.SIGUSR2)

EARLY = """
import os, signal, sys
def rotate():
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR2)
if "zerocopy.supervise.worker" in sys.orig_argv:
    rotate()
else:
    import importlib.abc
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "zerocopy.supervise.supervisor":
                rotate()
    sys.meta_path.insert(0, Finder())
"""
"""What Python processes of a server run first: the signals in the middle of the start of each."""


@pytest.mark.parametrize("number", ROTATION, ids=lambda number: number.name)
def test_signals_of_log_rotation_end_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """`postrotate` sends them to all processes of a name; each goes on, and says so."""
    with ForkedServer(tmp_path) as server:
        (worker,) = server.worker_pids()
        for pid in (server.pid, worker):
            os.kill(pid, number)
        lines = server.logged("signal_ignored", 2)
        assert [line["signal"] for line in lines] == [number.name] * 2
        assert sorted(str(line.get("worker")) for line in lines) == ["0", "None"]
        assert server.worker_pids() == [worker]
        assert server.get("/api/symbols").status == 200


def test_signals_of_log_rotation_in_the_middle_of_a_start_end_nothing(tmp_path: Path) -> None:
    """They may come before anything is there to handle them."""
    (tmp_path / "sitecustomize.py").write_text(EARLY)
    root = tmp_path / "data"
    make_root(root)
    with RunningServer(root, PYTHONPATH=str(tmp_path)) as server:
        assert server.get("/api/symbols").status == 200
        assert server.event("worker_died") is None


def test_signals_of_log_rotation_do_not_end_the_demo(tmp_path: Path) -> None:
    """It is a server like any other."""
    assert run(["generate", str(tmp_path / "data"), "--records", "10"]).returncode == 0
    options = ["--root", f"{tmp_path}/data", "--certs", str(tmp_path), "--port=0", "--tls-port=0"]
    with started(
        ["demo", *options],
        env=environment(PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert any(b"Ctrl-C" in line for line in demo.stdout)
        demo.send_signal(signal.SIGUSR1)
        assert b"signal_ignored" in demo.stderr.readline()
        assert end(demo) == 0
