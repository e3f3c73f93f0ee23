"""The TLS listener as real clients use it: curl, h2load, nghttp and CPython's http.client."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.certificate import authority, client_context
from tests.naive import naive_symbols
from tests.server import ForkedServer, RunningServer
from tests.ticks import make_ticks, small_end_s, ticks_body, ticks_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORDS_PER_DAY = 100_000
SMALL_END_S = small_end_s(RECORDS_PER_DAY)
SMALL = ticks_target(end_s=SMALL_END_S)
LARGE = ticks_target()
TARGETS = {"small": SMALL, "large": LARGE}
ALIVE = b'{"status":"alive"}'
TIMEOUT_S = 15

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_h2load = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load (nghttp2-client) is not installed"
)
needs_nghttp = pytest.mark.skipif(
    shutil.which("nghttp") is None, reason="nghttp (nghttp2-client) is not installed"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A root with 4 KB and 2.4 MB an answer."""
    path = tmp_path_factory.mktemp("tls-clients")
    make_ticks(str(path), RECORDS_PER_DAY)
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: str) -> Iterator[RunningServer]:
    """One worker with default options, on TLS; none of its workers may end."""
    with ForkedServer(root, USE_TLS="true") as running:
        pids = running.worker_pids()
        yield running
        assert running.worker_pids() == pids
        errors = [event for event in running.events() if event["level"] == "error"]
        assert not errors


@pytest.fixture(scope="module")
def ca_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The authority's certificate as a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


def bodies(root: str) -> dict[str, bytes]:
    """What each of `TARGETS` answers."""
    return {"small": ticks_body(root, end_s=SMALL_END_S), "large": ticks_body(root)}


