"""Starting, stopping and surviving: the processes behind `zerocopy serve`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    LARGE_BYTES,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    make_root,
    poll,
    request_of,
)
from tests.server import ForkedServer, RunningServer, is_refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TELL_COLLECTOR = """
import atexit, gc, os
def tell():
    with open(os.path.join(os.environ["PYTHONPATH"], str(os.getpid())), "w") as file:
        print(gc.isenabled(), gc.get_freeze_count() > 10_000, file=file)
atexit.register(tell)
"""
"""What Python processes of a server do at their end: say how the collector of circles stands."""

EXIT_TIMEOUT_S = 10.0
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("lifecycle")
    make_root(path)
    yield path
    shutil.rmtree(path)


def exit_code(server: RunningServer) -> int:
    """Wait for the supervisor to exit; its exit code."""
    assert server.process is not None
    return server.process.wait(EXIT_TIMEOUT_S)


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=SLOW)])
def test_stop_signal_lets_a_large_answer_finish(root: Path, number: signal.Signals) -> None:
    """A drain finishes what is being sent, closes idle connections, and exits with 0."""
    with RunningServer(root) as server:
        with Client(server) as idle, Client(server, TINY_BUFFER_BYTES) as busy:
            idle.send(request_of("/healthz"))
            assert idle.answer().status == 200
            busy.send(request_of(LARGE))
            busy.head()
            os.kill(server.pid, number)
            assert idle.is_closed()
            assert is_alive(server.worker_pids()[0])
            expected = body_of(root, "LARGE", ["price"])
            body, is_reset = busy.read_until_end(len(expected))
            assert not is_reset
            assert body == expected
        assert exit_code(server) == 0
        assert "Traceback" not in server.log_text()


def test_drain_refuses_new_connections(root: Path) -> None:
    """While a drain waits for an answer, a newcomer is refused at once and not left hanging."""
    with ForkedServer(root) as server, Client(server, TINY_BUFFER_BYTES) as busy:
        busy.send(request_of(LARGE))
        busy.head()
        os.kill(server.pid, signal.SIGTERM)
        poll(lambda: is_refused(server.port), "new connections to be refused")
        assert is_alive(server.worker_pids()[0])
        busy.reset()
        assert exit_code(server) == 0


def test_drain_answers_what_is_in_flight_and_nothing_after_it(root: Path) -> None:
    """Of two pipelined requests the one in flight is answered whole; then the connection ends."""
    with ForkedServer(root) as server:
        with Client(server, TINY_BUFFER_BYTES) as client, Client(server) as idle:
            idle.send(request_of("/healthz"))
            idle.answer()
            client.send(request_of(LARGE), request_of("/healthz"))
            _, fields = client.head()
            os.kill(server.pid, signal.SIGTERM)
            assert idle.is_closed()
            length = int(fields["content-length"])
            assert len(client.read(length)) == length
            assert client.is_closed()
        assert exit_code(server) == 0


def test_drain_answers_a_request_whose_head_had_begun(root: Path) -> None:
    """A head whose last byte comes during the drain is still answered, with Connection: close."""
    with ForkedServer(root) as server:
        with Client(server) as client, Client(server) as idle:
            idle.send(request_of("/healthz"))
            idle.answer()
            head = request_of("/healthz")
            client.send(head[:-1])
            os.kill(server.pid, signal.SIGTERM)
            assert idle.is_closed(), "the drain has begun"
            client.send(head[-1:])
            answer = client.answer()
            assert answer.status == 200
            assert answer.fields["connection"] == "close"
            assert client.is_closed()
        assert exit_code(server) == 0


def test_drain_deadline_aborts_a_reader_that_stalls(root: Path) -> None:
    """At the deadline what is still being sent is cut off by a reset, and the exit code is 0."""
    with (
        ForkedServer(root, ZEROCOPY_SERVER_DRAIN_DEADLINE_S="0.5") as server,
        Client(server, TINY_BUFFER_BYTES) as stalled,
    ):
        stalled.send(request_of(LARGE))
        stalled.head()
        begun_s = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server) == 0
        assert time.monotonic() - begun_s > 0.4
        body, is_reset = stalled.read_until_end(LARGE_BYTES)
        assert is_reset
        assert len(body) < LARGE_BYTES


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW)])
def test_second_stop_signal_forces(root: Path, number: signal.Signals) -> None:
    """The same signal again ends the drain at once, with exit code 1 and no process left."""
    late = {"ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "600"}  # `exit_code` waits for less
    with ForkedServer(root, **late) as server, Client(server, TINY_BUFFER_BYTES) as stalled:
        workers = server.worker_pids()
        stalled.send(request_of(LARGE))
        stalled.head()
        with Client(server) as idle:
            idle.send(request_of("/healthz"))
            idle.answer()
            os.kill(server.pid, number)
            assert idle.is_closed(), "the first signal was heard"
        os.kill(server.pid, number)
        assert exit_code(server) == 1
        assert not any(map(is_alive, workers))
        assert server.event("stopped") is not None


def test_killed_worker_is_started_again_and_counted(root: Path) -> None:
    """A kill -9 costs the open connections only; the next are served, and the metric tells."""
    with RunningServer(root) as server:
        (worker,) = server.worker_pids()
        expected = server.get(SMALL)
        assert server.metric("zerocopy_worker_restarts_total") == 0
        with Client(server, TINY_BUFFER_BYTES) as busy:
            busy.send(request_of(LARGE))
            busy.head()
            os.kill(worker, signal.SIGKILL)
            body, _ = busy.read_until_end(LARGE_BYTES)
            assert len(body) < LARGE_BYTES
        # Without waiting: the connection stays in the listener's queue until the successor comes.
        assert server.get(SMALL).content == expected.content
        (successor,) = server.worker_pids()
        assert successor != worker
        assert server.metric("zerocopy_worker_restarts_total") == 1
        assert server.metric('zerocopy_requests_total{status="200"}') == 3
        poll(lambda: server.metric("zerocopy_connections") == 0, "no connection to be counted")
        assert server.logged("worker_died")


def test_worker_that_keeps_dying_is_started_later_and_later(root: Path) -> None:
    """Each death in a row doubles the delay that the log names, and the server still comes back."""
    with ForkedServer(root) as server:
        seen: set[int] = set()
        for _ in range(3):
            poll(lambda: not seen.issuperset(server.worker_pids()), "a new worker")
            assert server.get("/healthz").status == 200, "it has read its orders"
            (worker,) = server.worker_pids()
            seen.add(worker)
            os.kill(worker, signal.SIGKILL)
            poll(lambda: worker not in server.worker_pids(), "its death")  # noqa: B023 - now
        delays = [float(event["restart_in_s"]) for event in server.logged("worker_died", 3)]
        assert delays == [0.1, 0.2, 0.4]
        assert server.get("/healthz").status == 200


def test_two_workers_both_serve_and_stop(root: Path) -> None:
    """Connections are spread over two workers; killing one leaves the other, then both again."""
    with RunningServer(root, ZEROCOPY_SERVER_WORKERS="2") as server:
        workers = server.worker_pids()
        assert len(workers) == 2
        assert server.metric("zerocopy_workers") == 2
        clients = [Client(server) for _ in range(40)]
        for client in clients:
            client.send(request_of(SMALL))
            assert client.answer().status == 200
        sockets = [
            sum(
                os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
                for fd in os.listdir(f"/proc/{pid}/fd")
            )
            for pid in workers
        ]
        assert min(sockets) > 5, "the kernel gives each listener some of 40 connections"
        for client in clients:
            client.close()
        os.kill(workers[0], signal.SIGKILL)
        answers = [server.get(SMALL).status for _ in range(20)]
        assert answers == [200] * 20
        poll(lambda: len(server.worker_pids()) == 2, "two workers again")
        assert workers[1] in server.worker_pids()


def test_killed_supervisor_takes_its_workers_along(root: Path) -> None:
    """A kill -9 of the supervisor: workers drain and exit by themselves, and the port is free."""
    server = RunningServer(root, ZEROCOPY_SERVER_WORKERS="2")
    server.__enter__()
    workers = server.worker_pids()
    with Client(server, TINY_BUFFER_BYTES) as busy:
        busy.send(request_of(LARGE))
        busy.head()
        os.kill(server.pid, signal.SIGKILL)
        assert exit_code(server) == -signal.SIGKILL
        body, is_reset = busy.read_until_end(LARGE_BYTES + 1_000)
        assert not is_reset
        assert body == body_of(root, "LARGE", ["price"])
    poll(lambda: not any(map(is_alive, workers)), "the workers to exit")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", server.port))
    server.log.close()


def test_stop_without_any_connection_is_prompt_and_quiet(root: Path) -> None:
    """An idle server waits for no deadline and says nothing but that it stopped."""
    late = {"ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "600", "ZEROCOPY_SERVER_DRAIN_IDLE_S": "600"}
    with ForkedServer(root, **late) as server:
        assert server.stop() == 0  # which waits for 20 s at most
        assert [event["event"] for event in server.events()] == ["ready", "stopped"]


def test_collector_works_in_both_processes_and_passes_over_what_a_start_made(
    root: Path, tmp_path: Path
) -> None:
    """It is off while modules are imported; if it stayed so, circles would fill the memory."""
    (tmp_path / "sitecustomize.py").write_text(TELL_COLLECTOR, encoding="utf-8")
    with RunningServer(root, PYTHONPATH=str(tmp_path)) as server:
        pids = [server.pid, *server.worker_pids()]
        assert server.stop() == 0
    assert [(tmp_path / str(pid)).read_text() for pid in pids] == ["True True\n"] * 2
