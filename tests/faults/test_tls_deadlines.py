"""TLS connections that do not get on: each ends by its deadline, and those that do never do."""

from __future__ import annotations

import shutil
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import LARGE, MEDIUM, SMALL, body_of, make_root, poll, request_of, seal
from tests.faults.tls_client import (
    HELLO,
    NO_ERROR,
    TlsClient,
    block_of,
    client_hello,
    connect_raw,
    goaways_of,
    read_to_end,
    request_frame,
    wide_client,
)
from tests.h2client import HEADERS, H2Client
from tests.server import ForkedServer, RunningServer, connect_to
from tests.transport.http2.frames import END_HEADERS, END_STREAM, PREFACE, frame
from zerocopy.transport.admission import REFUSALS_MAX

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENDED_WITHIN_S = 15.0
"""Deadlines of a second or two, on a busy machine."""

TRICKLE_S = 0.2
ALIVE = "/healthz"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("deadlines-tls")
    make_root(path)
    for series in ("SMALL", "MEDIUM", "LARGE"):
        seal(path, series)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """A server whose clients have a second to ask, and are idle for a second."""
    with ForkedServer(
        root,
        USE_TLS="true",
        ZEROCOPY_TIMEOUTS_HEADER_READ_S="1",
        ZEROCOPY_TIMEOUTS_IDLE_S="1",
        ZEROCOPY_SERVER_DRAIN_DEADLINE_S="2",
    ) as running:
        yield running


BLOCK = block_of(SMALL)
REQUEST = request_frame(SMALL)
H1_HEAD = request_of(ALIVE, "A: " + "b" * 500)
CONTENT = frame(HEADERS, END_HEADERS, 1, block_of(ALIVE, "POST"))


@dataclass(frozen=True, slots=True)
class Kind:
    """What a client sends at first, and then byte by byte; `alpn` None is a bare TCP connection."""

    alpn: str | None
    first: bytes = b""
    trickled: bytes = b""
    goaway: bool = False
    clean: bool = False


KINDS = {
    "never handshakes": Kind(None),
    "half a handshake": Kind(None, client_hello()[:100]),
    "handshake by drops": Kind(None, client_hello()[:5], client_hello()[5:]),
    "handshake, then nothing (h2)": Kind("h2"),
    "handshake, then nothing (HTTP/1.1)": Kind("http/1.1"),
    "half a preface": Kind("h2", PREFACE[:12]),
    "preface by drops": Kind("h2", PREFACE[:3], PREFACE[3:]),
    "preface without SETTINGS": Kind("h2", PREFACE),
    "SETTINGS, then nothing": Kind("h2", HELLO, goaway=True, clean=True),
    "half a frame header": Kind("h2", HELLO + REQUEST[:5]),
    "half a frame": Kind("h2", HELLO + REQUEST[:30]),
    "a frame by drops": Kind("h2", HELLO + REQUEST[:9], REQUEST[9:]),
    "half a header block": Kind("h2", HELLO + frame(HEADERS, END_STREAM, 1, BLOCK[:20])),
    "empty CONTINUATION by drops": Kind(
        "h2", HELLO + frame(HEADERS, END_STREAM, 1, BLOCK), frame(9, 0, 1) * 50
    ),
    "half a second frame": Kind("h2", HELLO + REQUEST + REQUEST[:9]),
    "content that never comes (h2)": Kind("h2", HELLO + CONTENT, goaway=True, clean=True),
    "content that never comes (HTTP/1.1)": Kind("http/1.1", request_of(ALIVE, "Content-Length: 9")),
    "half a head": Kind("http/1.1", H1_HEAD[:20]),
    "a head by drops": Kind("http/1.1", H1_HEAD[:1], H1_HEAD[1:]),
    "half a second head": Kind("http/1.1", request_of(ALIVE) + H1_HEAD[:20]),
    "idle after an answer (h2)": Kind("h2", HELLO + REQUEST, goaway=True, clean=True),
    "idle after an answer (HTTP/1.1)": Kind("http/1.1", request_of(ALIVE), clean=True),
}


