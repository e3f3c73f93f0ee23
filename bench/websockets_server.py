"""`python -m bench.websockets_server PORT PATH`: what is published, to all who listen.

Lines that come over the Unix socket PATH are broadcast by the package `websockets`.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(port: int, path: str) -> None:
    """Serve for ever."""
    listeners: set[ServerConnection] = set()

    async def listen(connection: ServerConnection) -> None:
        listeners.add(connection)
        try:
            await connection.wait_closed()
        finally:
            listeners.discard(connection)

    async def publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            broadcast(listeners, line)
        writer.close()

    async with (
        await asyncio.start_unix_server(publish, path),
        serve(
            listen, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4_096
        ) as server,
    ):
        await server.wait_closed()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
