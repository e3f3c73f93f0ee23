"""Stopping, reloading and surviving with TLS: answers finish, certificates change, workers die."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import ssl
import warnings
from typing import TYPE_CHECKING

import pytest

from tests.certificate import NAMES, authority, client_context
from tests.faults.client import (
    LARGE,
    LARGE_BYTES,
    MEDIUM,
    SMALL,
    TINY_BUFFER_BYTES,
    body_of,
    make_root,
    poll,
    request_of,
    seal,
)
from tests.faults.tls_client import (
    HELLO,
    NO_ERROR,
    REFUSED_STREAM,
    TlsClient,
    client_hello,
    connect_raw,
    request_frame,
    wide_client,
)
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer, connect_to, is_refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EXIT_TIMEOUT_S = 10.0
"""Far below the drain deadline, far above what an idle server needs."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("lifecycle-tls")
    make_root(path)
    for series in ("SMALL", "MEDIUM", "LARGE"):
        seal(path, series)
    yield path
    shutil.rmtree(path)


def exit_code(server: RunningServer) -> int:
    """Wait for the supervisor to exit; its exit code."""
    assert server.process is not None
    return server.process.wait(EXIT_TIMEOUT_S)


def count_of(server: RunningServer, name: str) -> int:
    """How often an event was logged."""
    return sum(event["event"] == name for event in server.events())


# ---- stopping


def test_stop_ends_idle_connections_at_once(root: Path) -> None:
    """Idle and new ones of both protocols: GOAWAY to HTTP/2, close_notify to all, exit code 0."""
    with (
        RunningServer(root, USE_TLS="true") as server,
        H2Client(server) as idle,
        TlsClient(server) as idle_too,
        connect_raw(server) as silent,
        connect_raw(server) as greeted,
    ):
        assert idle.ask(SMALL).status == 200
        idle_too.send(request_of(SMALL))
        assert idle_too.answer().status == 200
        greeted.sendall(HELLO)
        poll(lambda: server.metric("zerocopy_connections") == 4, "all to be connected")
        os.kill(server.pid, signal.SIGTERM)
        idle.pump_to_end()
        assert [code for code, _ in idle.goaways] == [NO_ERROR]
        assert idle_too.read_until_end(1) == (b"", False)
        for sock in (idle.sock, idle_too.sock, silent, greeted):
            sock.close()
        assert exit_code(server) == 0
        assert "Traceback" not in server.log_text()


def test_stop_waits_for_nobody_who_says_no_more(root: Path) -> None:
    """Clients that answer neither GOAWAY nor close_notify, nor end a handshake, hold nothing up."""
    with (
        ForkedServer(root, USE_TLS="true") as server,
        connect_raw(server) as mute,
        connect_raw(server, "http/1.1") as mute_too,
        connect_to(server.tls_port) as late,
        connect_to(server.tls_port),
    ):
        mute.sendall(HELLO + request_frame(SMALL))
        mute_too.sendall(request_of(SMALL))
        late.sendall(client_hello())
        for sock in (mute, mute_too, late):
            assert sock.recv(100)
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server) == 0


def test_stop_lets_a_large_answer_finish_and_refuses_new_streams(root: Path) -> None:
    """GOAWAY amid the body, REFUSED_STREAM for what comes after it, every byte, exit code 0."""
    with (
        ForkedServer(root, USE_TLS="true") as server,
        wide_client(server, receive_buffer_bytes=TINY_BUFFER_BYTES) as client,
    ):
        stream_id = client.request(LARGE)
        stream = client.streams[stream_id]
        client.pump(lambda: len(stream.content) > 10_000, "the first bytes")
        os.kill(server.pid, signal.SIGTERM)
        client.pump(lambda: bool(client.goaways), "GOAWAY")
        assert client.goaways == [(NO_ERROR, stream_id)]
        assert not stream.is_over, "GOAWAY comes amid the body"
        late = client.streams[client.request(SMALL)]
        assert client.answer(stream_id).content == body_of(root, "LARGE", ["price"])
        client.pump(lambda: late.is_over or client.is_closed, "the refusal")
        assert late.reset_code == REFUSED_STREAM
        client.pump_to_end()
        assert exit_code(server) == 0


@pytest.mark.slow  # over HTTP/2 above, and HTTP/1.1 in test_lifecycle.py
def test_stop_lets_a_large_answer_over_http1_finish(root: Path) -> None:
    """Every byte, close_notify, exit code 0."""
    with ForkedServer(root, USE_TLS="true") as server:
        with TlsClient(server, TINY_BUFFER_BYTES) as client, H2Client(server) as idle:
            idle.ping()
            client.send(request_of(LARGE))
            _, fields = client.head()
            os.kill(server.pid, signal.SIGTERM)
            idle.pump_to_end()
            body = client.read(int(fields["content-length"]))
            assert body == body_of(root, "LARGE", ["price"])
            assert client.read_until_end(1) == (b"", False)
        assert exit_code(server) == 0