class Crowd:
    """All kinds of clients at once, so that their deadlines run side by side."""

    def __init__(self, server: RunningServer) -> None:
        self.socks = {name: self._connect(server, kind) for name, kind in KINDS.items()}
        self._left = {name: kind.trickled for name, kind in KINDS.items() if kind.trickled}
        self._outcomes: dict[str, tuple[bytes, bool]] = {}
        self.stopped = threading.Event()
        self.trickling = threading.Thread(target=self._trickle)
        self.trickling.start()

    @staticmethod
    def _connect(server: RunningServer, kind: Kind) -> socket.socket:
        sock = connect_raw(server, kind.alpn) if kind.alpn else connect_to(server.tls_port)
        sock.settimeout(ENDED_WITHIN_S)
        sock.sendall(kind.first)
        return sock

    def _trickle(self) -> None:
        """A byte of each every now and then, until the server wants no more."""
        while self._left and not self.stopped.wait(TRICKLE_S):
            for name, left in list(self._left.items()):
                with suppress(OSError):
                    self.socks[name].sendall(left[:1])
                self._left[name] = left[1:]
                if not left[1:]:
                    del self._left[name]

    def outcome(self, name: str) -> tuple[bytes, bool]:
        """What came until the end of a connection, and whether the server aborted it."""
        if name not in self._outcomes:
            try:
                self._outcomes[name] = read_to_end(self.socks[name])
            except TimeoutError:
                pytest.fail(f"{name}: still open after {ENDED_WITHIN_S} s")
            except OSError:  # sending noticed first, which takes the end away from reading
                assert KINDS[name].trickled
                self._outcomes[name] = b"", True
        return self._outcomes[name]

    def close(self) -> None:
        """Close what is left."""
        self.stopped.set()
        self.trickling.join()
        for sock in self.socks.values():
            sock.close()


@pytest.fixture(scope="module")
def crowd(server: RunningServer) -> Iterator[Crowd]:
    """One client of each kind."""
    clients = Crowd(server)
    yield clients
    clients.close()


@pytest.mark.parametrize("name", KINDS)
def test_connection_that_does_not_get_on_ends(crowd: Crowd, name: str) -> None:
    """By its deadline; with GOAWAY and close_notify where the client did nothing wrong."""
    kind = KINDS[name]
    received, is_aborted = crowd.outcome(name)
    if kind.clean:
        assert not is_aborted
    if kind.goaway:
        assert goaways_of(received)[-1:] == [NO_ERROR]
    if kind.alpn == "http/1.1" and kind.clean:
        assert received.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_all_deadlines_together_leave_nothing(
    crowd: Crowd, server: RunningServer, alpn: str
) -> None:
    """Once the crowd is gone nobody is counted, nothing was logged, and a newcomer is served."""
    for name in KINDS:
        crowd.outcome(name)
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connections")
    with connect_raw(server, alpn) as sock:
        sock.sendall(HELLO + REQUEST if alpn == "h2" else request_of(SMALL))
        assert sock.recv(100)
    names = {event["event"] for event in server.events()}
    assert names & {"loop_error", "connection_failed"} == set()


def outlive(begin: Callable[[], socket.socket]) -> None:
    """Wait until two idle connections in a row have come to their end."""
    for _ in range(2):
        with begin() as idle:
            idle.settimeout(ENDED_WITHIN_S)
            read_to_end(idle)


def test_connection_with_an_answer_under_way_is_not_idle(server: RunningServer, root: Path) -> None:
    """Two others begin and end by the idle deadline; the busy one, h2 and HTTP/1.1, goes on."""

    def begin() -> socket.socket:
        idle = connect_raw(server)
        idle.sendall(HELLO + REQUEST)
        return idle

    with (
        wide_client(server, window=10_000, auto_window=False) as busy,
        TlsClient(server, 8_192) as reading,
    ):
        body = body_of(root, "MEDIUM")
        stream_id = busy.request(MEDIUM)
        reading.send(request_of(LARGE))
        _, fields = reading.head()
        outlive(begin)
        busy.window(stream_id, len(body))
        assert busy.answer(stream_id).content == body
        assert not busy.goaways
        nbytes = int(fields["content-length"])
        assert reading.read(nbytes) == body_of(root, "LARGE", ["price"])


