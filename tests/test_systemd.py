"""The units: correct, tight enough, and the server under them; readiness, watchdog, activation."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import SMALL, SMALL_RECORDS, body_of, poll, write_series
from tests.ports import free_port
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = os.path.dirname(os.path.dirname(__file__))
UNITS = os.path.join(REPOSITORY, "systemd")
SERVICE = os.path.join(UNITS, "zerocopy.service")
EXPOSURE_MAX = 2.0
LISTENING_MAX_S = 10.0

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one small series."""
    path = tmp_path / "data"
    write_series(path, "SMALL", SMALL_RECORDS)
    return path


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units as they would be installed, but for the command, which is not installed here."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    service = folder / "zerocopy.service"
    text = service.read_text()
    service.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text))
    return folder


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; what it says comes on both streams."""
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False
    )


@needs_analyze
def test_units_have_no_fault_that_systemd_knows(units: Path) -> None:
    """Service and sockets together, and cloudflared's with its drop-in: not one word."""
    cloudflared = units / "cloudflared.service"
    cloudflared.write_text(f"[Service]\nExecStart={sys.executable} tunnel run\n")
    names = ("zerocopy.service", "zerocopy.socket", "zerocopy-tls.socket", "cloudflared.service")
    done = analyze("verify", *(str(units / name) for name in names))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_analyze
def test_service_is_exposed_less_than_2(units: Path) -> None:
    """The overall level of `systemd-analyze security`, where 10 is no protection at all."""
    done = analyze("security", "--offline=true", str(units / "zerocopy.service"))
    level = re.search(r"Overall exposure level for zerocopy.service: (\d+\.\d+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) < EXPOSURE_MAX


def test_every_choice_of_a_unit_is_explained() -> None:
    """No setting is further from a comment than the group it belongs to is long."""
    for folder, _, names in os.walk(UNITS):
        for name in names:
            since = 0
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                for line in file:
                    since = 0 if line.startswith("#") else since + 1
                    assert since < 16, f"{name}: {line}"


def test_roll_ups_go_where_systemd_lets_the_service_write() -> None:
    """Everything else is read-only for it (ProtectSystem=strict)."""
    with open(SERVICE, encoding="utf-8") as file:
        settings = dict(
            re.findall(r"(?m)^(\w+=?\w*ROLLUPS_PATH|CacheDirectory)=(.*)$", file.read())
        )
    assert settings == {
        "CacheDirectory": "zerocopy",
        "Environment=ZEROCOPY_ROLLUPS_PATH": "%C/zerocopy/rollups",
    }


@needs_analyze
def test_server_runs_under_the_filter_of_its_unit(root: Path) -> None:
    """Start, answers over both paths, a reload and a stop, with no call that is refused in vain."""
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("this kernel has no PR_SET_MDWE")
    confined = (sys.executable, "-m", "tests.confined", SERVICE)
    with RunningServer(root, under=confined, ZEROCOPY_TLS_PORT="0") as server:
        with open(f"/proc/{server.worker_pids()[0]}/status", encoding="ascii") as status:
            assert "Seccomp:\t2" in status.read()
        assert server.get(SMALL).content == body_of(root, "SMALL")
        assert server.get("/api/symbols").status == 200
        with server.connect_tls(["http/1.1"]) as sock:
            sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200")
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: server.event("generation_gone") is not None, "the reload", 20)
        assert server.stop() == 0
        assert not [event for event in server.events() if event["level"] != "info"]


# ---- what systemd is told


