"""A cold stream beside a hot client: its speed and the hot client's p99.

Prints what it measured. The files are dropped from the page cache before each stream, with a fresh
server each time, for pages that a server has mapped are not dropped. The stream is compared with a
plain blocking loop over the same cold files, of sendfile(2), over TLS of read(2) and SSL_write; the
hot client with itself alone. Medians of interleaved rounds.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certificate import certificate_files
from tests.server import RunningServer
from zerocopy.core.layout import day_of, file_name
from zerocopy.storage.residency import Cachestat

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 1_700_006_400
DAYS = 8
DAY_BYTES = 64 << 20
ROUNDS = 5
ALONE_S = 0.5
IS_SLOW = "COLD_DISK_IS_SLOW" in os.environ
STREAM_NICE = 10
"""So that it is the server who makes the hot client wait, and not the scheduler."""
HOT_P99_RATIO_MAX = 2.0
COLD_SPEED_RATIO_MIN = 0.9
REPOSITORY = Path(__file__).resolve().parents[2]

# Takes a whole answer once told to and drops it; prints bytes and seconds.
COLD_CLIENT = """
import os, socket, ssl, sys, time
host, port, is_tls, raw = "127.0.0.1", int(sys.argv[1]), sys.argv[2] == "tls", sys.argv[3]
os.nice(int(sys.argv[4]))
sock = socket.create_connection((host, port))
buffer = bytearray(1 << 16)  # more would be copied in one go, for a millisecond, on PREEMPT_NONE
if is_tls:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = context.wrap_socket(sock)
print("ready", flush=True)
sys.stdin.readline()
begun, total = time.perf_counter(), 0
sock.sendall(raw.encode().decode("unicode_escape").encode())
while got := sock.recv_into(buffer):
    total += got
print(total, time.perf_counter() - begun)
"""

# A plain server: accepts once and sends the files given, each call blocking.
LOOP = """
import os, socket, ssl, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
sock, _ = listener.accept()
certificate, key, *paths = sys.argv[2:]
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    sock = context.wrap_socket(sock, server_side=True)
sock.recv(4096)
for path in paths:
    fd = os.open(path, os.O_RDONLY)
    offset, size = 0, os.fstat(fd).st_size
    while offset < size and not certificate:
        offset += os.sendfile(sock.fileno(), fd, offset, 1 << 20)
    while certificate and (piece := os.read(fd, 1 << 20)):
        sock.sendall(piece)
sock.close()
"""

# Asks in a closed loop; SIGUSR1 forgets what was taken so far, SIGTERM ends it.
HOT_CLIENT = """
import signal, socket, sys, time
times, ended = [], []
signal.signal(signal.SIGUSR1, lambda *_: times.clear())
signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
raw = sys.argv[2].encode().decode("unicode_escape").encode()
sock.sendall(raw)
time.sleep(0.2)
nbytes = len(sock.recv(1 << 20))
print("ready", flush=True)
while not ended:
    begun = time.perf_counter()
    sock.sendall(raw)
    left = nbytes
    while left:
        left -= len(sock.recv(1 << 20))
    times.append(time.perf_counter() - begun)
