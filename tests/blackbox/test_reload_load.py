"""Reload, stop and death under load: what clients see, and that none of it is a failure."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.reloading import Crowd, count_of, exit_code, reload_once, workers_settled
from tests.certificate import certificate_files
from tests.faults.client import (
    LARGE,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    make_root,
    poll,
    request_of,
    seal,
)
from tests.server import ForkedServer, RunningServer, open_descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOTH = {"ZEROCOPY_TLS_PORT": "0", "ZEROCOPY_SERVER_DRAIN_IDLE_S": "2"}

DEADLY = """
import os, sys
if os.path.exists(os.path.join(os.path.dirname(__file__), "deadly")):
    if "zerocopy.supervise.worker" in sys.orig_argv:
        os._exit(3)
"""
"""What every Python process of a server runs first: workers end while a file is there."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("reload")
    make_root(path)
    for series in ("SMALL", "MEDIUM", "LARGE"):
        seal(path, series)
    yield path
    shutil.rmtree(path)


def test_reload_under_load_fails_no_request(root: Path) -> None:
    """Clients of HTTP/1.1 and HTTP/2 are told and come back; a slow download is not cut off."""
    body = body_of(root, "MEDIUM")
    with (
        ForkedServer(root, **BOTH) as server,
        Crowd(server, MEDIUM, body, http1=2, http2=2, resuming=1) as crowd,
    ):
        for count in (1, 2):
            answers = crowd.answers
            poll(lambda: crowd.answers > answers + 20, "answers")  # noqa: B023 - now
            reload_once(server, count)
    assert crowd.failures == []
    assert crowd.goodbyes >= 8
    assert crowd.resumed == 0


def test_stop_under_load_cuts_no_answer_off(root: Path) -> None:
    """SIGTERM: what was begun comes whole, each connection is told, exit code 0."""
    with (
        ForkedServer(root, **BOTH) as server,
        Crowd(server, MEDIUM, body_of(root, "MEDIUM"), http1=2, http2=2) as crowd,
    ):
        poll(lambda: crowd.answers > 20, "answers")
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server) == 0
        crowd.stop()
    assert crowd.goodbyes == 4
    assert all("refused" in failure for failure in crowd.failures), "only newcomers"


@pytest.mark.slow
def test_download_that_a_kill_cuts_off_is_resumed(root: Path) -> None:
    """Kill -9: it goes on with Range and If-Range from the next worker, byte for byte."""
    expected = body_of(root, "LARGE", ["price"])
    with (
        ForkedServer(root, ZEROCOPY_SERVER_WORKERS="2") as server,
        Crowd(server, SMALL, body_of(root, "SMALL"), http1=2) as crowd,
    ):
        with Client(server, TINY_BUFFER_BYTES) as client:
            client.send(request_of(LARGE))
            _, fields = client.head()
            for worker in server.worker_pids():
                os.kill(worker, signal.SIGKILL)
            begin, _ = client.read_until_end(len(expected))
        assert len(begin) < len(expected)
        condition = {"Range": f"bytes={len(begin)}-", "If-Range": fields["etag"]}
        rest = server.get(LARGE, fields=condition)
        assert rest.status == 206
        assert begin + rest.content == expected
        answers = crowd.answers
        poll(lambda: crowd.answers > answers, "others to be served too")
        assert server.metric("zerocopy_worker_restarts_total") == 2
    assert len(crowd.failures) <= 2, "at most what was in flight"


def test_worker_that_dies_comes_back_with_the_certificate_that_is_served(
    root: Path, tmp_path: Path
) -> None:
    """Neither one that a reload has refused nor one that is gone matters until it is reloaded."""
    chain, key = certificate_files()
    path = tmp_path / "chain"
    shutil.copy(chain, path)
    pair = {"SSL_CERT_PATH": str(path), "SSL_PRIVATE_FILE": key}
    with ForkedServer(root, USE_TLS="true", **pair) as server:
        path.write_text("no certificate", encoding="utf-8")
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: server.event("reload_refused") is not None, "the refusal")
        refusal = server.event("reload_refused") or {}
        assert f"{path} holds no certificate" in refusal["reason"]
        path.unlink()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        poll(lambda: count_of(server, "worker_died") == 1, "the death")
        assert server.get(SMALL).status == 200
        shutil.copy(chain, path)
        reload_once(server, 1)
        before = open_descriptors(server.pid)
        reload_once(server, 2)
        assert server.get(SMALL).status == 200
        assert open_descriptors(server.pid) == before
        assert server.event("worker_cannot_start") is None


