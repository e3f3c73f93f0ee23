"""A cold stream beside a hot client: its speed and the hot client's p99, against plain sendfile(2).

Prints what it measured. The files are dropped from the page cache before each round, and the rounds
of all ways are interleaved; what is compared are medians inside one run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server import RunningServer
from zerocopy.core.layout import day_of, file_name
from zerocopy.storage.residency import Cachestat

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 1_700_006_400
DAYS = 2
DAY_BYTES = 64 << 20
ROUNDS = 3
HOT_S = 1.5
HOT_P99_RATIO_MAX = 2.0
COLD_SPEED_RATIO_MIN = 0.9
REPOSITORY = Path(__file__).resolve().parents[2]

# Takes a whole answer and drops it (tcp(7), MSG_TRUNC copies nothing); prints bytes and seconds.
COLD_CLIENT = """
import socket, ssl, sys, time
host, port, is_tls, raw = "127.0.0.1", int(sys.argv[1]), sys.argv[2] == "tls", sys.argv[3]
sock = socket.create_connection((host, port))
buffer = bytearray(1 << 20)
if is_tls:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    sock = context.wrap_socket(sock)
begun, total = time.perf_counter(), 0
sock.sendall(raw.encode().decode("unicode_escape").encode())
while got := sock.recv_into(buffer):
    total += got
print(total, time.perf_counter() - begun)
"""

# A plain server: accepts once and sends the files given with blocking sendfile(2).
SENDFILE_LOOP = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sock, _ = listener.accept()
sock.recv(4096)
for path in sys.argv[1:]:
    fd = os.open(path, os.O_RDONLY)
    offset, size = 0, os.fstat(fd).st_size
    while offset < size:
        offset += os.sendfile(sock.fileno(), fd, offset, 1 << 20)
sock.close()
"""

HOT_CLIENT = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
raw, until, times = sys.argv[2].encode().decode("unicode_escape").encode(), float(sys.argv[3]), []
sock.sendall(raw)
time.sleep(0.2)
nbytes = len(sock.recv(1 << 20))
until += time.perf_counter()
while time.perf_counter() < until:
    begun = time.perf_counter()
    sock.sendall(raw)
    left = nbytes
    while left:
        left -= len(sock.recv(1 << 20))
    times.append(time.perf_counter() - begun)
times.sort()
print(times[len(times) * 99 // 100] * 1e6, len(times))
"""


def request(columns: str, start: int, end: int, *fields: str) -> str:
    """A request head, escaped for the command line."""
    target = f"/api/data?symbol=COLD&type=MD&start={start}&end={end}&columns={columns}"
    return "\\r\\n".join([f"GET {target} HTTP/1.1", "Host: t", *fields, "", ""])


COLD = request("price", START_S, START_S + DAYS * 86_400, "Connection: close")
HOT = request("price", START_S, START_S + 0)


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
    """A client or server in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def numbers(process: subprocess.Popen[str]) -> list[float]:
    """What it printed last."""
    out, _ = process.communicate(timeout=60)
    return [float(number) for number in out.split()[-2:]]


def speed_of_sendfile_loop(paths: list[str]) -> float:
    """Bytes a second of a plain blocking loop over the same cold files."""
    drop(paths)
    loop = start(SENDFILE_LOOP, *paths)
    assert loop.stdout is not None
    port = int(loop.stdout.readline())
    nbytes, seconds = numbers(start(COLD_CLIENT, port, "plain", "GET"))
    loop.wait()
    loop.stdout.close()
    return nbytes / seconds


def cached_bytes(paths: list[str]) -> int:
    """How much of the files is in the page cache."""
    total = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        total += Cachestat()(fd, 0, DAY_BYTES) * 4_096
        os.close(fd)
    return total


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", ["plain"])
def test_cold_stream_is_fast_and_holds_up_no_hot_client(paths: list[str], path: str) -> None:
    """At least 0.9 of a plain sendfile loop; the hot client's p99 is at most twice its own."""
    root = str(Path(paths[0]).parents[3])
    loops, streams, alone, beside = [], [], [], []
    with RunningServer(root, ZEROCOPY_TLS_PORT="0", ZEROCOPY_MEMORY_LOCKED_BYTES_MAX="0") as server:
        port = server.tls_port if path == "tls" else server.plain_port
        for _ in range(ROUNDS):
            loops.append(speed_of_sendfile_loop(paths))
            drop(paths)
            nbytes, seconds = numbers(start(COLD_CLIENT, port, path, COLD))
            assert nbytes > DAYS * DAY_BYTES
            streams.append(nbytes / seconds)
            alone.append(numbers(start(HOT_CLIENT, server.plain_port, HOT, HOT_S))[0])
            hot = start(HOT_CLIENT, server.plain_port, HOT, HOT_S)
            time.sleep(0.3)
            while hot.poll() is None:
                drop(paths)
                numbers(start(COLD_CLIENT, port, path, COLD))
            beside.append(numbers(hot)[0])
        cold_bytes = server.metric("zerocopy_cold_bytes_total")
    speed = statistics.median(ours / loop for ours, loop in zip(streams, loops, strict=True))
    p99 = statistics.median(b / a for b, a in zip(beside, alone, strict=True))
    sys.stdout.write(
        f"\n{path}: cold stream {statistics.median(streams) / 1e6:.0f} MB/s, sendfile loop "
        f"{statistics.median(loops) / 1e6:.0f} MB/s, ratio {speed:.2f}; hot p99 alone "
        f"{statistics.median(alone):.0f} us, beside {statistics.median(beside):.0f} us, "
        f"ratio {p99:.2f}; {cold_bytes / 1e6:.0f} MB were cold\n"
    )
    assert cold_bytes > 0
    if path == "plain":
        assert speed >= COLD_SPEED_RATIO_MIN
    assert p99 <= HOT_P99_RATIO_MAX
