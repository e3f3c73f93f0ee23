"""What a TLS connection leaves behind when it ends: nothing, and nothing for the collector."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.tls import make_pair, trusting
from zerocopy.core.counters import SLOTS
from zerocopy.core.errors import NotFoundError, ZerocopyError
from zerocopy.core.http.messages import Request, Response
from zerocopy.transport.admission import Admission
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http2 import server as http2_server
from zerocopy.transport.http2.context import Http2Limits
from zerocopy.transport.http2.server import Http2Server
from zerocopy.transport.http2.tls_connection import TlsConnection
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMITS = RequestLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)
HTTP1 = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


class _Handler:
    """Knows nothing and says so."""

    def respond_now(self, _request: Request, times: int = 1) -> Response:
        """404 to everything."""
        assert times == 1
        return self.refuse(NotFoundError("nothing is here"))

    def refuse(self, error: Exception) -> Response:
        """The status alone."""
        assert isinstance(error, ZerocopyError)
        return Response(error.status, (), b"no")


def talk(address: tuple[str, int], protocol: str, said: bytes) -> None:
    """Say something, read until nothing comes for a moment or the end, and leave."""
    context = trusting()
    context.set_alpn_protocols([protocol])
    with (
        socket.create_connection(address) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as client,
    ):
        client.sendall(said)
        assert client.recv(65_536)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; AssertionError after ten seconds."""
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


@pytest.mark.parametrize(("protocol", "said"), [("http/1.1", HTTP1), ("h2", HTTP2)])
def test_connection_that_ends_is_freed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, said: bytes
) -> None:
    """No circle of references keeps it: its buffers of 256 KiB must not wait for a collection."""
    counters = [0] * len(SLOTS)
    failures: list[Any] = []
    handler = cast("Any", _Handler())
    made: list[weakref.ref[TlsConnection]] = []

    def make(*arguments: Any, **named: Any) -> TlsConnection:
        connection = TlsConnection(*arguments, **named)
        made.append(weakref.ref(connection))
        return connection

    monkeypatch.setattr(http2_server, "TlsConnection", make)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        server = Http2Server(
            loop=loop,
            handler=handler,
            app=AsgiApp(
                handler=handler,
                limits=LIMITS,
                content_read_s=5,
                read_ahead_bytes_max=1 << 20,
                counters=counters,
                on_transfer_failed=lambda error, _: failures.append(error),
            ),
            limits=Http2Limits(
                streams_max=100,
                control_frames_max=100,
                turn_bytes_max=1 << 20,
                read_ahead_bytes_max=1 << 20,
                open_files_max=512,
                header_read_s=10,
                idle_s=60,
                write_progress_s=10,
                drain_deadline_s=5,
                drain_idle_s=0.0,
                request=LIMITS,
            ),
            admission=Admission(
                connections_max=10, connections_per_address_max=0, counters=counters
            ),
            counters=counters,
            on_transfer_failed=lambda error, _: failures.append(error),
            on_connection_failed=failures.append,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        await server.start([listener], make_pair(tmp_path).context())
        for _ in range(3):
            await loop.run_in_executor(None, talk, address, protocol, said)
        await until(lambda: len(made) == 3 and not any(reference() for reference in made))
        await server.drain()

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(scenario())
    finally:
        gc.enable()
    assert failures == []
