"""SIGHUP: a new generation of workers takes over, and nobody notices; drains; readiness."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.reloading import count_of, exit_code, workers_settled
from tests.faults.client import (
    LARGE,
    SMALL,
    TINY_BUFFER_BYTES,
    Client,
    body_of,
    make_root,
    poll,
    request_of,
    seal,
)
from tests.ports import free_port
from tests.server import ForkedServer, RunningServer, is_refused, port_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HANG_UP = """
import os, signal, sys
if "zerocopy.supervise.worker" in sys.orig_argv:
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGINT)
else:
    import importlib.abc
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name == "zerocopy.supervise.supervisor":
                os.kill(os.getpid(), signal.SIGHUP)
    sys.meta_path.insert(0, Finder())
"""
"""What Python processes of a server run first: signals in the middle of the start of each."""

STUCK = """
import socket, threading
real = socket.getaddrinfo
def getaddrinfo(host, *arguments, **more):
    if host == "stuck.invalid":
        threading.Event().wait()
    return real("127.0.0.1" if host == "known.invalid" else host, *arguments, **more)
socket.getaddrinfo = getaddrinfo
"""
"""A resolver that never answers for one name, and at once for another."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("reload")
    make_root(path)
    for series in ("SMALL", "MEDIUM", "LARGE"):
        seal(path, series)
    yield path
    shutil.rmtree(path)


