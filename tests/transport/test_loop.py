"""`loop.sock_sendfile` and `loop.sendfile`: what CPython's own cases do not ask.

Fairness, idle waiting, release on every way out, and the differences from asyncio on purpose. Each
case runs twice, over a plain socket and over a transport, through the fixture `kind`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import itertools
import os
import socket
import threading
import time
from typing import IO, TYPE_CHECKING

import pytest

from tests.descriptors import held
from zerocopy.transport import loop as loop_module
from zerocopy.transport.loop import Loop, new_event_loop
from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    from pathlib import Path

from tests.transport.senders import CONTENT, MIB, RESET, NeverRead, connected, run, stalled, watched


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
    scheduler = [index for index, event in enumerate(events) if event >= 0]
    assert len(scheduler) >= MIB // 4096
    assert all(second - first > 1 for first, second in itertools.pairwise(scheduler))


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
            before = time.thread_time()
            await asyncio.sleep(0.5)
            assert time.thread_time() - before < 0.05
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
            with pytest.raises(asyncio.SendfileNotAvailableError, match=reason):
                await sender.send(source)
            received = sender.peer_takes_all()
            assert await sender.send(source, fallback=True) == len(CONTENT)
            sender.end()
            assert await received == CONTENT

    reason = "not a regular file" if make == "memory" else "os.sendfile call failed"
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


def test_sendfile_keeps_no_descriptor(file: NeverRead, kind: str) -> None:
    """Fifty cancelled and fifty finished transfers end with the descriptors they began with."""

    async def main() -> None:
        async with connected(kind) as sender:
            descriptors = held()
            for _ in range(50):
                task = asyncio.ensure_future(sender.send(file))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert held() - descriptors == set()
            received = sender.peer_takes_all()
            descriptors = held()  # the executor's thread has none of its own
            for _ in range(50):
                assert await sender.send(file, 0, 100_000) == 100_000
            assert held() - descriptors == set()
            sender.end()
            await received

    run(main())


def test_new_event_loop_returns_our_loop() -> None:
    """The factory fits asyncio.Runner, and the loop it makes sends 1 MiB a turn."""
    with contextlib.closing(new_event_loop()) as loop:
        assert isinstance(loop, Loop)
        assert loop.turn_bytes_max == MIB
