"""`loop.sock_sendfile` and `loop.sendfile`: what CPython's own cases do not ask.

Fairness, idle waiting, release on every way out, and the differences from asyncio on purpose. Most
cases run twice, over a plain socket and over a transport, through the fixture `send`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import itertools
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING, Any, TypeVar

import pytest

from zerocopy.transport import loop as loop_module
from zerocopy.transport.loop import Loop, new_event_loop
from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from pathlib import Path

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


@pytest.fixture
def file(tmp_path: Path) -> Iterator[NeverRead]:
    """Yield a file with CONTENT."""
    (tmp_path / "content").write_bytes(CONTENT)
    with NeverRead(tmp_path / "content") as opened:
        yield opened


@pytest.fixture(params=["socket", "transport"])
def kind(request: pytest.FixtureRequest) -> str:
    """Name each kind of output in turn."""
    return str(request.param)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, None), (1000, None), (1000, 2 * MIB), (MIB, 1 << 40), (len(CONTENT) - 1, 1)],
    ids=["all", "offset", "count", "count beyond the end", "last byte"],
)
def test_sendfile_sends_the_range_and_moves_the_position(
    file: NeverRead, kind: str, family: int, offset: int, count: int | None
) -> None:
    """Bytes, result and position are asyncio's, over many turns, without one copy in Python."""

    async def main() -> None:
        async with connected(kind, family) as sender:
            expected = CONTENT[offset : None if count is None else offset + count]
            received = sender.peer_takes_all()
            before = watched(sender)
            assert await sender.send(file, offset, count) == len(expected)
            assert watched(sender) == before
            assert file.tell() == offset + len(expected)
            sender.end()
            assert await received == expected

    run(main())


@pytest.mark.parametrize("offset", [len(CONTENT), 1 << 40])
def test_sendfile_nothing_to_send_leaves_the_position(
    file: NeverRead, kind: str, offset: int
) -> None:
    """An offset at or behind the end sends nothing, and then the position is not touched."""

    async def main() -> None:
        async with connected(kind) as sender:
            assert await sender.send(file, offset) == 0
            assert file.tell() == 0

    run(main())


