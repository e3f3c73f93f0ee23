"""The asynchronous client: the same engine, in threads of its own.

A read from a socket into numpy's memory costs the least in a thread that waits for it, and gives up
the interpreter's lock while it does. So requests run in threads, and the event loop stays free;
live streams are tasks of the event loop.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakSet

from zerocopy.client import requests
from zerocopy.client.download import download
from zerocopy.client.fetch import Fetcher
from zerocopy.client.live import AsyncLive
from zerocopy.client.options import read_options
from zerocopy.client.progress import showing
from zerocopy.client.stop import Stop

if TYPE_CHECKING:
    import os
    from datetime import timedelta
    from pathlib import Path

    from zerocopy.client.frame import Frame
    from zerocopy.client.progress import Shown
    from zerocopy.client.requests import Call, Catalog, Columns, Symbols
    from zerocopy.client.times import TimeLike

THREADS_MAX = 16
"""Requests at a time; more wait."""

STOP_S = 1.0
"""What a cancelled request is waited for: longer only where it looks a name up or connects."""

Result = TypeVar("Result")


class AsyncClient:
    """`Client` for asyncio: the same names, arguments, results and errors.

    A request that is cancelled closes its connection at once. At most 16 requests run at a time,
    more wait.

    Example:
        async with AsyncClient("http://127.0.0.1:8080") as client:
            btc, eth = await asyncio.gather(
                client.data("BTC-USD", "time,price", type="MD"),
                client.data("ETH-USD", "time,price", type="MD"),
            )
            async for frame in client.live("BTC-USD", "time,price", type="MD"):
                print(frame["price"][-1])
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        exchange: str = "coinbase",
        timeout: float = 30,
    ) -> None:
        self._options = read_options(url, key, ca, timeout)
        self._exchange = exchange
        self._fetcher = Fetcher(self._options)
        self._streams: WeakSet[AsyncLive] = WeakSet()
        self._threads = ThreadPoolExecutor(THREADS_MAX, "zerocopy-client")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the live streams, wait for requests under way, close the kept connections."""
        for stream in list(self._streams):
            await stream.close()
        await asyncio.to_thread(self._threads.shutdown)
        self._fetcher.close()

    async def symbols(self, exchange: str | None = None) -> Symbols:
        """See `Client.symbols`."""
        return await self._run(requests.symbols_call(exchange))

    async def catalog(self, symbol: str, *, exchange: str | None = None) -> Catalog:
        """See `Client.catalog`."""
        return await self._run(requests.catalog_call(exchange or self._exchange, symbol))

    async def data(
        self,
        symbol: str,
        columns: Columns,
        *,
        type: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        exchange: str | None = None,
        progress: Shown = None,
    ) -> Frame:
        """See `Client.data`; a function given as `progress` is called in a thread."""
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        with showing(progress, symbol) as shown:
            return await self._run(requests.data_call(of, start, end, shown))

    async def bars(
        self,
        symbol: str,
        columns: Columns,
        *,
        type: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        interval: int | str | timedelta | None = None,
        max_points: int = 2000,
        exchange: str | None = None,
    ) -> Frame:
        """See `Client.bars`."""
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        return await self._run(requests.bars_call(of, start, end, interval, max_points))

    def live(
        self,
        symbol: str,
        columns: Columns,
        *,
        type: str,
        start: TimeLike | None = None,
        cursor: str | None = None,
        exchange: str | None = None,
    ) -> AsyncLive:
        """See `Client.live`: for `async for`. It connects at the first frame or `async with`."""
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        stream = AsyncLive(self._options, requests.live_target(of, start), cursor)
        self._streams.add(stream)
        return stream

    async def download(
        self,
        symbol: str,
        columns: Columns,
        path: str | os.PathLike[str],
        *,
        type: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        exchange: str | None = None,
        format: str | None = None,
        progress: Shown = None,
    ) -> Path:
        """See `Client.download`."""
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        with showing(progress, symbol) as shown:
            return await self._run(download(of, path, start, end, format, shown))

    def __repr__(self) -> str:
        return f"AsyncClient({self._options.origin + self._options.prefix!r})"

    async def _run(self, call: Call[Result]) -> Result:
        stop = Stop()
        submitted = self._threads.submit(self._fetcher.run, call, stop)
        job = asyncio.wrap_future(submitted)
        job.add_done_callback(_retrieve)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            stop.set()
            if not submitted.cancel():  # it runs
                # What the thread holds, such as a file, is free when the cancellation returns.
                await asyncio.wait({job}, timeout=STOP_S)
                job.cancel()
            raise


def _retrieve(job: asyncio.Future[Any]) -> None:
    """Take the error of a cancelled request, which nobody awaits any more."""
    if not job.cancelled():
        job.exception()
