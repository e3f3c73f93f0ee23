"""What becomes of a connection right behind its handshake: in a drain, or after a fault."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.certificate import is_cut_off
from tests.tls import trusting
from tests.transport.test_tls_endings import http1
from tests.transport.tls_bench import BenchHandler, TlsBench, connect_tcp, run

if TYPE_CHECKING:
    import socket
    import ssl
    from pathlib import Path

    import pytest


def test_request_behind_a_handshake_that_ends_in_a_drain_is_answered(tmp_path: Path) -> None:
    """No connection of HTTP/1.1 was there when the drain began; it waits for the one it makes."""

    def finish(sock: socket.socket) -> ssl.SSLSocket:
        return trusting().wrap_socket(sock, server_hostname="localhost")

    def ask(sock: ssl.SSLSocket) -> bytes:
        received = b""
        with sock:
            sock.sendall(http1("/api/data?small"))
            while data := sock.recv(65_536):
                received += data
        return received

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), drain_idle_s=10.0)
        await bench.start()
        server = bench.server

        async def drain() -> int:
            await server.drain()
            return len(server.http1)

        raw = connect_tcp(bench.address)
        await bench.until(lambda: server._handshakes)
        draining = bench.loop.create_task(drain())
        await bench.until(lambda: server.context.draining)
        [sock] = await bench.in_threads([partial(finish, raw)])
        await bench.until(lambda: len(server.http1))
        [received] = await bench.in_threads([partial(ask, sock)])
        assert received.startswith(b"HTTP/1.1 200 ")
        assert await draining == 0, "the worker would have gone amid a connection"
        bench.threads.shutdown()
        assert bench.failures == []

    run(scenario)


def test_fault_behind_a_handshake_gives_the_socket_and_the_seat_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has them when what was to serve the connection cannot be made."""
    fault = MemoryError("no room for a connection")

    def failing(*_args: object, **_named: object) -> None:
        raise fault

    def meet(bench: TlsBench) -> bytes:
        with bench.connect("h2") as sock:
            try:
                return sock.recv(1)
            except OSError as error:
                if not is_cut_off(error):
                    raise
        return b""

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        monkeypatch.setattr("zerocopy.transport.tls.server.TlsChannel", failing)
        assert await bench.in_threads([partial(meet, bench)]) == [b""]
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == [fault]

    run(scenario)