def run(*command: str) -> bytes:
    """Run a client to its end without an error; its standard output."""
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, (command, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


# ---- curl


@needs_curl
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    ("options", "version"),
    [
        (["--http2"], b"2"),
        (["--http1.1"], b"1.1"),
        (["--http2", "--tls-max", "1.2"], b"2"),
        (["--http1.1", "--tls-max", "1.2"], b"1.1"),
        (["--no-alpn", "--http1.1"], b"1.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_curl_gets_every_byte_over_a_verified_connection(
    server: RunningServer,
    root: str,
    ca_path: str,
    *,
    options: list[str],
    version: bytes,
    name: str,
) -> None:
    """Each protocol and TLS version gives the oracle's bytes to a client that trusts one CA."""
    for host in ("localhost", "127.0.0.1"):
        url = f"https://{host}:{server.port}{TARGETS[name]}"
        report = ("-w", "%{http_version} %{ssl_verify_result}")
        out = run("curl", "-sS", "--ipv4", "--cacert", ca_path, *options, *report, url)
        assert out == bodies(root)[name] + version + b" 0"


@needs_curl
@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_curl_head_has_the_length_and_no_content(
    server: RunningServer, root: str, ca_path: str, version: str
) -> None:
    """HEAD tells how long GET would be, by both protocols."""
    url = f"https://localhost:{server.port}{LARGE}"
    out = run("curl", "-sS", "--ipv4", "--cacert", ca_path, version, "--head", url)
    assert b"content-length: %d\r\n" % len(bodies(root)["large"]) in out.lower()
    assert b"server: zerocopy\r\n" in out.lower()
    assert out.endswith(b"\r\n\r\n")


@needs_curl
@pytest.mark.parametrize(
    "options", [["--http2"], ["--http1.1"], ["--http2", "--parallel"]], ids=" ".join
)
def test_curl_makes_several_transfers_on_one_connection(
    server: RunningServer, root: str, ca_path: str, tmp_path: Path, options: list[str]
) -> None:
    """Eight answers, one after the other or multiplexed, each to its own file."""
    names = ["small", "large"] * 4
    command = ["curl", "-sS", "--ipv4", "--cacert", ca_path, *options]
    for index, name in enumerate(names):
        url = f"https://localhost:{server.port}{TARGETS[name]}"
        command += ["-o", str(tmp_path / str(index)), url]
    before = server.metric("zerocopy_connections_accepted_total")
    run(*command)
    for index, name in enumerate(names):
        assert (tmp_path / str(index)).read_bytes() == bodies(root)[name]
    assert server.metric("zerocopy_connections_accepted_total") == before + 1


@needs_curl
@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
@pytest.mark.parametrize("nbytes", [0, 10, 60_000, 1_000_000])
def test_curl_posts_content_and_is_told_405(
    server: RunningServer, ca_path: str, tmp_path: Path, version: str, nbytes: int
) -> None:
    """Content of any length ends in the answer, even where it is too long to be read."""
    (tmp_path / "content").write_bytes(bytes(nbytes))
    url = f"https://localhost:{server.port}{LARGE}"
    post = ("--data-binary", f"@{tmp_path / 'content'}", "-w", "%{http_code}")
    out = run("curl", "-sS", "--ipv4", "--cacert", ca_path, version, *post, "-o", "/dev/null", url)
    assert out == b"405"


# ---- h2load


def h2load(server: RunningServer, target: str, requests: int, *options: str) -> int:
    """Run h2load; every request succeeded. The bytes of DATA."""
    url = f"https://127.0.0.1:{server.port}{target}"
    command = ("h2load", "-t1", f"-n{requests}", "--connection-active-timeout=10", *options, url)
    report = run(*command).decode()
    assert "Application protocol: h2" in report, report
    wanted = f"{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout"
    assert wanted in report, report
    assert f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx" in report
    data = re.search(r"\((\d+)\) data", report)
    assert data is not None
    return int(data[1])


@needs_h2load
@pytest.mark.parametrize(
    ("name", "requests", "options"),
    [
        ("small", 4, ["-w4", "-W30"]),
        ("small", 8, ["-w4", "-W30", "-m8"]),
        ("small", 20, ["-w12"]),
        ("small", 2, ["-W1"]),
        pytest.param("small", 20, ["-W1"], marks=pytest.mark.slow),
        ("small", 8, ["-W4", "-m4"]),
        pytest.param("small", 30, ["-W4", "-m4"], marks=pytest.mark.slow),
        ("small", 500, ["-m100", "-c1"]),
        ("small", 500, ["-m10", "-c50"]),
        ("small", 800, ["-m100", "-c4", "-w30", "-W30"]),
        ("large", 1, ["-w10", "-W30"]),
        pytest.param("large", 2, ["-w10", "-W30"], marks=pytest.mark.slow),
        pytest.param("large", 4, ["-w16", "-W16"], marks=pytest.mark.slow),
        ("large", 4, ["-w30", "-W16", "-m4"]),
        pytest.param("large", 8, ["-w16", "-W30", "-m8"], marks=pytest.mark.slow),
        ("large", 5, []),
        pytest.param("large", 10, ["-w30", "-W30", "-m10"], marks=pytest.mark.slow),
        ("large", 12, ["-m12", "-c1"]),
        pytest.param("large", 40, ["-m40", "-c1"], marks=pytest.mark.slow),
        pytest.param("large", 10, ["-c10"], marks=pytest.mark.slow),
        ("large", 10, ["-c5", "-m4", "-w20", "-W22"]),
        pytest.param("large", 20, ["-c5", "-m4", "-w20", "-W22"], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_h2load_gets_every_byte_whatever_its_windows(
    server: RunningServer, root: str, name: str, requests: int, options: list[str]
) -> None:
    """Windows from 15 bytes to 1 GiB, many streams, many clients: no error, no byte too many."""
    assert h2load(server, TARGETS[name], requests, *options) == requests * len(bodies(root)[name])


@needs_h2load
@pytest.mark.parametrize("options", [["-w1"], ["-w1", "-m5"], ["-w2", "-c3"]], ids=str)
def test_h2load_with_windows_of_a_byte(
    server: RunningServer, root: str, options: list[str]
) -> None:
    """Windows of one and of three bytes: an answer goes out byte by byte, by Hypercorn's sending.

    The data route has the same, with an answer that has but a header line.
    """
    nothing = ticks_target(1, 2)
    assert h2load(server, "/healthz", 6, *options) == 6 * len(ALIVE)
    assert h2load(server, nothing, 6, *options) == 6 * len(ticks_body(root, 1, 2))


# ---- nghttp


def nghttp(server: RunningServer, *arguments: str) -> bytes:
    """Run nghttp for targets and options; what it prints."""
    base = f"https://localhost:{server.port}"
    urls = [base + argument if argument[0] == "/" else argument for argument in arguments]
    return run("nghttp", "--no-verify-peer", *urls)


@needs_nghttp
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small", []),
        ("small", ["--window-bits=4"]),
        ("small", ["--window-bits=4", "--connection-window-bits=4"]),
        ("large", []),
        ("large", ["--window-bits=30", "--connection-window-bits=30"]),
        ("large", ["--window-bits=14"]),
        ("large", ["--no-dep"]),
        ("large", ["--header-table-size=0"]),
        ("large", ["--encoder-header-table-size=0"]),
        ("large", ["--padding=200"]),
    ],
    ids=str,
)
def test_nghttp_prints_every_byte(
    server: RunningServer, root: str, name: str, options: list[str]
) -> None:
    """Small windows, large frames, no tables, padding: the oracle's bytes all the same."""
    assert nghttp(server, *options, TARGETS[name]) == bodies(root)[name]


@needs_nghttp
def test_nghttp_weights_and_dependencies_are_only_advice(server: RunningServer, root: str) -> None:
    """Answers under RFC 7540's priorities on one connection are all complete."""
    weights = ("-p1", "-p256")
    report = nghttp(server, "-v", "-n", "-m3", *weights, LARGE, SMALL).decode()
    assert "weight=256" in report
    plain = re.sub(r"\x1b\[[0-9;]*m", "", report)
    received: Counter[str] = Counter()
    ended = set()
    for length, flags, stream in re.findall(
        r"recv DATA frame <length=(\d+), flags=0x(\w+), stream_id=(\d+)>", plain
    ):
        received[stream] += int(length)
        if int(flags, 16) & 1:
            ended.add(stream)
    sizes = {name: len(body) for name, body in bodies(root).items()}
    assert sorted(received.values()) == sorted([sizes["small"], sizes["large"]] * 3)
    assert ended == set(received)
    assert "RST_STREAM" not in plain


@needs_nghttp
@pytest.mark.parametrize("nbytes", [0, 10, 60_000, 1_000_000])
@pytest.mark.parametrize("target", [SMALL, "/healthz"])
def test_nghttp_uploads_and_is_told_405(
    server: RunningServer, tmp_path: Path, target: str, nbytes: int
) -> None:
    """Content of any length on the data route and another is answered by a problem document."""
    (tmp_path / "content").write_bytes(bytes(nbytes))
    problem = nghttp(server, f"--data={tmp_path / 'content'}", target)
    assert json.loads(problem)["status"] == 405


# ---- http.client


@pytest.fixture
def connection(server: RunningServer) -> Iterator[http.client.HTTPSConnection]:
    """One connection that is verified and kept."""
    context = client_context(["http/1.1"])
    made = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("target", "method", "status", "is_json"),
    [
        ("/healthz", "GET", 200, True),
        ("/readyz", "GET", 200, True),
        ("/openapi.json", "GET", 200, True),
        ("/api/symbols", "GET", 200, True),
        ("/api/data", "GET", 400, True),
        ("/nowhere", "GET", 404, True),
        (LARGE, "POST", 405, True),
        (LARGE, "HEAD", 200, False),
        (LARGE, "OPTIONS", 204, False),
        ("*", "OPTIONS", 204, False),
    ],
)
def test_http_client_gets_every_route_again_and_again(
    connection: http.client.HTTPSConnection, target: str, method: str, status: int, *, is_json: bool
) -> None:
    """CPython's client has each answer three times from the same connection."""
    socks = set()
    for _ in range(3):
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
        assert response.status == status
        assert response.getheader("Access-Control-Allow-Origin") == "*"
        assert response.getheader("Server") == "zerocopy"
        assert bool(body) == is_json
        assert not is_json or json.loads(body)
        socks.add(id(connection.sock))
    assert len(socks) == 1


def test_http_client_gets_data_and_symbols(
    connection: http.client.HTTPSConnection, root: str
) -> None:
    """Small and large answers in turn are the oracle's, and so is the list of symbols."""
    for name in ("small", "large", "small", "large"):
        connection.request("GET", TARGETS[name])
        assert connection.getresponse().read() == bodies(root)[name]
    connection.request("GET", "/api/symbols")
    assert json.loads(connection.getresponse().read()) == naive_symbols(root)


@needs_curl
def test_upload_that_curl_gives_up_leaves_the_download_beside_it_whole(
    server: RunningServer, root: str, ca_path: str, tmp_path: Path
) -> None:
    """It stops at the 405 and ends its content short of its length, on the same connection."""
    upload, target = tmp_path / "upload", tmp_path / "download"
    upload.write_bytes(bytes(3_000_000))
    base, common = f"https://localhost:{server.tls_port}", ["--cacert", ca_path, "--http2", "-sS"]
    told = subprocess.run(  # what becomes of the upload is curl's affair: it may call it an error
        [
            *("curl", "--parallel", *common, "--limit-rate", "5M", base + LARGE, "-o", str(target)),
            *("--write-out", "download %{http_code} %{exitcode} %{num_connects}\n"),
            *("--next", *common, "-T", str(upload), base + "/api/data", "-o", str(tmp_path / "no")),
            *("--write-out", "upload %{http_code} %{exitcode} %{num_connects}\n"),
        ],
        capture_output=True,
        timeout=2 * TIMEOUT_S,
        check=False,
    ).stdout.decode()
    assert "download 200 0 1" in told
    assert re.search("upload (405|000) [0-9]+ 0", told), "it has no connection of its own"
    assert target.read_bytes() == bodies(root)["large"]
