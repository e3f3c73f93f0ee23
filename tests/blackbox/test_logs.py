"""The log of a running server: access lines, request ids, and a reader that stops."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults.client import SMALL, Client, column_path, make_root, poll, request_of, target_of
from tests.server import ForkedServer, RunningServer

REQUESTS = 100
BURST = 10
RAY = "8f1c2d3e4a5b6c7d-FRA"
EVERYTHING = {"ZEROCOPY_LOG_ACCESS_SAMPLE": "1.0", "ZEROCOPY_SERVER_WORKERS": "1"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample data."""
    path = tmp_path_factory.mktemp("logs")
    make_root(path)
    return path


def lines_of(server: RunningServer, event: str) -> list[dict[str, Any]]:
    """All lines of an event so far."""
    lines = [json.loads(line) for line in server.log_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize("use_tls", ["false", "true"])
def test_access_log_has_a_line_for_each_request(root: Path, use_tls: str) -> None:
    """Fast and slow ways, good and bad requests: each has its line, with the id of its CF-Ray."""
    asked = [SMALL, SMALL, SMALL, "/nowhere?token=s3cret", target_of("SMALL", "nope")]
    with ForkedServer(root, USE_TLS=use_tls, **EVERYTHING) as server:
        answers = [server.get(target) for target in asked]
        with_ray = server.get("/healthz", fields={"CF-Ray": RAY, "Authorization": "Bearer s3cret"})
        poll(lambda: len(lines_of(server, "request")) == len(asked) + 1, "the lines")
        lines = lines_of(server, "request")
        assert "s3cret" not in server.log_text()
    assert [line["status"] for line in lines[:-1]] == [answer.status for answer in answers]
    assert [line["bytes"] for line in lines[:-1]] == [len(answer.content) for answer in answers]
    assert {line["transport"] for line in lines} == {"tls" if use_tls == "true" else "plain"}
    assert lines[0]["target"] == SMALL
    assert lines[3]["target"] == "/nowhere?..."
    assert len({line["request_id"] for line in lines}) == len(lines)
    assert (lines[-1]["request_id"], with_ray.status) == (RAY, 200)
    assert all(line["complete"] and 0 < line["duration_ms"] < 20_000 for line in lines)


def test_no_request_has_a_line_unless_it_is_asked_for(root: Path) -> None:
    """The access log is off by default."""
    with ForkedServer(root) as server:
        assert server.get(SMALL).status == 200
        assert server.stop() == 0
        assert lines_of(server, "stopped")
        assert not lines_of(server, "request")


class DeafServer(RunningServer):
    """Logs into a pipe that nobody reads any more once the server is ready."""

    def __init__(self, root: Path, **environ: str) -> None:
        super().__init__(root, **environ)
        self.log.close()
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.log = os.fdopen(writer, "wb")  # type: ignore[assignment]
        self._read = b""

    def log_text(self) -> str:
        """What came so far; called until the server is ready."""
        with contextlib.suppress(BlockingIOError):
            self._read += os.read(self._reader, 1 << 20)
        return self._read.decode()


def test_full_pipe_stalls_no_request(root: Path) -> None:
    """Who reads the log may stop: answers go on, lines are dropped and counted, a stop works."""
    environ = {**EVERYTHING, "ZEROCOPY_LOG_LINES_WAITING_MAX": "100"}
    with DeafServer(root, **environ) as server, Client(server) as client:
        for _ in range(REQUESTS):  # 64 KiB of lines fill the pipe, a hundred more the queue
            client.send(request_of(SMALL) * BURST)
            for _ in range(BURST):
                assert client.answer().status == 200
        poll(lambda: server.metric("zerocopy_log_lines_dropped_total") > REQUESTS, "a count")
        assert server.get("/healthz").status == 200
        assert server.stop() == 0


def test_client_cannot_fill_the_log_with_errors(root: Path, tmp_path: Path) -> None:
    """Of an event that a client causes a few lines a second are written; the rest is counted."""
    shutil.copytree(root, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("LARGE"))
    path = column_path(tmp_path, "SMALL", "time").replace("01.01.70", "02.01.70")
    Path(path).write_bytes((86_400).to_bytes(4, "little"))  # a day without a price
    environ = {"ZEROCOPY_LOG_EVENTS_PER_SECOND_MAX": "2", "ZEROCOPY_SERVER_WORKERS": "1"}
    with ForkedServer(tmp_path, **environ) as server, Client(server) as client:
        for number in range(100):  # each a new query: a plan, and a line that a column is missing
            client.send(request_of(target_of("SMALL", end=86_400 + number)))
            assert client.answer().status == 200
        poll(lambda: lines_of(server, "lines_suppressed") != [], "the line that tells of it")
        poll(lambda: server.metric("zerocopy_log_lines_suppressed_total") > 0, "the count")
        written = len(lines_of(server, "days_skipped"))
        poll(
            lambda: (
                server.metric("zerocopy_log_lines_suppressed_total")
                == sum(line["count"] for line in lines_of(server, "lines_suppressed"))
                == 100 - written
            ),
            "all to be accounted for",
        )
        first = lines_of(server, "days_skipped")[0]
    assert written <= 30
    assert (first["worker"], first["target"]) == (0, target_of("SMALL", end=86_400))