def test_drain_deadline_aborts_streams_that_stall(root: Path) -> None:
    """At the deadline a stalled answer is cut off without a clean end, and the exit code is 0."""
    with (
        ForkedServer(root, USE_TLS="true", ZEROCOPY_SERVER_DRAIN_DEADLINE_S="0.5") as server,
        wide_client(server, receive_buffer_bytes=TINY_BUFFER_BYTES) as stalled,
        wide_client(server, window=10_000, auto_window=False) as shut,
        TlsClient(server, TINY_BUFFER_BYTES) as stalled_too,
    ):
        streams = [client.streams[client.request(LARGE)] for client in (stalled, shut)]
        stalled_too.send(request_of(LARGE))
        stalled_too.head()
        os.kill(server.pid, signal.SIGTERM)
        assert exit_code(server) == 0
        for client in (stalled, shut):
            client.pump_to_end()
        assert not any(stream.is_ended for stream in streams)
        body, is_aborted = stalled_too.read_until_end(LARGE_BYTES)
        assert is_aborted
        assert len(body) < LARGE_BYTES


# ---- certificates


class Pair:
    """Certificate and key on disk, replaced by rename as certbot does."""

    def __init__(self, folder: Path) -> None:
        self.chain_path, self.key_path = str(folder / "leaf.crt"), str(folder / "leaf.key")

    @property
    def environ(self) -> dict[str, str]:
        """Where a server finds them."""
        return {"SSL_CERT_PATH": self.chain_path, "SSL_PRIVATE_FILE": self.key_path}

    def issue(self) -> bytes:
        """Put a new pair in place; the certificate, in DER."""
        leaf = authority().issue_cert(*NAMES)
        self.put(self.key_path, leaf.private_key_pem.bytes())
        self.put(self.chain_path, b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    @staticmethod
    def put(path: str, content: bytes) -> None:
        """Replace a file by rename."""
        with open(path + ".new", "wb") as file:
            file.write(content)
        os.rename(path + ".new", path)


def certificate_of(server: RunningServer) -> bytes | None:
    """What a new connection is shown, in DER."""
    with connect_raw(server) as sock:
        return sock.getpeercert(binary_form=True)


def test_hangup_replaces_the_certificate_and_disturbs_no_answer(root: Path, tmp_path: Path) -> None:
    """New connections get the new one; an answer under way comes whole, then GOAWAY."""
    pair = Pair(tmp_path)
    first = pair.issue()
    body = body_of(root, "MEDIUM")
    with RunningServer(root, USE_TLS="true", **pair.environ) as server:
        with wide_client(server, window=10_000, auto_window=False) as client:
            assert client.sock.getpeercert(binary_form=True) == first
            stream_id = client.request(MEDIUM)
            content = client.streams[stream_id].content
            client.pump(lambda: len(content) == 10_000, "the answer to stall")
            second = pair.issue()
            assert certificate_of(server) == first, "until SIGHUP nothing changes"
            os.kill(server.pid, signal.SIGHUP)
            poll(lambda: server.event("reloaded") is not None, "the reload")
            # The old worker may take a connection until the signal that ends it has come.
            poll(lambda: certificate_of(server) == second, "the new certificate")
            client.window(stream_id, len(body))
            assert client.answer(stream_id).content == body
            client.pump_to_end()
            assert client.goaways[-1] == (NO_ERROR, stream_id)
        poll(lambda: server.event("generation_gone") is not None, "the old worker to go")
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert certificate_of(server) == second, "a worker started later has it too"


def test_hangup_with_bad_files_keeps_the_certificate(root: Path, tmp_path: Path) -> None:
    """The old workers serve on, the log says why each time, and good files then are taken."""
    pair = Pair(tmp_path)
    first = pair.issue()
    key = authority().issue_cert("x.test").private_key_pem.bytes()
    with ForkedServer(root, USE_TLS="true", **pair.environ) as server:
        workers = server.worker_pids()
        faults = ((pair.chain_path, os.urandom(1_000)), (pair.key_path, key), (pair.key_path, b""))
        for count, (path, content) in enumerate(faults, start=1):
            pair.issue()
            pair.put(path, content)
            os.kill(server.pid, signal.SIGHUP)
            poll(lambda: count_of(server, "reload_refused") == count, "the refusal")  # noqa: B023
            assert certificate_of(server) == first
        os.unlink(pair.chain_path)
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: count_of(server, "reload_refused") == len(faults) + 1, "the refusal")
        kept = [event["reason"] for event in server.events() if event["event"] == "reload_refused"]
        assert all(str(tmp_path) in reason for reason in kept)
        assert server.worker_pids() == workers
        assert server.metric('zerocopy_reloads_total{result="refused"}') == 4
        second = pair.issue()
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: server.event("reloaded") is not None, "the reload")
        # An old worker may take a connection until the signal that ends it has come.
        poll(lambda: certificate_of(server) == second, "the new certificate")


