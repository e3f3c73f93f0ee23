"""What a TLS connection leaves behind when it ends: nothing, and nothing for the collector."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.tls_bench import TlsBench, run, until
from zerocopy.core.errors import NotFoundError, ZerocopyError
from zerocopy.core.http.messages import Request, Response
from zerocopy.transport.http2 import server as http2_server
from zerocopy.transport.http2.tls_connection import TlsConnection

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize(("protocol", "said"), [("http/1.1", HTTP1), ("h2", HTTP2)])
def test_connection_that_ends_is_freed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, said: bytes
) -> None:
    """No circle of references keeps it: its buffers of 256 KiB must not wait for a collection."""
    made: list[weakref.ref[TlsConnection]] = []

    def make(*arguments: Any, **named: Any) -> TlsConnection:
        connection = TlsConnection(*arguments, **named)
        made.append(weakref.ref(connection))
        return connection

    monkeypatch.setattr(http2_server, "TlsConnection", make)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, _Handler())
        await bench.start()

        def talk() -> None:
            with bench.connect(protocol) as client:
                client.sendall(said)
                assert client.recv(65_536)

        for _ in range(3):
            await bench.in_threads([talk])
        await until(lambda: len(made) == 3 and not any(reference() for reference in made))
        await bench.stop()
        assert bench.failures == []

    gc.collect()
    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()
