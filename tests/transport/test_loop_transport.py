"""`loop.sendfile` alone: closing, order of writes, flow control, TLS."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

from tests.transport.senders import CONTENT, MIB, NeverRead, connected, run, stalled


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("buffered", [False, True], ids=["sending", "draining"])
def test_sendfile_transport_closed_meanwhile_raises(
    file: NeverRead, *, way: str, buffered: bool
) -> None:
    """Closing the transport under a transfer ends it, and its own protocol hears of the loss."""

    async def main() -> None:
        async with connected("transport") as sender:
            if buffered:
                sender.transport.write(CONTENT)
                sender.protocol.events.clear()
            task = await stalled(sender, file)
            getattr(sender.transport, way)()
            received = sender.peer_takes_all()
            with pytest.raises(ConnectionError, match="closed during sendfile"):
                await asyncio.wait_for(task, 5)
            await asyncio.wait_for(sender.protocol.lost.wait(), 5)
            assert "lost" in sender.protocol.events
            content = await received
            if buffered and way == "close":
                assert content == CONTENT  # written before: a graceful close still delivers it
            assert (file.tell() > 0) == (not buffered)

    run(main())


def test_sendfile_transport_refuses_a_second_one(file: NeverRead) -> None:
    """Two transfers on one transport would mix their bytes; the first one is not disturbed."""

    async def main() -> None:
        async with connected("transport") as sender:
            task = await stalled(sender, file)
            with pytest.raises(RuntimeError, match="sendfile is in progress"):
                await sender.send(file)
            received = sender.peer_takes_all()
            assert await task == len(CONTENT)
            sender.end()
            assert await received == CONTENT

    run(main())


def test_sendfile_transport_keeps_the_order_of_writes(file: NeverRead) -> None:
    """What was written before leaves before the file, what is written after, after it."""

    async def main() -> None:
        async with connected("transport") as sender:
            received = sender.peer_takes_all()
            sender.transport.write(CONTENT[:MIB])
            await sender.send(file)
            sender.transport.write(b"end")
            sender.end()
            assert await received == CONTENT[:MIB] + CONTENT + b"end"

    run(main())


@pytest.mark.parametrize("reading", [True, False])
def test_sendfile_transport_pauses_reading_and_restores_everything(
    file: NeverRead, *, reading: bool
) -> None:
    """Reading is paused meanwhile; protocol, limits and reading are as they were afterwards."""

    async def main() -> None:
        async with connected("transport") as sender:
            transport = sender.transport
            transport.set_write_buffer_limits(high=12345, low=678)
            if not reading:
                transport.pause_reading()
            task = await stalled(sender, file)
            assert not transport.is_reading()
            sender.peer.send(b"early")
            await asyncio.sleep(0.05)
            assert sender.protocol.received == b""
            received = asyncio.ensure_future(sender.read(len(CONTENT)))
            await task
            assert transport.is_reading() == reading
            assert transport.get_protocol() is sender.protocol
            assert transport.get_write_buffer_limits() == (678, 12345)
            assert await received == CONTENT
            transport.resume_reading()
            await asyncio.sleep(0.01)
            assert sender.protocol.received == b"early"

    run(main())


@pytest.mark.parametrize(
    ("written", "cancelled", "events"),
    [
        (MIB, False, ["pause", "resume"]),  # paused before, resumed when we had drained it
        (MIB, True, ["pause", "resume"]),  # paused before, and resumed by the transport itself
        (0, False, []),
        (60 << 10, True, ["pause", "resume"]),  # paused by us only: told, so that both ends match
    ],
)
def test_sendfile_transport_flow_control_reaches_the_protocol_in_pairs(
    file: NeverRead, *, written: int, cancelled: bool, events: list[str]
) -> None:
    """The protocol hears pause and resume alternately, whatever was buffered before."""

    async def main() -> None:
        async with connected("transport", socket.AF_UNIX) as sender:
            while written and sender.transport.get_write_buffer_size() == 0:
                sender.transport.write(bytes(written))
            task = await stalled(sender, file)
            if cancelled:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            received = sender.peer_takes_all()
            if not cancelled:
                await task
            sender.transport.write_eof()
            await received
            assert sender.protocol.events == events

    run(main())


def test_sendfile_transport_of_another_kind_is_refused(file: NeverRead) -> None:
    """Datagrams and pipes cannot carry files; a closing transport takes no more."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        datagram, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        pipe, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, write_end)
        transports: list[Any] = [datagram, pipe]
        for transport in transports:
            with pytest.raises(RuntimeError, match="not supported"):
                await loop.sendfile(transport, file)
            transport.close()
            with pytest.raises(RuntimeError, match="is closing"):
                await loop.sendfile(transport, file)
        await asyncio.sleep(0.01)

    read_fd, write_fd = os.pipe()
    with open(read_fd, "rb"), open(write_fd, "wb") as write_end:
        run(main())


def test_sendfile_tls_is_copied_only_if_allowed(tmp_path: Path) -> None:
    """A TLS transport gets a copy, in order with its writes; without `fallback` RuntimeError."""
    certificate = str(tmp_path / "both.pem")
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
            f"-subj /CN=localhost -keyout {certificate} -out {certificate}c"
        ).split(),
        check=True,
        capture_output=True,
    )
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate + "c", certificate)
    client_context = ssl.create_default_context(cafile=certificate + "c")

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        source = io.BytesIO(CONTENT)
        writer.write(b"head")
        with pytest.raises(RuntimeError, match="fallback is disabled"):
            await loop.sendfile(writer.transport, source, fallback=False)
        assert await loop.sendfile(writer.transport, source) == len(CONTENT)
        writer.write(b"tail")
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context)
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
        )
        assert await reader.read(-1) == b"head" + CONTENT + b"tail"
        writer.close()
        server.close()
        await server.wait_closed()

    run(main())