class Configured:
    """A server with a file of its own, which a test changes."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        text: str = "",
        *,
        kind: type[RunningServer] = ForkedServer,
        **environ: str,
    ) -> None:
        self._path = folder / "config.toml"
        self.write(text)
        self.server = kind(root, ZEROCOPY_CONFIG=str(self._path), **environ)

    def write(self, text: str) -> None:
        """Replace the configuration."""
        self._path.write_text(text, encoding="utf-8")

    def reload(self, text: str, outcome: str = "reloaded") -> dict[str, str]:
        """Change the configuration, send SIGHUP; the event that says what came of it."""
        self.write(text)
        before = count_of(self.server, outcome)
        os.kill(self.server.pid, signal.SIGHUP)
        poll(lambda: count_of(self.server, outcome) > before, outcome, 20)
        return [event for event in self.server.events() if event["event"] == outcome][-1]


def test_hangup_serves_the_new_configuration_on_the_same_connections_queue(
    root: Path, tmp_path: Path
) -> None:
    """Limits and the number of workers change, up and down; metrics tell; no connection is lost."""
    configured = Configured(root, tmp_path)
    expected = body_of(root, "SMALL")
    with configured.server as server:
        before = server.worker_pids()
        assert server.get(SMALL).status == 200
        configured.reload("[limits]\ncolumns_max = 1\n[server]\nworkers = 3\n")
        poll(lambda: workers_settled(server, 3), "three workers")
        assert not set(before) & set(server.worker_pids())
        assert server.get(SMALL).status == 400, "two columns are too many now"
        assert server.metric("zerocopy_workers") == 3
        assert server.metric("zerocopy_generation") == 2
        configured.reload("[server]\nworkers = 1\n")
        poll(lambda: workers_settled(server, 1), "one worker")
        answers = [server.get(SMALL) for _ in range(20)]
        assert all(answer.content == expected for answer in answers), "three queues, one worker"
        assert server.metric('zerocopy_reloads_total{result="done"}') == 2
        assert server.metric('zerocopy_reloads_total{result="refused"}') == 0
        assert server.metric("zerocopy_worker_restarts_total") == 0
        poll(lambda: server.metric("zerocopy_connections") == 0, "no connection to be counted")
        assert server.metric('zerocopy_requests_total{endpoint="data",status="200"}') == 21, (
            "nothing falls"
        )


def test_reload_leaves_the_server_ready_for_whoever_asks(root: Path, tmp_path: Path) -> None:
    """Also on a connection of the old workers, which says that it was the last answer."""
    configured = Configured(root, tmp_path, ZEROCOPY_SERVER_DRAIN_IDLE_S="5")
    with configured.server as server, Client(server) as kept:
        kept.send(request_of("/readyz"))
        assert kept.answer().status == 200
        configured.reload("")
        kept.send(request_of("/readyz"))
        answer = kept.answer()
        assert answer.status == 200
        assert answer.fields["connection"] == "close"


def test_hangup_with_what_cannot_be_served_keeps_the_old_workers(
    root: Path, tmp_path: Path
) -> None:
    """A wrong key, a certificate that is not there, a start that takes too long: one line each."""
    configured = Configured(root, tmp_path)
    with configured.server as server:
        workers = server.worker_pids()
        for text, words in (
            ("[server]\nworker = 3\n", "did you mean workers?"),
            ("[tls]\nport = 0\ncert_path = '/nowhere'\n", "/nowhere does not exist"),
            ("[server]\nstart_deadline_s = 0.001\n", "was not ready in time"),
        ):
            event = configured.reload(text, "reload_refused")
            assert words in event["reason"]
            assert server.get(SMALL).status == 200
        poll(lambda: server.worker_pids() == workers, "only the old workers")
        assert server.metric('zerocopy_reloads_total{result="refused"}') == 3
        assert server.metric("zerocopy_generation") == 1
        assert int(configured.reload("")["generation"]) == 2


def test_reload_that_cannot_read_its_files_is_given_up(root: Path, tmp_path: Path) -> None:
    """A certificate in a pipe that nobody fills: it is refused, the next one works."""
    configured = Configured(root, tmp_path, "[server]\nstart_deadline_s = 4\n")
    os.mkfifo(tmp_path / "pipe")
    with configured.server as server:
        text = f"[tls]\nport = 0\ncert_path = '{tmp_path / 'pipe'}'\n"
        event = configured.reload(text, "reload_refused")
        assert "could not be read within 4 s" in event["reason"]
        assert server.get(SMALL).status == 200
        assert int(configured.reload("")["generation"]) == 2
        with open(tmp_path / "pipe", "wb"):
            pass  # what was given up goes on, and nobody cares
        assert server.get(SMALL).status == 200
        assert count_of(server, "reload_refused") == 1


def test_reload_whose_host_is_not_resolved_is_given_up_and_stops_nothing(
    root: Path, tmp_path: Path
) -> None:
    """Meanwhile a worker that dies is started again; then one line says why, and names work."""
    (tmp_path / "sitecustomize.py").write_text(STUCK, encoding="utf-8")
    text = "[server]\nhost = '{}'\nstart_deadline_s = 6\n"
    known = text.format("known.invalid")
    environ = {"HOST": "", "PYTHONPATH": str(tmp_path)}
    configured = Configured(root, tmp_path, known, kind=RunningServer, **environ)
    with configured.server as server:
        configured.write(text.format("stuck.invalid"))
        os.kill(server.pid, signal.SIGHUP)
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGKILL)
        poll(lambda: server.worker_pids() not in ([], [worker]), "another worker")
        assert server.get(SMALL).status == 200
        assert server.event("reload_refused") is None, "the resolver is still asked"
        poll(lambda: server.event("reload_refused") is not None, "the deadline")
        event = server.event("reload_refused")
        assert event is not None
        assert "[server] host: stuck.invalid was not resolved within 6 s" in event["reason"]
        assert server.get(SMALL).status == 200
        event = configured.reload(known)
        assert int(event["generation"]) == 2
        event = configured.reload(text.format("0.0.0.0"))
        assert event["plain"].startswith("0.0.0.0:")
        server.port = port_of(event["plain"])
        event = configured.reload(known)
        assert event["plain"].startswith("127.0.0.1:")


@pytest.mark.parametrize("name", ["HOST", "ZEROCOPY_METRICS_HOST"])
def test_start_whose_host_is_not_resolved_ends_with_one_line(
    root: Path, tmp_path: Path, name: str
) -> None:
    """After `start_deadline_s`, for each listener."""
    (tmp_path / "sitecustomize.py").write_text(STUCK, encoding="utf-8")
    environ = {name: "stuck.invalid", "PYTHONPATH": str(tmp_path)}
    server = RunningServer(root, ZEROCOPY_SERVER_START_DEADLINE_S="0.5", **environ)
    process = server.start()
    try:
        assert process.wait(20) == 1
        (line,) = server.log_text().splitlines()
        assert "stuck.invalid:0: the name was not resolved within 0.5 s" in line
    finally:
        process.kill()
        process.wait()
        server.log.close()


def test_hangup_changes_the_address_and_serves_who_waits_at_the_old_one(
    root: Path, tmp_path: Path
) -> None:
    """The new port is bound before the old one is given up; a taken one changes nothing."""
    new_port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        configured = Configured(root, tmp_path, PORT="", DATA_PATH="")
        text = '[server]\nport = {}\n[data]\npath = "{}"\n'
        configured.write(text.format(0, root))
        with configured.server as server, Client(server) as kept:
            old_port = server.port
            for port, path, words in (
                (taken_port, root, "in use"),
                (0, "/nowhere", "/nowhere cannot be read: No such file"),
            ):
                event = configured.reload(text.format(port, path), "reload_refused")
                assert words in event["reason"]
                assert server.get(SMALL).status == 200
            event = configured.reload(text.format(new_port, root))
            server.port = port_of(event["plain"])
            assert server.port == new_port
            assert server.get(SMALL).content == body_of(root, "SMALL")
            poll(lambda: is_refused(old_port), "the old port to close")
            assert kept.is_closed()


@pytest.mark.slow
def test_options_that_need_a_restart_are_named(root: Path, tmp_path: Path) -> None:
    """The metrics stay where they are, and the log says so."""
    configured = Configured(root, tmp_path, METRICS_PORT="", ZEROCOPY_METRICS_HOST="127.0.0.1")
    configured.write("[metrics]\nport = 0\n")
    with configured.server as server:
        configured.reload("[metrics]\nport = 9099\n")
        poll(lambda: server.event("restart_needed") is not None, "the warning")
        event = server.event("restart_needed")
        assert event is not None
        assert list(event["options"]) == ["metrics.port"]
        assert server.metric("zerocopy_generation") == 2


@pytest.mark.slow
def test_hangups_in_a_row_are_one_reload_more(root: Path) -> None:
    """Those that come while one is under way count as one; then the server serves on."""
    with ForkedServer(root) as server:
        for _ in range(20):
            os.kill(server.pid, signal.SIGHUP)
            time.sleep(0.002)
        poll(lambda: count_of(server, "reloaded") >= 1, "the reload", 20)
        poll(lambda: workers_settled(server, 1), "the old workers to go", 20)
        assert count_of(server, "reloaded") <= 3
        assert server.get(SMALL).status == 200


def test_generations_that_drain_are_bounded(root: Path) -> None:
    """With two generations busy a SIGHUP waits until the older one has gone, and says so once."""
    with (
        ForkedServer(root, ZEROCOPY_SERVER_GENERATIONS_MAX="2") as server,
        Client(server, TINY_BUFFER_BYTES) as slow,
    ):
        slow.send(request_of(LARGE))
        slow.head()
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: count_of(server, "reloaded") == 1, "the first reload", 20)
        assert server.event("reload_waiting") is None
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: server.event("reload_waiting") is not None, "the second to wait")
        event = server.event("reload_waiting") or {}
        assert [int(event[name]) for name in ("generations", "generations_max")] == [2, 2]
        os.kill(server.pid, signal.SIGHUP)
        assert server.get(SMALL).status == 200
        assert len(server.worker_pids()) == 2
        assert count_of(server, "reloaded") == 1
        slow.reset()
        poll(lambda: count_of(server, "reloaded") == 2, "the second reload", 20)
        assert count_of(server, "reload_waiting") == 1


@pytest.mark.slow
def test_stop_amid_a_reload_drains_both_generations(root: Path) -> None:
    """Answers of the old and of the new are finished, and the exit code is 0."""
    expected = body_of(root, "LARGE", ["price"])
    with (
        ForkedServer(root) as server,
        Client(server, TINY_BUFFER_BYTES) as old,
    ):
        old.send(request_of(LARGE))
        old.head()
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: count_of(server, "reloaded") == 1, "the reload", 20)
        with Client(server, TINY_BUFFER_BYTES) as new:
            new.send(request_of(LARGE))
            new.head()
            os.kill(server.pid, signal.SIGHUP)
            os.kill(server.pid, signal.SIGTERM)
            for client in (old, new):
                assert client.read_until_end(len(expected)) == (expected, False)
        assert exit_code(server) == 0


def test_hangup_amid_a_start_ends_nobody(root: Path, tmp_path: Path) -> None:
    """Neither a worker that has just been made, nor a supervisor that is about to be."""
    (tmp_path / "sitecustomize.py").write_text(HANG_UP, encoding="utf-8")
    with RunningServer(root, PYTHONPATH=str(tmp_path)) as server:
        assert server.get(SMALL).status == 200
        assert count_of(server, "worker_died") == 0
        assert count_of(server, "reload_refused") == 0


# ---- drains and readiness


def test_idle_connections_get_their_time_in_a_drain(root: Path) -> None:
    """A request that comes then is answered with Connection: close; silence ends by a clean end."""
    with ForkedServer(root, ZEROCOPY_SERVER_DRAIN_IDLE_S="1") as server:
        with Client(server) as asking, Client(server) as silent:
            for client in (asking, silent):
                client.send(request_of(SMALL))
                assert "connection" not in client.answer().fields
            os.kill(server.pid, signal.SIGTERM)
            poll(lambda: is_refused(server.port), "the drain")
            asking.send(request_of(SMALL))
            answer = asking.answer()
            assert (answer.status, answer.fields["connection"]) == (200, "close")
            assert asking.sock.recv(1) == b""
            assert silent.sock.recv(1) == b"", "closed, and not reset"
            silent.sock.sendall(request_of(SMALL))  # too late, and still no reset: it is read
        assert exit_code(server) == 0


@pytest.mark.slow
def test_answer_that_promised_more_keeps_its_connection_for_one_more(root: Path) -> None:
    """Its head had left without Connection: close, so the client may ask again once it is whole."""
    with (
        ForkedServer(root, ZEROCOPY_SERVER_DRAIN_IDLE_S="5") as server,
        Client(server, TINY_BUFFER_BYTES) as client,
    ):
        client.send(request_of(LARGE))
        _, fields = client.head()
        os.kill(server.pid, signal.SIGTERM)
        poll(lambda: is_refused(server.port), "the drain")
        assert len(client.read(int(fields["content-length"]))) == int(fields["content-length"])
        client.send(request_of(SMALL))
        answer = client.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert client.is_closed()
        client.close()
        assert exit_code(server) == 0


def test_missing_root_is_told_and_readiness_waits_for_it(tmp_path: Path) -> None:
    """One line says what is wrong; /readyz is 503; when the root is there, the server is ready."""
    path = tmp_path / "late"
    with ForkedServer(path) as server:
        (event,) = server.logged("data_root_unreadable")
        assert (event["path"], event["reason"]) == (str(path), "No such file or directory")
        assert server.get("/readyz").status == 503
        assert server.get("/healthz").status == 200
        assert server.event("ready") is None
        path.mkdir()
        poll(lambda: server.event("ready") is not None, "readiness")
        assert server.get("/readyz").status == 200
        assert count_of(server, "data_root_unreadable") == 1