def test_sendfile_is_served_one_turn_an_iteration(
    file: NeverRead, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No turn exceeds turn_bytes_max, and the loop goes around between two of them."""
    events: list[int] = []

    def turn(*arguments: int) -> tuple[int, Outcome]:
        result = send_range(*arguments)
        events.append(result[0])
        return result

    def tick() -> None:
        events.append(-1)
        asyncio.get_running_loop().call_soon(tick)

    async def main() -> None:
        async with connected(kind) as sender:
            sender.loop.turn_bytes_max = 4096
            received = sender.peer_takes_all()
            sender.loop.call_soon(tick)
            assert await sender.send(file, 0, MIB) == MIB
            sender.end()
            assert await received == CONTENT[:MIB]

    monkeypatch.setattr(loop_module, "send_range", turn)
    run(main())
    assert max(events) == 4096
    turns = [index for index, event in enumerate(events) if event >= 0]
    assert len(turns) >= MIB // 4096
    assert all(second - first > 1 for first, second in itertools.pairwise(turns))


def test_sendfile_others_are_served_meanwhile(kind: str, tmp_path: Path) -> None:
    """An echo beside a large and a stalled transfer is answered many times before they end."""
    size = 64 * MIB
    with open(tmp_path / "large", "wb") as large:
        large.truncate(size)

    async def main(large: NeverRead) -> int:
        async with connected(kind) as sender, connected(kind) as other, connected("socket") as echo:
            waiting = await stalled(other, large)
            received = sender.peer_takes_all()
            transfer = asyncio.ensure_future(sender.send(large))
            echoes = 0
            while not transfer.done():
                echo.peer.send(b"?")
                assert await asyncio.wait_for(sender.loop.sock_recv(echo.sock, 1), 5) == b"?"
                echoes += 1
            assert transfer.result() == size
            waiting.cancel()
            sender.end()
            assert len(await received) == size
            return echoes

    with NeverRead(tmp_path / "large") as opened:
        assert run(main(opened)) > 50


def test_sendfile_stalled_peer_costs_no_processor_time(file: NeverRead, kind: str) -> None:
    """While the peer does not read, the loop sleeps: field-notes row 3."""

    async def main() -> None:
        async with connected(kind) as sender:
            task = await stalled(sender, file)
            before = time.process_time()
            await asyncio.sleep(0.5)
            assert time.process_time() - before < 0.05
            received = sender.peer_takes_all()
            assert await task == len(CONTENT)
            sender.end()
            assert await received == CONTENT

    run(main())


def test_sendfile_cancelled_releases_and_moves_the_position(file: NeverRead, kind: str) -> None:
    """A cancelled transfer leaves nothing watched; the position tells what went out."""

    async def main() -> None:
        async with connected(kind) as sender:
            before = watched(sender)
            task = await stalled(sender, file)
            assert watched(sender) != before
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert watched(sender) == before
            sent = file.tell()
            assert 0 < sent < len(CONTENT)
            received = sender.peer_takes_all()
            sender.end()  # and the connection still works: what was sent arrives, then the end
            assert await received == CONTENT[:sent]

    run(main())


def test_sendfile_peer_reset_raises_and_releases(file: NeverRead, kind: str) -> None:
    """A peer that goes away while the transfer waits ends it with ConnectionError."""

    async def main() -> None:
        async with connected(kind) as sender:
            before = watched(sender)
            if sender.transport is not None:
                sender.transport.pause_reading()  # so that only the transfer can notice
            task = await stalled(sender, file)
            sender.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sender.peer.close()
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(task, 5)
            assert 0 < file.tell() < len(CONTENT)
            if sender.transport is None:
                assert watched(sender) == before
            else:
                assert sender.transport.is_closing()
                await sender.protocol.lost.wait()
                assert sender.protocol.events == ["lost"]

    run(main())


def test_sendfile_peer_gone_before_the_first_byte_is_no_lack_of_sendfile(
    file: NeverRead,
) -> None:
    """Unlike in asyncio, EPIPE on the first call is raised as it is, not as "not available"."""

    async def main() -> None:
        async with connected("socket", socket.AF_UNIX) as sender:
            sender.peer.close()
            with pytest.raises(BrokenPipeError):
                await sender.send(file)
            assert file.tell() == 0

    run(main())


def test_sendfile_file_closed_meanwhile_raises(file: NeverRead, kind: str) -> None:
    """A closed file ends the transfer; the next file under its number is never sent."""

    async def main(impostor: IO[bytes]) -> None:
        async with connected(kind) as sender:
            task = await stalled(sender, file)
            number = file.fileno()
            file.close()
            os.dup2(impostor.fileno(), number)
            received = sender.peer_takes_all()
            with pytest.raises(ValueError, match="closed file"):
                await task
            assert os.lseek(number, 0, os.SEEK_CUR) == 0
            os.close(number)
            sender.end()
            assert CONTENT.startswith(await received)

    with open(__file__, "rb") as impostor:
        run(main(impostor))


def test_sendfile_one_descriptor_serves_many(file: NeverRead, kind: str) -> None:
    """Transfers of one file object at the same time do not disturb each other."""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            senders = [await stack.enter_async_context(connected(kind)) for _ in range(4)]
            received = [sender.peer_takes_all() for sender in senders]
            offsets = [index * 1000 for index in range(4)]
            await asyncio.gather(*(s.send(file, o) for s, o in zip(senders, offsets, strict=True)))
            for sender in senders:
                sender.end()
            assert await asyncio.gather(*received) == [CONTENT[offset:] for offset in offsets]

    run(main())


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (0, (errno.EINVAL, asyncio.SendfileNotAvailableError)),
        (0, (errno.ENOSYS, asyncio.SendfileNotAvailableError)),
        (500, (errno.EINVAL, OSError)),
        (0, (errno.EIO, OSError)),
        (500, (errno.EIO, OSError)),
        (500, (errno.ENOTCONN, ConnectionError)),
        (500, (errno.ECONNRESET, ConnectionResetError)),
    ],
)
def test_sendfile_errors(
    file: NeverRead,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    sent: int,
    failure: tuple[int, type[Exception]],
) -> None:
    """Only "cannot be sent at all" is "not available"; the position counts the failed turn."""
    number, expected = failure
    answers = iter([sent] if sent else [])

    def sendfile(*_arguments: int) -> int:
        for answer in answers:
            return answer
        raise OSError(number, "injected")

    async def main() -> None:
        async with connected(kind) as sender:
            before = watched(sender)
            monkeypatch.setattr(os, "sendfile", sendfile)
            with pytest.raises(expected) as caught:
                await sender.send(file, 100)
            assert isinstance(caught.value, asyncio.SendfileNotAvailableError) == (
                expected is asyncio.SendfileNotAvailableError
            )
            assert file.tell() == (100 + sent if sent else 0)
            assert watched(sender) == before

    run(main())


@pytest.mark.parametrize("make", ["pipe", "memory"])
def test_sendfile_what_is_no_regular_file_is_copied_only_if_allowed(kind: str, make: str) -> None:
    """A pipe or a BytesIO: SendfileNotAvailableError, or with `fallback` a copy of all of it."""

    def write(fd: int) -> None:
        with open(fd, "wb") as write_end:
            write_end.write(CONTENT)

    async def main(source: IO[bytes]) -> None:
        async with connected(kind) as sender:
            with pytest.raises(asyncio.SendfileNotAvailableError, match="not a regular file"):
                await sender.send(source)
            received = sender.peer_takes_all()
            assert await sender.send(source, fallback=True) == len(CONTENT)
            sender.end()
            assert await received == CONTENT

    if make == "memory":
        run(main(io.BytesIO(CONTENT)))
        return
    read_fd, write_fd = os.pipe()
    writer = threading.Thread(target=write, args=(write_fd,))
    writer.start()
    with open(read_fd, "rb") as source:
        run(main(source))
    writer.join()


def test_sendfile_fallback_honours_offset_and_count(kind: str) -> None:
    """The copy is the same range, and moves the position the same way."""

    async def main() -> None:
        async with connected(kind) as sender:
            received = sender.peer_takes_all()
            source = io.BytesIO(CONTENT)
            assert await sender.send(source, 100, MIB, fallback=True) == MIB
            assert source.tell() == 100 + MIB
            sender.end()
            assert await received == CONTENT[100 : 100 + MIB]

    run(main())


@pytest.mark.parametrize(
    "arguments",
    [
        {"offset": -1},
        {"offset": 1.5},
        {"offset": "1"},
        {"count": 0},
        {"count": -1},
        {"count": 1.5},
        {"file": "text"},
        {"sock": "datagram"},
        {"sock": "ssl"},
        {"sock": "blocking"},
        {"offset": -1, "count": 0, "file": "text"},
    ],
    ids=str,
)
def test_sock_sendfile_refuses_what_asyncio_refuses(
    file: NeverRead, arguments: dict[str, Any]
) -> None:
    """Wrong arguments raise asyncio's type and message, asked of the interpreter itself."""

    async def main() -> Exception:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        with contextlib.ExitStack() as stack:
            kind = arguments.get("sock")
            datagram = socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
            sock = stack.enter_context(socket.socket(socket.AF_INET, datagram))
            sock.setblocking(kind == "blocking")
            if kind == "ssl":
                context = ssl.create_default_context()
                sock = context.wrap_socket(sock, server_hostname="localhost")
                stack.enter_context(sock)
            chosen = {key: value for key, value in arguments.items() if key != "sock"}
            if "file" in arguments:
                chosen["file"] = text
            with pytest.raises((ValueError, TypeError)) as caught:
                await loop.sock_sendfile(sock, **{"file": file, **chosen})
            return caught.value

    with open(__file__) as text:
        ours = run(main())
        with asyncio.Runner() as runner:
            theirs = runner.run(main())
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))