class Manager:
    """What stands at NOTIFY_SOCKET."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.setblocking(False)
        self.messages: list[str] = []

    def has(self, *lines: str) -> bool:
        """Whether one message has all of these lines."""
        try:
            while True:
                self.messages.append(self.sock.recv(4_096).decode())
        except BlockingIOError:
            pass
        return any(set(lines) <= set(message.split("\n")) for message in self.messages)

    def count(self, line: str) -> int:
        """How many messages have it."""
        self.has(line)
        return sum(line in message.split("\n") for message in self.messages)


@contextmanager
def managed(root: Path, folder: Path, **environ: str) -> Iterator[tuple[Manager, RunningServer]]:
    """A server that was started as a service is; it may have to wait for its root."""
    manager = Manager(folder)
    server = RunningServer(root, NOTIFY_SOCKET=manager.path, **environ)
    server.start()
    try:
        yield manager, server
    finally:
        server.stop()
        server.log.close()
        manager.sock.close()


def test_manager_is_told_of_each_step(root: Path, tmp_path: Path) -> None:
    """READY only with the root; RELOADING with the time, then READY; why one failed; STOPPING."""
    away = tmp_path / "away"
    os.rename(root, away)
    with managed(root, tmp_path) as (manager, server):
        poll(
            lambda: manager.has("STATUS=Waiting for the data root: it cannot be read."),
            "the word that it waits",
            20,
        )
        assert any("EXTEND_TIMEOUT_USEC=" in message for message in manager.messages)
        assert not manager.has("READY=1")
        os.rename(away, root)
        poll(lambda: manager.has("READY=1"), "READY")
        assert any("workers: 1, generation: 1." in message for message in manager.messages)
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: manager.count("READY=1") == 2, "READY again", 20)
        (reloading,) = [each for each in manager.messages if "RELOADING=1" in each]
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", reloading)
        assert "generation: 2." in manager.messages[-1]
        assert manager.count("WATCHDOG=1") == 0, "nobody asked for it"
        os.kill(server.pid, signal.SIGTERM)
        poll(lambda: manager.has("STOPPING=1", "STATUS=Draining."), "STOPPING")
        assert server.process is not None
        assert server.process.wait(10) == 0


def test_watchdog_starves_when_an_event_loop_hangs(root: Path, tmp_path: Path) -> None:
    """A worker that is stopped shows no life: no beat more, until it goes on."""
    with managed(root, tmp_path, WATCHDOG_USEC="1500000", ZEROCOPY_SERVER_WORKERS="2") as (
        manager,
        server,
    ):
        poll(lambda: manager.has("READY=1"), "READY", 20)
        poll(lambda: manager.count("WATCHDOG=1") >= 2, "beats")
        worker = server.worker_pids()[1]
        os.kill(worker, signal.SIGSTOP)
        poll(lambda: server_is_silent(manager), "silence")
        os.kill(worker, signal.SIGCONT)
        beats = manager.count("WATCHDOG=1")
        poll(lambda: manager.count("WATCHDOG=1") > beats, "beats again")


def server_is_silent(manager: Manager) -> bool:
    """Whether no beat comes for as long as two are due in."""
    beats = manager.count("WATCHDOG=1")
    try:
        poll(lambda: manager.count("WATCHDOG=1") > beats, "a beat", 1.1)
    except AssertionError:
        return True
    return False


# ---- what systemd passes


def test_passed_sockets_are_served_by_all_workers_and_survive_a_reload(
    root: Path, request: pytest.FixtureRequest
) -> None:
    """By `systemd-socket-activate`: plain on the socket it opened; nobody takes all newcomers."""
    activate = shutil.which("systemd-socket-activate")
    if activate is None:
        pytest.skip("systemd-socket-activate is not installed")
    port = free_port()
    under = (activate, f"--listen=127.0.0.1:{port}", "--fdname=plain", "--setenv=PATH")
    variables = ("DATA_PATH", "USE_TLS", "METRICS_PORT", "ZEROCOPY_CONFIG", "ZEROCOPY_LOG_FORMAT")
    more = ("PORT", "ZEROCOPY_SERVER_WORKERS", "ZEROCOPY_SERVER_DRAIN_IDLE_S")
    server = RunningServer(
        root,
        under=(*under, *(f"--setenv={name}" for name in (*variables, *more))),
        ZEROCOPY_SERVER_WORKERS="2",
    )
    process = server.start()
    request.addfinalizer(process.kill)  # the workers end when their supervisor does
    poll(lambda: is_open(port), "the socket")  # which starts the server
    (ready,) = server.logged("ready")
    assert ready["address"] == f"127.0.0.1:{port}"
    server.port = port
    server.metrics_port = int(ready["metrics"].rpartition(":")[2])
    clients = [server.connect() for _ in range(40)]
    for client in clients:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert client.recv(1_000).startswith(b"HTTP/1.1 200")
    shares = [sockets_of(pid) for pid in server.worker_pids()]
    assert min(shares) > 0
    for client in clients:
        client.close()
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: server.event("generation_gone") is not None, "the reload", 20)
    assert server.get(SMALL).content == body_of(root, "SMALL")
    assert server.stop() == 0
    server.log.close()


def is_open(port: int) -> bool:
    """Whether a connection gets in."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def sockets_of(pid: int) -> int:
    """Sockets that a process has open."""
    links = [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    return sum(os.readlink(link).startswith("socket:") for link in links)
