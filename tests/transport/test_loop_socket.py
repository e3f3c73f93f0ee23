"""`loop.sock_sendfile` alone: what it refuses, and sockets that go away meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest

from tests.transport.senders import CONTENT, MIB, NeverRead, connected, run, stalled, watched


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
