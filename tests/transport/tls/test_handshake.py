"""Connections that have yet to speak TLS: served, refused with a word, or let go."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.tls import V12, V13, VERSIONS, handshake, make_pair, trusting
from tests.transport.test_tls_endings import http1
from tests.transport.tls.test_hello import hello_of, in_records
from tests.transport.tls_bench import SMALL_BYTES, BenchHandler, TlsBench, connect_tcp, run
from zerocopy.transport.tls.handshake import (
    LINGER_TICKS,
    NO_APPLICATION_PROTOCOL,
    PROTOCOLS,
    Handshake,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

ALERT, FATAL = 0x15, 2
MANY = 8
PROTOCOL_VERSION, HANDSHAKE_FAILURE = 70, 40
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "brew"]


def alert_of(received: bytes) -> tuple[int, int]:
    """Level and description of the record that is all a server has said; RFC 8446 section 6."""
    assert len(received) == 7, received
    assert received[0] == ALERT
    assert received[3:5] == b"\x00\x02"
    return received[5], received[6]


def talk(bench: TlsBench, *pieces: bytes, is_closing: bool = False) -> bytes:
    """All that comes for bytes on a connection until its end; a reset is an error."""
    with connect_tcp(bench.address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            sock.sendall(piece)
        if is_closing:
            sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65_536):
            received += data
    return received


def on_bench(
    tmp_path: Path, scenario: Callable[[TlsBench], Coroutine[Any, Any, None]], **limits: Any
) -> None:
    """Run a scenario; nothing is held when it ends, and nothing has failed."""

    async def main() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), **limits)
        await bench.start()
        await scenario(bench)
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(main)


@pytest.mark.parametrize("version", [V12, V13], ids=lambda version: version.name)
@pytest.mark.parametrize("alpn", [("h3",), ("h3", "spdy/1"), ("http/1.0",), ("H2",)])
def test_client_without_a_common_protocol_is_told(
    tmp_path: Path, alpn: tuple[str, ...], version: ssl.TLSVersion
) -> None:
    """RFC 7301 section 3.2: a fatal no_application_protocol, also where its hello comes late.

    Or in several records.
    """
    hello = hello_of(alpn, maximum_version=version)
    cuts = [(hello,), (hello[:3], hello[3:]), (hello[:60], hello[60:-1], hello[-1:])]
    split = in_records(hello, 100)
    cuts += [(split,), (split[:105], split[105:]), (in_records(hello, 40),)]

    async def scenario(bench: TlsBench) -> None:
        for received in await bench.in_threads([partial(talk, bench, *cut) for cut in cuts]):
            assert alert_of(received) == (FATAL, NO_APPLICATION_PROTOCOL)

    on_bench(tmp_path, scenario)


def test_hello_that_comes_byte_by_byte_waits_for_its_end(tmp_path: Path) -> None:
    """It is looked at as a whole; until then, nothing is said, and the loop does not spin."""
    hello = hello_of(("h3",))

    async def scenario(bench: TlsBench) -> None:
        looks = 0
        with connect_tcp(bench.address) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            for at in range(len(hello) - 1):
                await bench.loop.sock_sendall(sock, hello[at : at + 1])
            await bench.until(lambda: bench.server._handshakes)
            [handshake] = bench.server._handshakes
            await bench.until(lambda: handshake._awaited_bytes == len(hello))
            look = handshake._begin

            def counted() -> None:
                nonlocal looks
                looks += 1
                look()

            handshake_class = type(handshake)
            original = handshake_class._begin
            try:
                handshake_class._begin = lambda _self: counted()  # type: ignore[method-assign,assignment]
                wheel = bench.server.context.wheel
                until = wheel.now + 2
                await bench.until(lambda: wheel.now >= until)
                assert looks == 0
                await bench.loop.sock_sendall(sock, hello[-1:])
                received = await bench.loop.sock_recv(sock, 100)
            finally:
                handshake_class._begin = original  # type: ignore[method-assign]
            assert looks == 1
            assert alert_of(received) == (FATAL, NO_APPLICATION_PROTOCOL)

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize("alpn", [(), ("http/1.1",), ("h3", "http/1.1"), ("h2", "h3")])
@pytest.mark.parametrize("name", [None, "localhost", "elsewhere.example"])
def test_client_with_a_common_protocol_is_served(
    tmp_path: Path, alpn: tuple[str, ...], name: str | None
) -> None:
    """Whatever else it offers, and whatever name it asks for (RFC 6066 section 3)."""

    def ask(bench: TlsBench) -> str | None:
        context = trusting(check_hostname=False)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        with context.wrap_socket(connect_tcp(bench.address), server_hostname=name) as sock:
            if "h2" not in alpn:
                sock.sendall(http1("/api/data?small"))
                assert sock.recv(100).startswith(b"HTTP/1.1 200")
            return sock.selected_alpn_protocol()

    async def scenario(bench: TlsBench) -> None:
        [agreed] = await bench.in_threads([partial(ask, bench)])
        expected = {(): None, ("h2", "h3"): "h2"}
        assert agreed == expected.get(alpn, "http/1.1")

    on_bench(tmp_path, scenario)


def test_client_of_an_old_version_is_told(tmp_path: Path) -> None:
    """RFC 8446 section 4.2.1, RFC 5246 appendix E.1: a fatal protocol_version to TLS 1.1."""
    hello = bytearray(hello_of((), maximum_version=V12))
    assert hello[9:11] == b"\x03\x03"
    hello[9:11] = b"\x03\x02"  # client_version, which a client without supported_versions means

    async def scenario(bench: TlsBench) -> None:
        [received] = await bench.in_threads([partial(talk, bench, bytes(hello))])
        assert alert_of(received) == (FATAL, PROTOCOL_VERSION)

    on_bench(tmp_path, scenario)


def test_client_without_a_common_cipher_is_told(tmp_path: Path) -> None:
    """RFC 8446 section 4.1.1: a fatal handshake_failure."""
    context = trusting(maximum_version=V12)
    context.set_ciphers("AES128-SHA@SECLEVEL=0")

    def ask(bench: TlsBench) -> str:
        with connect_tcp(bench.address) as sock, pytest.raises(ssl.SSLError) as refused:
            context.wrap_socket(sock, server_hostname="localhost")
        return refused.value.reason

    async def scenario(bench: TlsBench) -> None:
        [reason] = await bench.in_threads([partial(ask, bench)])
        assert "HANDSHAKE_FAILURE" in reason.upper()

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize("nbytes", [0, 100_000])
def test_plain_request_is_told_to_use_https(tmp_path: Path, nbytes: int) -> None:
    """A whole 400, and no reset, for every method, with or without content that is on its way."""

    def ask(bench: TlsBench, method: str) -> bytes:
        length = f"Content-Length: {nbytes}"
        return talk(bench, http1("/api/data", method, length), bytes(nbytes), is_closing=True)

    async def scenario(bench: TlsBench) -> None:
        answers = await bench.in_threads([partial(ask, bench, method) for method in METHODS])
        for answer in answers:
            head, _, content = answer.partition(b"\r\n\r\n")
            status, *fields = head.split(b"\r\n")
            assert status == b"HTTP/1.1 400 Bad Request"
            assert b"Content-Length: %d" % len(content) in fields
            assert b"Connection: close" in fields
            assert b"https" in content

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize("rest", [b"ET / HTTP/1.1\r\n\r\n", b""])
def test_plain_request_in_pieces_is_told_at_the_first(tmp_path: Path, rest: bytes) -> None:
    """A letter is enough."""

    async def scenario(bench: TlsBench) -> None:
        [answer] = await bench.in_threads([partial(talk, bench, b"G", rest, is_closing=True)])
        assert answer.startswith(b"HTTP/1.1 400 ")

    on_bench(tmp_path, scenario)


GARBAGE = [
    b"\x00" * 50,
    b"\xff" * 20_000,
    b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x00\x05hello",
    b"\x16\x03\x01\xff\xff" + bytes(70_000),
    b"\x16\x03\x01\x00\x00",
    b"\x80\x2e\x01\x00\x02" + bytes(60),
    hello_of(("h2",))[:43] + b"\xff" + hello_of(("h2",))[44:],  # a length that lies
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_and_the_next_client_served(tmp_path: Path, data: bytes) -> None:
    """It gets an alert or an end, no handshake, and nobody else pays."""

    def misbehave(bench: TlsBench) -> bytes:
        return talk(bench, data, is_closing=True)

    def ask(bench: TlsBench) -> int:
        with bench.connect() as sock:
            sock.sendall(http1("/api/data?small", "GET", "Connection: close"))
            received = b""
            while more := sock.recv(65_536):
                received += more
        return len(received.partition(b"\r\n\r\n")[2])

    async def scenario(bench: TlsBench) -> None:
        received, nbytes = await bench.in_threads([partial(misbehave, bench), partial(ask, bench)])
        assert received == b"" or received[0] == ALERT
        assert nbytes == SMALL_BYTES

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize("sent", [0, 3, 100, -1])
def test_silence_ends_at_the_deadline(tmp_path: Path, sent: int) -> None:
    """Before, amid or after its ClientHello: whoever says nothing more gives its seat back."""
    hello = hello_of(("h2",))

    async def scenario(bench: TlsBench) -> None:
        wheel = bench.server.context.wheel
        assert bench.server._ticking is not None
        bench.server._ticking.cancel()  # the test turns the wheel
        with connect_tcp(bench.address) as sock:
            sock.sendall(hello[:sent] if sent >= 0 else hello)
            await bench.until(lambda: bench.server._handshakes)
            [handshake] = bench.server._handshakes
            due = handshake.deadline
            assert 0 < due - wheel.now <= bench.server.context.header_ticks
            while wheel.now < due - 1:
                wheel.advance()
            assert bench.server._handshakes
            for _ in range(2):
                wheel.advance()
            assert bench.held() == {}

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize("data", [http1("/"), hello_of(("h3",))], ids=["plain", "no protocol"])
def test_refused_client_that_stays_is_let_go(tmp_path: Path, data: bytes) -> None:
    """It has `LINGER_TICKS` to close; what it sends meanwhile is read and forgotten."""

    async def scenario(bench: TlsBench) -> None:
        wheel = bench.server.context.wheel
        assert bench.server._ticking is not None
        bench.server._ticking.cancel()  # the test turns the wheel
        with connect_tcp(bench.address) as sock:
            sock.setblocking(False)
            await bench.loop.sock_sendall(sock, data)
            assert await bench.loop.sock_recv(sock, 65_536)
            assert await bench.loop.sock_recv(sock, 1) == b""
            [handshake] = bench.server._handshakes
            await bench.loop.sock_sendall(sock, bytes(300_000))
            assert 0 < handshake.deadline - wheel.now <= LINGER_TICKS
            for _ in range(LINGER_TICKS + 1):
                wheel.advance()
            assert bench.held() == {}

    on_bench(tmp_path, scenario)


@pytest.mark.parametrize("nbytes", [0, 1, 3, 5, 100, -1, None])
def test_client_that_left_before_its_handshake_is_no_fault(
    tmp_path: Path, nbytes: int | None
) -> None:
    """Some of its hello came, and then its reset, before the loop looked: the next is served."""
    hello = hello_of(("h2",))[:nbytes]

    async def scenario(bench: TlsBench) -> None:
        for _ in range(20):
            sock = connect_tcp(bench.address)  # the loop has not looked yet
            sock.sendall(hello)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        await bench.in_threads([lambda: bench.connect("h2").close()] * 5)

    on_bench(tmp_path, scenario)


@VERSIONS
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["http/1.1", "h2"], "h2"),
        (["h2", "http/1.1"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["spdy/3", "http/1.1"], "http/1.1"),
        ([], None),
    ],
)
def test_protocol_is_ours_to_choose(
    tmp_path: Path, version: ssl.TLSVersion, offered: list[str], chosen: str | None
) -> None:
    """HTTP/2 whenever the client has it; a client without ALPN gets none."""
    client = trusting(minimum_version=version, maximum_version=version)
    if offered:
        client.set_alpn_protocols(offered)
    serving = make_pair(tmp_path).context()
    serving.set_alpn_protocols(PROTOCOLS)
    assert handshake(serving, client).selected_alpn_protocol() == chosen


def test_handshakes_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many that have something to do at once, the event loop does one, and comes back."""
    gone_on: list[Handshake] = []
    monkeypatch.setattr(Handshake, "_go_on", lambda self: gone_on.append(self))  # noqa: PLW0108

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        socks = await bench.in_threads([partial(connect_tcp, bench.address)] * MANY)
        await bench.until(lambda: len(bench.server._handshakes) == MANY)
        for handshake_ in list(bench.server._handshakes):
            handshake_._on_readable()
        for done in range(MANY):
            assert len(gone_on) == done
            await asyncio.sleep(0)
        for sock in socks:
            sock.close()
        for handshake_ in list(bench.server._handshakes):
            handshake_.close()
        await bench.stop()

    run(scenario)