def test_drain_answers_requests_on_their_way_and_tells_of_the_end(root: Path) -> None:
    """RFC 9113 section 6.8: GOAWAY of all streams, then, once it has arrived, the one that counts.

    A client that saw neither gets its answer; over HTTP/1.1 it comes with Connection: close.
    """
    with (
        ForkedServer(root, USE_TLS="true", ZEROCOPY_SERVER_DRAIN_IDLE_S="5") as server,
        H2Client(server) as client,
        TlsClient(server) as http1,
    ):
        assert client.ask(SMALL).status == 200
        http1.send(request_of(SMALL))
        assert "connection" not in http1.answer().fields
        os.kill(server.pid, signal.SIGTERM)
        poll(lambda: is_refused(server.port), "the drain to begin")
        stream_id = client.request(SMALL)  # nothing was read since: it crosses the GOAWAY
        assert client.answer(stream_id).content == body_of(root, "SMALL")
        client.pump_to_end()
        assert client.goaways == [(NO_ERROR, 2**31 - 1), (NO_ERROR, stream_id)]
        http1.send(request_of(SMALL))
        answer = http1.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert http1.read_until_end(1) == (b"", False)
        http1.sock.close()
        assert exit_code(server) == 0


# ---- listeners and protocols


@pytest.mark.parametrize(
    "environ",
    [
        {"USE_TLS": "true", "ZEROCOPY_PLAIN_PORT": "0"},
        pytest.param({"ZEROCOPY_TLS_PORT": "0"}, marks=pytest.mark.slow),
    ],
)
def test_both_listeners_answer_the_same(root: Path, environ: dict[str, str]) -> None:
    """Plain HTTP/1.1, HTTP/1.1 over TLS and HTTP/2: same status, same bytes, same fields."""
    with (
        ForkedServer(root, **environ) as server,
        H2Client(server) as h2,
        TlsClient(server) as h1,
    ):
        assert server.plain_port != server.tls_port
        plain = http.client.HTTPConnection("127.0.0.1", server.plain_port, timeout=20)
        for target in (SMALL, MEDIUM, "/api/symbols", "/healthz", "/nowhere", "/api/data"):
            plain.request("GET", target)
            response = plain.getresponse()
            content = response.read()
            h1.send(request_of(target))
            for answer in (h1.answer(), h2.ask(target)):
                assert answer.status == response.status
                assert answer.content == content
                for name in ("content-type", "content-length", "etag", "cache-control"):
                    assert answer.fields.get(name) == response.getheader(name)
        plain.close()


@pytest.mark.slow  # test_lifecycle.py kills one, test_reload_load.py one that serves TLS
def test_killed_worker_serves_tls_again(root: Path) -> None:
    """A kill -9 costs the open connections only; the next are served without a wait."""
    with RunningServer(root, USE_TLS="true", ZEROCOPY_PLAIN_PORT="0") as server:
        (worker,) = server.worker_pids()
        with wide_client(server, receive_buffer_bytes=TINY_BUFFER_BYTES) as busy:
            stream = busy.streams[busy.request(LARGE)]
            busy.pump(lambda: len(stream.content) > 0, "the first bytes")
            os.kill(worker, signal.SIGKILL)
            busy.pump_to_end()
            assert not stream.is_ended
        with H2Client(server) as client:
            assert client.ask(SMALL).content == body_of(root, "SMALL")
        assert server.get(SMALL).content == body_of(root, "SMALL")
        assert worker not in server.worker_pids()
        assert server.metric("zerocopy_worker_restarts_total") == 1
        poll(lambda: server.metric("zerocopy_connections") == 0, "no connection to be counted")


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options, on TLS."""
    with ForkedServer(root, USE_TLS="true") as running:
        yield running


def test_old_versions_of_tls_are_refused(server: RunningServer) -> None:
    """A client that knows TLS 1.1 at most gets no connection, and the next client gets one."""
    context = client_context(["h2"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with connect_to(server.tls_port) as sock, pytest.raises(OSError, match=r"SSL|reset"):
        context.wrap_socket(sock, server_hostname="127.0.0.1")
    assert server.get("/healthz").status == 200


def test_client_that_offers_unknown_protocols_is_told_so(server: RunningServer) -> None:
    """RFC 7301 section 3.2: the alert no_application_protocol, and no HTTP/1.1 in its place."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    context.set_alpn_protocols(["http/1.0", "spdy/3"])
    with (
        connect_to(server.tls_port) as sock,
        pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"),
    ):
        context.wrap_socket(sock, server_hostname="127.0.0.1")


def test_client_without_alpn_gets_http1(server: RunningServer, root: Path) -> None:
    """HTTP/1.1, which every client of TLS understands."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    with context.wrap_socket(connect_to(server.tls_port), server_hostname="127.0.0.1") as sock:
        assert sock.selected_alpn_protocol() is None
        sock.sendall(request_of(SMALL, "Connection: close"))
        received = b""
        while data := sock.recv(1 << 16):
            received += data
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(body_of(root, "SMALL"))
