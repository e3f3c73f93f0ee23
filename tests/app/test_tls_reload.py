"""New certificates while a server runs, on both event loops: no connection notices."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.tls import OTHER, VERSIONS, Pair, handshake, make_pair, trusting
from zerocopy.app.tls import ReloadableContext
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """A good pair."""
    return make_pair(tmp_path)


@contextmanager
def serving(
    context: ssl.SSLContext, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> Iterator[int]:
    """An echo server on a loop in a thread of its own; its port."""
    loop = new_loop()
    ports: list[int] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(100):
            writer.write(received)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def serve() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context) as server:
            ports.append(server.sockets[0].getsockname()[1])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def connect(
    port: int,
    client: ssl.SSLContext,
    name: str | None = "localhost",
    session: ssl.SSLSession | None = None,
) -> ssl.SSLSocket:
    """A connection that has echoed a byte, so that its tickets have come."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    secured = client.wrap_socket(plain, server_hostname=name, session=session)
    echoes(secured)
    return secured


def echoes(connection: ssl.SSLSocket) -> None:
    """Assert that a connection works in both directions."""
    connection.sendall(b"?")
    assert connection.recv(1) == b"?"


def common_name(connection: ssl.SSLSocket) -> str:
    """Whose certificate the server showed."""
    cert = connection.getpeercert()
    assert cert is not None
    names: dict[str, str] = dict(entry[0] for entry in cert["subject"])  # type: ignore[misc]
    return names["commonName"]


@LOOPS
@VERSIONS
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", None])
def test_reload_is_for_new_connections_only(
    pair: Pair,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    version: ssl.TLSVersion,
    name: str | None,
) -> None:
    """With a server name, with an address (which TLS never names) and without either; ALPN too."""
    reloadable = ReloadableContext(str(pair.cert), str(pair.key))
    client = trusting(check_hostname=False, minimum_version=version, maximum_version=version)
    client.set_alpn_protocols(["http/1.1", "h2"])
    with serving(reloadable.context, new_loop) as port, connect(port, client, name) as old:
        pair.write(OTHER)
        with connect(port, client, name) as before:
            assert common_name(before) == "first"
        reloadable.reload()
        with connect(port, client, name) as new:
            assert (common_name(new), new.selected_alpn_protocol()) == ("second", "h2")
            assert new.version() == version.name.replace("_", ".")
        assert (common_name(old), old.selected_alpn_protocol()) == ("first", "h2")
        echoes(old)


@LOOPS
def test_reload_that_fails_keeps_what_is_there(
    pair: Pair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Half of a pair replaced: an error, the old certificate; then the other half, the new one."""
    reloadable = ReloadableContext(str(pair.cert), str(pair.key))
    client = trusting()
    with serving(reloadable.context, new_loop) as port:
        pair.key.write_bytes(OTHER.private_key_pem.bytes())
        with pytest.raises(ConfigError, match="does not belong to"):
            reloadable.reload()
        with connect(port, client) as connection:
            assert common_name(connection) == "first"
        pair.write(OTHER)
        reloadable.reload()
        with connect(port, client) as connection:
            assert common_name(connection) == "second"


@LOOPS
@VERSIONS
def test_sessions_are_resumed_across_a_reload(
    pair: Pair, new_loop: Callable[[], asyncio.AbstractEventLoop], version: ssl.TLSVersion
) -> None:
    """A reload does not make every client start over."""
    reloadable = ReloadableContext(str(pair.cert), str(pair.key))
    client = trusting(minimum_version=version, maximum_version=version)
    with serving(reloadable.context, new_loop) as port:
        with connect(port, client) as connection:
            session = connection.session
        pair.write(OTHER)
        reloadable.reload()
        with connect(port, client, session=session) as connection:
            assert connection.session_reused


@LOOPS
def test_reloads_under_load_fail_no_handshake(
    pair: Pair, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Contexts are exchanged from another thread while handshakes use them."""
    reloadable = ReloadableContext(str(pair.cert), str(pair.key))
    client = trusting()
    done = threading.Event()

    def reload_on() -> None:
        while not done.is_set():
            reloadable.reload()

    with serving(reloadable.context, new_loop) as port:
        thread = threading.Thread(target=reload_on)
        thread.start()
        try:
            for _ in range(20):
                connect(port, client).close()
        finally:
            done.set()
            thread.join(10)


def test_server_name_that_is_not_ascii_ends_the_handshake(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython cannot decode it for the callback and says so; the next client is served."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    reloadable = ReloadableContext(str(pair.cert), str(pair.key))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(down, up, server_hostname="localhost").do_handshake()
    hello = ssl.MemoryBIO()
    hello.write(up.read().replace(b"localhost", b"\xff" * 9))
    with pytest.raises(ssl.SSLError, match="CALLBACK_FAILED"):
        reloadable.context.wrap_bio(hello, down, server_side=True).do_handshake()
    assert told == [UnicodeDecodeError]
    handshake(reloadable.context, trusting())