def test_connection_that_asks_now_and_then_is_not_idle(server: RunningServer, root: Path) -> None:
    """A request within every idle timeout keeps both protocols alive for a multiple of it."""
    body = body_of(root, "SMALL")
    stopped, errors = threading.Event(), list[BaseException]()

    def ask() -> None:
        try:
            with H2Client(server) as one, TlsClient(server) as other:
                while not stopped.wait(TRICKLE_S):
                    assert one.ask(SMALL).content == body
                    other.send(request_of(SMALL))
                    assert other.answer().content == body
                assert not one.goaways
        except BaseException as error:  # noqa: BLE001 - told by the test, in its own thread
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        outlive(lambda: connect_raw(server))
    finally:
        stopped.set()
        asking.join(30)
    assert errors == []


def test_connection_beyond_the_bound_gets_503_and_is_served_later(root: Path) -> None:
    """Over both protocols, with Retry-After; those inside notice nothing."""
    body = body_of(root, "SMALL")
    with (
        ForkedServer(root, USE_TLS="true", ZEROCOPY_LIMITS_CONNECTIONS_MAX="2") as server,
        H2Client(server) as inside,
        ExitStack() as stack,
    ):
        leaving = stack.enter_context(H2Client(server))
        for client in (inside, leaving):
            assert client.ask(SMALL).content == body
        for target in (SMALL, ALIVE):
            with H2Client(server) as refused:
                answer = refused.ask(target)
                assert answer.status == 503
                assert int(answer.fields["retry-after"]) > 0
                assert answer.fields["content-type"] == "application/problem+json"
                refused.pump_to_end()  # a place may be free by the next connection
                assert refused.goaways == [(0, 1)]
            poll(lambda: server.metric("zerocopy_connections") == 2, "it to be gone")
        with TlsClient(server) as refused_too:
            refused_too.send(request_of(SMALL))
            answer = refused_too.answer()
            assert answer.status == 503
            assert int(answer.fields["retry-after"]) > 0
            assert answer.fields["connection"] == "close"
        assert server.metric("zerocopy_connections_refused_total") == 3
        assert inside.ask(SMALL).content == body
        leaving.close()
        poll(lambda: server.metric("zerocopy_connections") == 1, "the others to be gone")
        with H2Client(server) as client:
            assert client.ask(SMALL).content == body
        poll(lambda: server.metric("zerocopy_connections") == 1, "it to be gone")
        assert server.get(SMALL).content == body
        assert server.metric("zerocopy_connections_refused_total") == 3


def test_crowd_beyond_the_bound_is_refused_and_not_left_waiting(root: Path) -> None:
    """Of a hundred beyond the bound each gets 503 or is closed at once; none hangs."""
    with (
        ForkedServer(root, USE_TLS="true", ZEROCOPY_LIMITS_CONNECTIONS_MAX="1") as server,
        H2Client(server) as inside,
        ExitStack() as stack,
    ):
        assert inside.ask(ALIVE).status == 200
        crowd, statuses = [], []
        for _ in range(100):
            with suppress(OSError):  # far above the bound nobody gets as far as a handshake
                crowd.append(stack.enter_context(connect_raw(server, "http/1.1")))
        assert len(crowd) >= REFUSALS_MAX
        for sock in crowd:
            with suppress(OSError):
                sock.sendall(request_of(SMALL))
                if answer := sock.recv(4_096):
                    statuses.append(answer[:13])
        assert set(statuses) == {b"HTTP/1.1 503 "}
        assert server.metric("zerocopy_connections_refused_total") == 100
        assert inside.ask(ALIVE).status == 200
