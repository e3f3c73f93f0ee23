"""What a connection of the TLS listener leaves behind: nothing, and nothing for the collector."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.http2.frames import PREFACE, frame
from tests.transport.test_tls_endings import HELLO, http1, http2
from tests.transport.tls_bench import LARGE_BYTES, SMALL_BYTES, BenchHandler, TlsBench, run
from zerocopy.transport.http2.wire import Http2Wire
from zerocopy.transport.tls import server as tls_server
from zerocopy.transport.tls.channel import TlsChannel
from zerocopy.transport.tls.handshake import Handshake, HandshakeSocket

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("frozen")

SAID = {
    "http/1.1": [
        (b"", 0),
        (http1("/api/data?small"), SMALL_BYTES),
        (http1("/api/data?large"), LARGE_BYTES),
        (http1("/api/data?large"), 1),
        (http1("/api/data?small", "GET", "Connection: close"), SMALL_BYTES),
    ],
    "h2": [
        (b"", 0),
        (PREFACE + frame(4, 0, 0), 1),
        (HELLO + http2("/api/data?small"), SMALL_BYTES),
        (HELLO + http2("/api/data?large"), LARGE_BYTES),
        (HELLO + http2("/api/data?large"), 1),
    ],
}


def talk(bench: TlsBench, protocol: str, said: bytes, nbytes: int) -> None:
    """Say something, take so many bytes of what comes, and leave."""
    with bench.connect(protocol) as client:
        client.sendall(said)
        while nbytes > 0:
            data = client.recv(min(nbytes, 65_536))
            assert data
            nbytes -= len(data)


@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_connection_that_ends_is_freed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """No circle of references keeps its buffers and keys until a collection.

    An HTTP/1.1 connection and its sender know each other; of TLS they hold nothing any more.
    """
    made: list[weakref.ref[Any]] = []
    secured: list[ssl.SSLSocket] = []

    def tracked(kind: type[Any]) -> Any:
        slots = () if hasattr(kind, "__weakref__") else ("__weakref__",)
        fresh = type(kind.__name__, (kind,), {"__slots__": slots})

        def make(*arguments: Any, **named: Any) -> Any:
            thing = fresh(*arguments, **named)
            made.append(weakref.ref(thing))
            return thing

        return make

    kinds = [Handshake, TlsChannel, Http2Wire] if protocol == "h2" else [Handshake]
    for kind in kinds:
        monkeypatch.setattr(tls_server, kind.__name__, tracked(kind))

    class Secured(HandshakeSocket):
        """Noted; with it goes `_sslobj`, which has the keys."""

        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as in ssl
            super().do_handshake(block)
            secured.append(self)

    monkeypatch.setattr(tls_server, "HandshakeSocket", Secured)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        await bench.in_threads([partial(talk, bench, protocol, *said) for said in SAID[protocol]])
        await bench.until_nothing_is_held()
        await bench.until(lambda: not any(reference() for reference in made))
        assert len(made) == len(kinds) * len(SAID[protocol])
        assert len(secured) == len(SAID[protocol])
        assert all(sock._sslobj is None for sock in secured)  # type: ignore[attr-defined]
        await bench.stop()
        assert bench.failures == []

    gc.collect()
    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()
