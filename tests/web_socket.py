"""The asyncio client of `websockets` for tests that block.

Its blocking client reads and writes one `SSLSocket` from two threads, which OpenSSL does not allow:
in one of ten runs of the suite a handshake over TLS never ended.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from websockets.typing import Data


class WebSocketClient:
    """A connection, past its handshake; nothing is read between two calls."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._connection = self._loop.run_until_complete(self._connect(url, options))
        except BaseException:
            self._loop.close()
            raise

    @staticmethod
    async def _connect(url: str, options: dict[str, Any]) -> Any:
        return await connect(url, proxy=None, **options)

    def recv(self, timeout_s: float) -> Data:
        """The next message; TimeoutError if none comes in time."""
        found: Data = self._loop.run_until_complete(
            asyncio.wait_for(self._connection.recv(), timeout_s)
        )
        return found

    def close(self) -> None:
        """Say goodbye, whoever has closed it."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()