def test_sock_sendfile_refuses_the_socket_of_a_transport(file: NeverRead) -> None:
    """The descriptor of a transport is refused before a byte is sent, not at the first wait."""

    async def main() -> None:
        async with connected("transport") as sender:
            with pytest.raises(RuntimeError, match="used by transport"):
                await sender.loop.sock_sendfile(sender.sock, file)
            assert file.tell() == 0

    run(main())


def test_sock_sendfile_socket_closed_meanwhile_is_closed_afterwards(file: NeverRead) -> None:
    """close() waits for the transfer, as for sock_sendall: the number cannot be reused under it."""

    async def main() -> None:
        async with connected("socket") as sender:
            task = await stalled(sender, file)
            sender.sock.close()
            received = sender.peer_takes_all()
            assert await task == len(CONTENT)
            assert sender.sock.fileno() == -1
            assert await received == CONTENT

    run(main())


def test_sock_sendfile_socket_detached_meanwhile_raises(file: NeverRead) -> None:
    """A detached socket ends the transfer, and nothing stays watched."""

    async def main() -> None:
        async with connected("socket") as sender:
            before = watched(sender)
            task = await stalled(sender, file)
            with socket.socket(fileno=sender.sock.detach()):
                await asyncio.to_thread(sender.peer.recv, MIB)
                with pytest.raises(OSError, match="Bad file descriptor"):
                    await task
                assert watched(sender) == before

    run(main())


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


def test_sendfile_keeps_no_descriptor(file: NeverRead, kind: str) -> None:
    """Fifty cancelled and fifty finished transfers end with the descriptors they began with."""

    async def main() -> None:
        async with connected(kind) as sender:
            descriptors = os.listdir("/proc/self/fd")
            for _ in range(50):
                task = asyncio.ensure_future(sender.send(file))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert os.listdir("/proc/self/fd") == descriptors
            received = sender.peer_takes_all()
            descriptors = os.listdir("/proc/self/fd")  # the executor's thread has none of its own
            for _ in range(50):
                assert await sender.send(file, 0, 100_000) == 100_000
            assert os.listdir("/proc/self/fd") == descriptors
            sender.end()
            await received

    run(main())


def test_new_event_loop_returns_our_loop() -> None:
    """The factory fits asyncio.Runner, and the loop it makes sends 1 MiB a turn."""
    with contextlib.closing(new_event_loop()) as loop:
        assert isinstance(loop, Loop)
        assert loop.turn_bytes_max == MIB
