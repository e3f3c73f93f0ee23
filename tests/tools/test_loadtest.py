"""The load test as people run it: locust, headless, against a server that is right and one not."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certificate import authority
from tests.lying import LyingServer, short_and_clean
from tests.server import RunningServer
from tests.ticks import make_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator

# Never imported here: gevent would replace this process's sockets and threads.
pytestmark = pytest.mark.skipif(find_spec("locust") is None, reason="needs the extra `load`")

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = 5_000
RUN_TIME_S = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of one series."""
    root = tmp_path_factory.mktemp("load")
    make_ticks(str(root), RECORDS)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """A server of both paths."""
    with RunningServer(root, ZEROCOPY_TLS_PORT="0") as server:
        yield server


def start_locust(*options: str) -> subprocess.Popen[str]:
    """Locust without its page, for a few seconds."""
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "ignore", "-m", "locust"),
            *("--locustfile", "loadtest/locustfile.py", "--headless", "--only-summary"),
            *("--users", "4", "--spawn-rate", "4", "--run-time", f"{RUN_TIME_S}s", *options),
        ],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("LO")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and everything that was printed."""
    printed, _ = process.communicate(timeout=40)
    return process.returncode, printed


def test_a_right_server_passes_and_a_wrong_one_fails(
    server: RunningServer, root: Path, tmp_path: Path
) -> None:
    """By exit code and verdict, both paths in one run; so do a bound, and no server at all."""
    ca, report = tmp_path / "ca.crt", tmp_path / "report.html"
    authority().cert_pem.write_to_path(str(ca))
    tls_url = f"https://127.0.0.1:{server.tls_port}"
    with LyingServer(server.plain_port, short_and_clean) as lying:
        wrong = start_locust(
            *("--plain-url", f"http://127.0.0.1:{lying.port}", "--shape", "spike"),
            *("--mb-s-min", "1000000"),
        )
        right = start_locust(
            *("--plain-url", f"http://127.0.0.1:{server.plain_port}", "--tls-url", tls_url),
            *("--ca", str(ca), "--data-root", str(root), "--html", str(report)),
        )
        (code, printed), (wrong_code, wrong_printed) = finish(right), finish(wrong)
    gone_code, gone_printed = finish(start_locust("--host", f"http://127.0.0.1:{lying.port}"))
    assert code == 0, printed
    *_, plain, tls, verdict = printed.splitlines()
    assert verdict == "PASS: every answer was right"
    for line, path in ((plain, "HTTP/1.1"), (tls, "HTTP/2")):
        name, requests, failed, *_ = line.split()
        assert (name, failed) == (path, "0")
        assert int(requests) > 0
    assert "recent window" in report.read_text(encoding="utf-8")
    assert wrong_code == 1, wrong_printed
    failures = wrong_printed.partition("FAIL: HTTP/1.1: ")[2]
    assert "requests failed" in failures
    assert "MB/s, bound 1e+06" in failures
    assert "Content-Length" in failures
    assert gone_code == 1
    assert "discovery: [Errno 111] Connection refused" in gone_printed
    assert "FAIL: HTTP/1.1: nothing was answered" in gone_printed
