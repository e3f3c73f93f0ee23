"""`zerocopy status` against a real server, captured pages, and what is no server of ours."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.client import SMALL, write_series
from tests.ports import free_port
from tests.server import ForkedServer
from tests.table import each
from tests.terminal import open_terminal
from zerocopy.cli import main
from zerocopy.commands.status import scrape
from zerocopy.commands.status.status import lasting, printable, quantity
from zerocopy.core.errors import ZerocopyError

if TYPE_CHECKING:
    from collections.abc import Iterator

BUSY = (Path(__file__).parents[2] / "pages" / "busy.txt").read_bytes()
"""A scrape of two workers under load."""


class Done(NamedTuple):
    """What a run of the command left."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, with next to no pause between the scrapes."""
    monkeypatch.setattr("zerocopy.commands.status.status.INTERVAL_S", 0.01)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["zerocopy", "status", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return run


def test_page_is_found_where_serve_has_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the configuration, as `serve` reads it; a port that nobody can know is asked for."""
    write_series(tmp_path, "SMALL", 10)
    with ForkedServer(tmp_path) as server:
        monkeypatch.setenv("METRICS_PORT", str(server.metrics_port))
        monkeypatch.setenv("ZEROCOPY_METRICS_HOST", "0.0.0.0")
        done = run()
        assert (done.returncode, done.stderr) == (0, "")
        assert f"at http://127.0.0.1:{server.metrics_port}/metrics" in done.stdout
    file = tmp_path / "other.toml"
    file.write_text("[metrics]\nport = 0\n", encoding="utf-8")
    monkeypatch.delenv("METRICS_PORT")
    done = run("--config", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert "--url" in done.stderr


def run_apart(*arguments: str) -> Done:
    """The command as a script runs it: its output is a pipe, its terminal would be narrow."""
    done = subprocess.run(
        [sys.executable, "-m", "zerocopy", "status", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "COLUMNS": "40"},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def answering(*content: bytes, status: str = "200 OK", length: int | None = None) -> Iterator[str]:
    """A URL where each scrape gets one of these pages, the last one for ever after."""
    listener = socket.create_server(("127.0.0.1", 0))
    pages = list(content)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(65_536)
                    page = pages.pop(0) if len(pages) > 1 else pages[0]
                    nbytes = len(page) if length is None else length
                    head = f"HTTP/1.1 {status}\r\nContent-Length: {nbytes}\r\n\r\n"
                    with contextlib.suppress(OSError):
                        client.sendall(head.encode() + page)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def test_running_server_tells_what_it_does(tmp_path: Path, run: Run) -> None:
    """Figures of a real server, one a line and none cut, and the same as JSON; exit code 0."""
    write_series(tmp_path, "SMALL", 500)
    with ForkedServer(tmp_path) as server:
        assert server.get(SMALL).status == 200
        url = f"http://127.0.0.1:{server.metrics_port}/metrics"
        told, as_json = run_apart("--url", url), run("--url", url, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    lines = told.stdout.splitlines()
    assert lines[0].startswith("zerocopy")
    assert url in lines[0]
    assert "up " in lines[0]
    assert "workers 1" in lines[0]
    assert all(line.count("\t") == 2 for line in lines[1:])
    document = json.loads(as_json.stdout)
    assert document["figures"]["accepted"]["since_start"] == 1
    assert document["figures"]["sent_copy"]["since_start"] > 4_000
    assert document["server"]["uptime_s"] < 60


def test_captured_page_of_a_busy_server(run: Run) -> None:
    """Each figure of a page with everything in it is there, in a unit that can be read."""
    later = BUSY.replace(
        b'zerocopy_sent_bytes_total{path="sendfile"}', b'zerocopy_sent_bytes_total{path="x"}'
    )
    with answering(BUSY, later) as url:
        done = run("--url", url)
    assert done.returncode == 0
    assert "zerocopy 0.1.0, at http://127.0.0.1" in done.stdout
    assert "connections by worker 3 2" in done.stdout
    found = dict(line.split("\t", 1) for line in done.stdout.splitlines()[1:])
    assert found["plans reused"] == "-\t100 %"
    assert re.fullmatch(r"-\t[0-9.]+ us", found["data answered, p50"])
    assert found["connections, plain"] == "5\t-"
    assert found["reloads refused"] == "-\t-"


def test_watch_goes_on_until_the_server_is_gone(run: Run) -> None:
    """One object a line for each interval; then one line of error and exit code 1."""
    with answering(BUSY, BUSY, BUSY, b"gone", b"gone") as url:
        done = run("--url", url, "--watch", "0.1", "--json")
    assert done.returncode == 1
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 2
    assert done.stderr == f"zerocopy: {url} has no metrics of zerocopy\n"


def test_interrupt_ends_a_watch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is how one stops watching: exit code 0, and nothing on standard error."""
    pauses = iter([None, None])

    def pause(_seconds: float) -> None:
        if next(pauses, "over") == "over":
            raise KeyboardInterrupt

    monkeypatch.setattr("zerocopy.commands.status.status.time.sleep", pause)
    with answering(BUSY) as url:
        watched = run("--url", url, "--watch", "1", "--json")
    assert (watched.returncode, watched.stderr) == (0, "")
    assert len(watched.stdout.splitlines()) == 2


def test_terminal_gets_a_table() -> None:
    """Where a person looks on, figures stand in columns below their headings."""
    reader, writer = open_terminal()
    with answering(BUSY) as url, os.fdopen(reader, "rb", closefd=True) as screen:
        command = [sys.executable, "-m", "zerocopy", "status", "--url", url]
        process = subprocess.Popen(command, stdout=writer, env={**os.environ, "COLUMNS": "100"})
        os.close(writer)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end of the terminal is closed
            while data := screen.read1(4_096):
                shown += data
        assert process.wait(10) == 0
    text = re.sub(rb"\x1b\[[0-9;]*m", b"", shown).decode()
    assert re.search(r"now +since the start", text)
    assert re.search(r"plans kept +[0-9.]+ kB +-", text)


def test_server_that_is_not_there_is_one_line(run: Run) -> None:
    """Exit code 1, and what to look for."""
    url = f"http://127.0.0.1:{free_port()}/metrics"
    done = run("--url", url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"zerocopy: {url} is not reachable: Connection refused\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "127.0.0.1:9091"),
        ("--url", "https://127.0.0.1/"),
        ("--url", "http://127.0.0.1:99999/"),
        ("--url", "http://[::1/metrics"),
        ("--url", "http://host/\x1b[2J"),
        ("--watch", "0"),
        ("--watch", "soon"),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: tuple[str, str]) -> None:
    """Exit code 2, without a trace and without the escape sequences that were typed."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert arguments[0] in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", "200 OK", "has no metrics of zerocopy"),
        (b"<html><body>zerocopy_workers 1</body></html>", "200 OK", "has no metrics"),
        (b'node_load1 0.5\nup{job="x"} 1\n', "200 OK", "has no metrics of zerocopy"),
        (b"\xff\xfe\x00zerocopy_workers\x00", "200 OK", "has no metrics of zerocopy"),
        (b"x" * (scrape.PAGE_BYTES_MAX + 1), "200 OK", "too long"),
        (b"no", "404 Not Found", "answers 404"),
        (b"", "301 Moved\r\nLocation: http://127.0.0.1:1/", "answers 301"),
    ],
)
def test_what_is_no_page_of_ours_is_an_error(content: bytes, status: str, reason: str) -> None:
    """An empty page, another exporter's, a web site, a flood: one sentence each."""
    with answering(content, status=status) as url, pytest.raises(ZerocopyError, match=reason):
        scrape.fetch(url)


def test_page_that_is_cut_off_is_no_page() -> None:
    """Fewer bytes than were promised: the numbers at the end cannot be trusted."""
    with (
        answering(BUSY, length=len(BUSY) + 1) as url,
        pytest.raises(ZerocopyError, match="cut off"),
    ):
        scrape.fetch(url)


def test_server_that_never_finishes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline holds for the whole page; a byte now and then does not put it off."""
    monkeypatch.setattr(scrape, "DEADLINE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                while True:
                    client.sendall(b"X: y\r\n")
                    threading.Event().wait(0.05)

        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/metrics"
        with pytest.raises(ZerocopyError, match="is not reachable: timed out"):
            scrape.fetch(url)
        thread.join()


def test_hostile_page_harms_nobody(run: Run) -> None:
    """Names, labels and numbers made to confuse: they are passed over, or shown harmlessly."""
    page = b"\n".join(
        [
            b"zerocopy_workers 2",
            b"zerocopy_workers NaN",
            b"zerocopy_generation Infinity",
            b"zerocopy_streams 1_000",
            b"zerocopy_open_files 1e300",
            b"zerocopy_mapped_bytes -5",
            b"zerocopy_locked_bytes " + b"9" * 100_000,
            b'zerocopy_build_info{version="\x1b[2J\x1b]0;owned\x07",python="3"} 1',
            b'zerocopy_worker_connections{worker="a\\"b"} 1',
            b"zerocopy_requests_total{" + b'a="b",' * 50_000 + b"} 1",
            b'zerocopy_request_duration_seconds_bucket{endpoint="data",le="+Inf"} -3',
            b"zerocopy_" + b"x" * 100_000 + b" 1",
            *[b"zerocopy_x{" + b'a=""=' * 250 + b"} 1"] * 1_000,
            b'zerocopy_x{="',
            b'zerocopy_x{a="\\',
            b"zerocopy_x{,,}",
            b"process_x",
            b"zerocopy_ {",
            b'zerocopy_streams{a="}"} ' + b"9" * 900,
            b"# TYPE zerocopy_workers \x00",
        ]
    )
    with answering(page) as url:
        done = run("--url", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "workers 2" in done.stdout
    assert "generation" not in done.stdout
    assert printable("a\x1b\u202eb") == "a??b"


@each(
    ("value", "unit", "expected"),
    [
        (None, "count", "-"),
        (0.0, "count", "0"),
        (999.7, "count", "1000"),
        (1_234_567.0, "count", "1.23 M"),
        (0.25, "share", "25 %"),
        (1.0, "share", "100 %"),
        (0.9996, "share", "100 %"),
        (0.0000315, "seconds", "31.5 us"),
        (0.0, "seconds", "0 us"),
        (2.5, "seconds", "2.5 s"),
        (0.0, "bytes", "0 B"),
        (1.5e9, "bytes", "1.5 GB"),
    ],
)
def test_quantities_are_short(value: float | None, unit: str, expected: str) -> None:
    """Three digits and a unit, whatever the size."""
    assert quantity(value, unit) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h 0 min"), (273_600, "3 d 4 h")],
)
def test_spans_of_time_have_two_units(seconds: float, expected: str) -> None:
    """Days and hours, or minutes and seconds; never all of them."""
    assert lasting(seconds) == expected
