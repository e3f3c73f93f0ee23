"""The plain listener as real clients use it: curl, wrk and CPython's http.client."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    MEDIUM,
    SMALL,
    body_of,
    get_many,
    make_root,
    request_of,
    target_of,
)
from tests.server import ForkedServer, RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEALTH = request_of("/healthz")
ALIVE = b'{"status":"alive"}'
TOO_LONG = "x" * 8_192

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("clients")
    make_root(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options."""
    with ForkedServer(root) as running:
        yield running


def curl(server: RunningServer, target: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl with `options` for one target."""
    command = ["curl", "-sS", "--max-time", "20", *options]
    url = f"http://127.0.0.1:{server.port}{target}"
    return subprocess.run([*command, url], capture_output=True, check=True)


@needs_curl
@pytest.mark.parametrize("series", ["SMALL", "MEDIUM", "LARGE"])
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_curl_writes_a_file_equal_to_the_data(
    server: RunningServer, root: Path, tmp_path: Path, series: str, version: str
) -> None:
    """A body from memory and bodies from files arrive byte for byte, by both versions."""
    target = target_of(series, "price")
    curl(server, target, version, "-o", str(tmp_path / "body"))
    assert (tmp_path / "body").read_bytes() == body_of(root, series, ["price"])


@needs_curl
def test_curl_head_options_and_upgrade(server: RunningServer, root: Path) -> None:
    """HEAD tells the length without content, OPTIONS is 204, and an upgrade to h2c is ignored."""
    expected = body_of(root, "MEDIUM")
    head = curl(server, MEDIUM, "--head").stdout
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: %d\r\n" % len(expected) in head
    assert head.endswith(b"\r\n\r\n")
    options = curl(server, MEDIUM, "-X", "OPTIONS", "-i").stdout
    assert options.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"\r\nContent-Length:" not in options
    upgraded = curl(server, MEDIUM, "--http2", "-w", "%{http_version}").stdout
    assert upgraded == expected + b"1.1"


@needs_curl
def test_curl_reuses_one_connection_for_two_urls(server: RunningServer) -> None:
    """Curl connects once for two answers, the first of them from files."""
    url = f"http://127.0.0.1:{server.port}/healthz"
    discard = ("-o", "/dev/null", "-w", "%{num_connects} ")
    assert curl(server, MEDIUM, *discard, *("-o", "/dev/null"), url).stdout == b"1 0 "


@needs_curl
def test_curl_expect_continue_is_answered_at_once(server: RunningServer) -> None:
    """Content that waits for 100 (Continue) is asked for, not waited for a second."""
    done = curl(
        server, "/healthz", "-X", "GET", "-v", "-H", "Expect: 100-continue", "-d", "x" * 2_000
    )
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    assert done.stdout == ALIVE
    assert b"Done waiting for 100-continue" not in done.stderr


@needs_wrk
@pytest.mark.parametrize(
    ("series", "connections"),
    [("SMALL", 64), pytest.param("MEDIUM", 16, marks=pytest.mark.slow)],
)
def test_wrk_sees_no_error(server: RunningServer, series: str, connections: int) -> None:
    """A second of full load ends without a socket error or a status other than 2xx."""
    url = f"http://127.0.0.1:{server.port}{target_of(series)}"
    command = ["wrk", "-t1", f"-c{connections}", "-d1s", "--timeout", "5s", url]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    requests = re.search(r"(\d+) requests in", report)
    assert requests is not None
    assert int(requests[1]) > 100


def test_http_client_keeps_one_connection(server: RunningServer, root: Path) -> None:
    """CPython's client gets small, large and wrong answers in turn over one connection."""
    targets = [SMALL, MEDIUM, "/nowhere", SMALL, "/api/data", MEDIUM]
    before = server.metric("zerocopy_connections_accepted_total")
    answers = get_many(server, targets)
    assert [status for status, _ in answers] == [200, 200, 404, 200, 400, 200]
    assert answers[0][1] == answers[3][1] == body_of(root, "SMALL")
    assert answers[1][1] == answers[5][1] == body_of(root, "MEDIUM")
    assert server.metric("zerocopy_connections_accepted_total") == before + 1


def test_http_client_sends_chunked_content(server: RunningServer) -> None:
    """Content in chunks is dropped, and the connection goes on."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(2):
        connection.request("GET", "/healthz", body=iter([b"one", b"two"]), encode_chunked=True)
        assert connection.getresponse().read() == ALIVE
    connection.close()