times.sort()
print(times[len(times) * 99 // 100] * 1e6, len(times))
"""


def target(start: int, end: int) -> str:
    """Of the prices in a range of seconds."""
    return f"/api/data?symbol=COLD&type=MD&start={start}&end={end}&columns=price"


def request(target: str, *fields: str) -> str:
    """A request head, escaped for the command line."""
    return "\\r\\n".join([f"GET {target} HTTP/1.1", "Host: t", *fields, "", ""])


TARGET = target(START_S, START_S + DAYS * 86_400)
COLD = request(TARGET, "Connection: close")
HOT = request(target(START_S, START_S))


@pytest.fixture(name="paths", scope="module")
def fixture_paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The price files of some days, long closed; `time` is a 16,384th of a record a second."""
    folder = tmp_path_factory.mktemp("data") / "coinbase" / "COLD" / "MD"
    folder.mkdir(parents=True)
    count, paths = DAY_BYTES // 4, []
    first_day = day_of(START_S)
    for day in range(first_day, first_day + DAYS):
        each = -(-count // 86_400)
        times = b"".join((day * 86_400 + s).to_bytes(4, "little") * each for s in range(86_400))
        for column, content in (
            ("time", times),
            ("price", os.urandom(1 << 20) * (DAY_BYTES >> 20)),
        ):
            path = folder / file_name(column, day)
            with path.open("wb") as file:
                file.write(content[: count * 4])
                file.flush()
                os.fsync(file.fileno())
            os.utime(path, (START_S, START_S))
            if column == "price":
                paths.append(str(path))
    yield paths
    for name in paths:
        os.unlink(name)


def drop(paths: list[str]) -> None:
    """Have the kernel forget the pages, which are on the disk; sockets may hold some a while."""
    deadline = time.monotonic() + 10
    while True:
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
        left = cached_bytes(paths)
        if left < DAY_BYTES // 10:
            return
        assert time.monotonic() < deadline, f"{left} bytes are still in the page cache"
        time.sleep(0.01)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A client or server in a process of its own, which has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def numbers(process: subprocess.Popen[str]) -> list[float]:
    """What it prints last, once told to go on."""
    out, _ = process.communicate("\n", timeout=60)
    return [float(number) for number in out.split()[-2:]]


def speed_of_loop(paths: list[str], path: str) -> float:
    """Bytes a second of a plain blocking loop over the same cold files."""
    drop(paths)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    keys = certificate_files() if path == "tls" else ("", "")
    loop = start(LOOP, port, *keys, *paths)
    nbytes, seconds = numbers(start(COLD_CLIENT, port, path, "GET", 0))
    loop.communicate()
    return nbytes / seconds


def cached_bytes(paths: list[str]) -> int:
    """How much of the files is in the page cache."""
    total = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        total += Cachestat()(fd, 0, DAY_BYTES) * 4_096
        os.close(fd)
    return total


@dataclass
class Round:
    """Bytes a second, and microseconds of the hot client's p99."""

    cold: float
    warm: float
    cold_beside: float
    alone_us: float
    beside_us: float
    beside_warm_us: float


def stream(server: RunningServer, path: str, *, hot: bool) -> tuple[float, float]:
    """Bytes a second of one stream, and the p99 of a hot client beside it, if there is one."""
    nice = STREAM_NICE if hot else 0
    asking = start(HOT_CLIENT, server.plain_port, HOT) if hot else None
    if path == "tls":
        if asking is not None:
            asking.send_signal(signal.SIGUSR1)
        nbytes, seconds = over_http2(server.tls_port, nice)
    else:
        client = start(COLD_CLIENT, server.plain_port, path, COLD, nice)
        if asking is not None:
            asking.send_signal(signal.SIGUSR1)
        nbytes, seconds = numbers(client)
    assert nbytes > DAYS * DAY_BYTES
    return nbytes / seconds, ended(asking) if asking is not None else 0


def over_http2(port: int, nice: int) -> tuple[float, float]:
    """Bytes and seconds of one answer to h2load, which drops it; the handshake is in them."""
    told = subprocess.check_output(
        [
            *("nice", f"-n{nice}", "h2load", "-n1", "-c1", "-t1", "-w24", "-W24"),
            f"https://127.0.0.1:{port}{TARGET}",
        ],
        text=True,
    )
    assert ", 1 succeeded, 0 failed" in told, told
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    took = re.search(r"^finished in ([\d.]+)(us|ms|s),", told, re.MULTILINE)
    data = re.search(r"\((\d+)\) data$", told, re.MULTILINE)
    assert took is not None
    assert data is not None
    return float(data[1]), float(took[1]) * unit[took[2]]


def ended(asking: subprocess.Popen[str]) -> float:
    """The p99 of a hot client, in microseconds."""
    asking.send_signal(signal.SIGTERM)
    return numbers(asking)[0]


def measure(paths: list[str], path: str) -> Round:
    """One round: the same server first alone, then with the cold stream and the warm one."""
    root = str(Path(paths[0]).parents[3])
    options = {"ZEROCOPY_TLS_PORT": "0", "ZEROCOPY_MEMORY_LOCKED_BYTES_MAX": "0"}
    with RunningServer(root, **options) as server:
        drop(paths)
        cold, _ = stream(server, path, hot=False)
        assert server.metric("zerocopy_cold_bytes_total") > DAYS * DAY_BYTES / 2
        warm, _ = stream(server, path, hot=False)
    with RunningServer(root, **options) as server:
        asking = start(HOT_CLIENT, server.plain_port, HOT)
        time.sleep(ALONE_S)
        alone_us = ended(asking)
        drop(paths)
        cold_beside, beside_us = stream(server, path, hot=True)
        _, beside_warm_us = stream(server, path, hot=True)
    return Round(cold, warm, cold_beside, alone_us, beside_us, beside_warm_us)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is not installed")
@pytest.mark.parametrize("path", ["plain", "tls"])
def test_cold_stream_is_fast_and_holds_up_no_hot_client(
    paths: list[str], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At least 0.9 of a plain loop's speed; the hot client's p99 is at most twice its own.

    Where the disk is slow (`COLD_DISK_IS_SLOW`, for who throttles it) both are asserted of the two
    together: one of 2 GB/s keeps two processors busy, whoever reads from it.
    """
    loops, rounds = [], []
    for _ in range(ROUNDS):
        loops.append(speed_of_loop(paths, path))
        rounds.append(measure(paths, path))
    of = {
        name: statistics.median(getattr(one, name) for one in rounds)
        for name in ("cold", "warm", "cold_beside", "alone_us", "beside_us", "beside_warm_us")
    }
    loop = statistics.median(loops)
    speed = statistics.median(one.cold / loop for one, loop in zip(rounds, loops, strict=True))
    with capsys.disabled():
        sys.stdout.write(
            f"\n{path}: cold {of['cold'] / 1e6:.0f} MB/s, warm {of['warm'] / 1e6:.0f}, plain "
            f"loop {loop / 1e6:.0f}, ratio {speed:.2f}, beside the hot client "
            f"{of['cold_beside'] / loop:.2f}; its p99 alone {of['alone_us']:.0f} us, "
            f"beside cold {of['beside_us']:.0f}, beside warm {of['beside_warm_us']:.0f}\n"
        )
    assert speed >= COLD_SPEED_RATIO_MIN
    if IS_SLOW:
        assert of["cold_beside"] >= COLD_SPEED_RATIO_MIN * loop
        assert of["beside_us"] <= HOT_P99_RATIO_MAX * of["alone_us"]