@pytest.mark.slow
def test_worker_that_cannot_start_again_is_told_and_comes_back(root: Path, tmp_path: Path) -> None:
    """Whatever ends it at each start: it is tried later and later, until it can."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY, encoding="utf-8")
    with RunningServer(root, PYTHONPATH=str(tmp_path)) as server:
        (tmp_path / "deadly").touch()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        poll(lambda: count_of(server, "worker_died") >= 3, "three deaths", 20)
        assert server.metric("zerocopy_worker_restarts_total") >= 2
        poll(lambda: server.metric("zerocopy_workers") == 0, "nobody to accept")
        (tmp_path / "deadly").unlink()
        assert server.get(SMALL).status == 200
        delays = [
            float(event["restart_in_s"]) for event in server.events() if "restart_in_s" in event
        ]
        assert delays[:3] == [0.1, 0.2, 0.4]


# ---- for longer


def run_wrk(server: RunningServer, seconds: int) -> subprocess.Popen[str]:
    """Wrk with 16 connections for so long."""
    wrk = shutil.which("wrk")
    if wrk is None:
        pytest.skip("wrk is not installed")
    url = f"http://127.0.0.1:{server.plain_port}{SMALL}"
    return subprocess.Popen(
        [wrk, "-t1", "-c16", f"-d{seconds}", url], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_reloads_under_wrk_fail_no_request(root: Path) -> None:
    """What wrk counts as errors of sockets and statuses: none, with ten generations one by one."""
    with (
        ForkedServer(root, ZEROCOPY_SERVER_WORKERS="2", **BOTH) as server,
        Crowd(server, SMALL, body_of(root, "SMALL"), http1=1, http2=2, resuming=1) as crowd,
    ):
        wrk = run_wrk(server, 60)
        for count in range(1, 11):
            reload_once(server, count)
        assert wrk.poll() is None, "all reloads were under load"
        report, _ = wrk.communicate()
        sys.stdout.write(report)
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    assert crowd.failures == []
    assert crowd.goodbyes >= 30


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_under_wrk_cost_only_the_connections_of_the_killed(root: Path) -> None:
    """Five times kill -9 under load: wrk goes on, as often as it was killed the worker is back."""
    with ForkedServer(root, ZEROCOPY_SERVER_WORKERS="2", **BOTH) as server:
        wrk = run_wrk(server, 20)
        for count in range(1, 6):
            time.sleep(1)
            os.kill(server.worker_pids()[0], signal.SIGKILL)
            poll(lambda: server.metric("zerocopy_worker_restarts_total") == count, "it", 20)  # noqa: B023
            poll(lambda: workers_settled(server, 2), "two workers")
        report, _ = wrk.communicate()
        sys.stdout.write(report)
        assert "Non-2xx" not in report
        assert server.get(SMALL).status == 200
        assert server.metric("zerocopy_worker_restarts_total") == 5


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_reload_under_h2load_answers_every_request_that_was_begun(root: Path) -> None:
    """h2load opens no other connection after GOAWAY; what it had begun until then succeeds."""
    h2load = shutil.which("h2load")
    if h2load is None:
        pytest.skip("h2load is not installed")
    with ForkedServer(root, ZEROCOPY_SERVER_WORKERS="2", **BOTH) as server:
        url = f"https://127.0.0.1:{server.tls_port}{SMALL}"
        answered = 0
        for count in range(1, 4):
            load = subprocess.Popen(
                [h2load, "-n2000000", "-c8", "-m10", url], stdout=subprocess.PIPE, text=True
            )
            time.sleep(1)
            reload_once(server, count)
            report, _ = load.communicate()
            counts = re.search(r"(\d+) started, (\d+) done, (\d+) succeeded", report)
            assert counts is not None, report
            sys.stdout.write(counts[0] + "\n")
            started, done, succeeded = map(int, counts.groups())
            # What it could not submit any more, one for each slot, it calls failed; none was sent.
            assert 0 < started == done <= succeeded + 80
            answered += succeeded
            assert server.metric('zerocopy_requests_total{status="200"}') == answered
            assert server.metric("zerocopy_transfers_aborted_total") == 0
            assert re.search(rf"status codes: {succeeded} 2xx, 0 3xx, 0 4xx, 0 5xx", report)
