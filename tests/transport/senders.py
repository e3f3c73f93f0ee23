"""Two kinds of output for a transfer, a plain socket and a transport, behind one set of methods."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import struct
from typing import IO, TYPE_CHECKING, Any, TypeVar

from zerocopy.transport.loop import Loop, new_event_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

MIB = 1 << 20
CONTENT = os.urandom(3 * MIB + 17)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close() sends RST

T = TypeVar("T")


class NeverRead(io.FileIO):
    """A file whose bytes Python may not touch."""

    def _refuse(self, *_arguments: object) -> Any:
        raise AssertionError("the file was copied through memory")

    read = readinto = readall = readline = _refuse


class _Recorder(asyncio.Protocol):
    """Writes down what the transport tells it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = bytearray()
        self.lost = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, _exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set()


class Sender:
    """One connection with small buffers: our end on the loop, the peer a blocking socket."""

    def __init__(self, loop: Loop, sock: socket.socket, peer: socket.socket) -> None:
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.protocol = _Recorder()
        self.transport: Any = None

    async def send(
        self, file: IO[bytes], offset: int = 0, count: int | None = None, *, fallback: bool = False
    ) -> int:
        """Send over whichever of the two this connection has."""
        if self.transport is None:
            return await self.loop.sock_sendfile(self.sock, file, offset, count, fallback=fallback)
        return await self.loop.sendfile(self.transport, file, offset, count, fallback=fallback)

    async def read(self, nbytes: int) -> bytes:
        """Read exactly `nbytes` at the peer, in a thread."""

        def receive() -> bytes:
            received = bytearray()
            while len(received) < nbytes and (
                data := self.peer.recv(min(MIB, nbytes - len(received)))
            ):
                received += data
            return bytes(received)

        return await asyncio.to_thread(receive)

    def peer_takes_all(self) -> asyncio.Future[bytes]:
        """Let the peer read up to the end of the connection."""
        return asyncio.ensure_future(self.read(1 << 40))

    def end(self) -> None:
        """Close our end."""
        if self.transport is None:
            self.sock.close()
        else:
            self.transport.close()


@contextlib.asynccontextmanager
async def connected(kind: str, family: int = socket.AF_INET) -> AsyncIterator[Sender]:
    """Connect a Sender of `kind` "socket" or "transport"."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    if family == socket.AF_UNIX:
        sock, peer = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
            sock = socket.create_connection(listener.getsockname())
            peer, _ = listener.accept()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
    sock.setblocking(False)
    peer.settimeout(10)
    sender = Sender(loop, sock, peer)
    if kind == "transport":
        sender.transport, _ = (
            await loop.create_connection(lambda: sender.protocol, sock=sock)
            if (family == socket.AF_INET)
            else await loop.create_unix_connection(lambda: sender.protocol, sock=sock)
        )
    try:
        yield sender
    finally:
        if sender.transport is not None:
            sender.transport.abort()
            await sender.protocol.lost.wait()
        sock.close()
        peer.close()
        await asyncio.sleep(0)


def watched(sender: Sender) -> tuple[int, int]:
    """Count the epolls of this process, and the entries of our plain socket in any of them.

    See proc_pid_fdinfo(5). What the loop has of a transport's descriptor is libuv's own affair.
    """
    targets: list[list[str]] = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{fd}") as info:
            lines = [line.split() for line in info]
        if os.path.exists(f"/proc/self/fd/{fd}") and "eventpoll" in os.readlink(
            f"/proc/self/fd/{fd}"
        ):
            targets.append([line[1] for line in lines if line[0] == "tfd:"])
    number = str(sender.fd) if sender.transport is None else ""
    return len(targets), sum(target.count(number) for target in targets)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run on a loop of ours."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)


async def stalled(sender: Sender, file: IO[bytes]) -> asyncio.Task[int]:
    """Start a transfer to a peer that does not read, and wait until it waits."""
    task = asyncio.ensure_future(sender.send(file))
    await asyncio.sleep(0.05)
    assert not task.done()
    return task
