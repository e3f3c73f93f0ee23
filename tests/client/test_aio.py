"""The asynchronous client: the same answers, and a cancellation that frees everything at once."""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.client.liar import Liar, Say, columns_body, cut, upgrade
from tests.client.ticker import Ticker
from zerocopy.client import AsyncClient, Client, NotFound, Reset, Timeout, aio

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.liar import Head
    from zerocopy.client import Frame

METHODS = ("symbols", "catalog", "data", "bars", "live", "download")


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_take_the_same_arguments(name: str) -> None:
    """With the same names, kinds and defaults."""
    one, other = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
    assert one.parameters == other.parameters


def test_answers_equal_those_of_the_client_that_waits(
    client: Client, url: str, ca: str, tmp_path: Path
) -> None:
    """Many at a time."""

    async def ask() -> None:
        async with AsyncClient(url, ca=ca) as other:
            frames = await asyncio.gather(
                *(other.data("X", "time,price", type="MD", end=end) for end in (None, 0, None))
            )
            assert [len(frame) for frame in frames] == [len(wanted), 0, len(wanted)]
            assert frames[2]["price"].tobytes() == wanted["price"].tobytes()
            bars = await other.bars("X", "price", type="MD", interval="1d")
            assert repr(bars) == repr(client.bars("X", "price", type="MD", interval="1d"))
            assert await other.symbols() == client.symbols()
            assert await other.catalog("X") == client.catalog("X")
            path = await other.download("X", "time,price", tmp_path / "x.bin", type="MD")
            assert path.stat().st_size > wanted.nbytes
            with pytest.raises(NotFound):
                await other.catalog("NOPE")

    wanted = client.data("X", "time,price", type="MD")
    asyncio.run(ask())


def test_a_cancelled_request_closes_its_connection_at_once(tmp_path: Path) -> None:
    """Amid the head, amid the body, amid a download, which can be resumed at once."""

    async def cancel(liar: Liar, ask: Any, *, heads: int) -> None:
        task = asyncio.create_task(ask)
        await asyncio.to_thread(liar.wait_for, heads)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def run() -> None:
        for say in (Say(b"", "hold"), Say(cut(1_000), "hold")):
            with Liar(say) as liar:
                async with AsyncClient(liar.url) as client:
                    await cancel(liar, client.data("X", "time,price", type="MD"), heads=1)
                    path = tmp_path / "x.bin"
                    for heads in (2, 3):
                        download = client.download("X", "time,price", path, type="MD")
                        await cancel(liar, download, heads=heads)
                    await asyncio.to_thread(liar.wait_until_ended, 3)

    asyncio.run(asyncio.wait_for(run(), 20))
    gc.collect()  # a task's error that nobody took would be told now


def test_a_request_that_waits_for_its_turn_is_cancelled_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixteen run at a time; the next one is never sent, and nothing of it is waited for."""
    monkeypatch.setattr(aio, "STOP_S", 3600)

    async def run() -> None:
        with Liar(Say(b"", "hold")) as liar:
            async with AsyncClient(liar.url) as client:
                tasks = [asyncio.create_task(client.symbols()) for _ in range(17)]
                await asyncio.to_thread(liar.wait_for, 16)
                tasks[16].cancel()
                await asyncio.wait(tasks[16:])
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(result) for result in results} == {asyncio.CancelledError}
                assert len(liar.heads) == 16

    asyncio.run(asyncio.wait_for(run(), 20))


@pytest.mark.usefixtures("pauses")
def test_errors_are_the_same() -> None:
    """With the sentence of the client that waits."""

    async def run() -> None:
        with Liar(Say(b"", "hold")) as liar:
            async with AsyncClient(liar.url, timeout=0.05) as client:
                with pytest.raises(Timeout, match=r"0\.05 s"):
                    await client.symbols()

    asyncio.run(run())


async def _taken(stream: Any, count: int) -> list[float]:
    prices: list[float] = []
    async for frame in stream:
        prices += frame["price"].tolist()
        if len(prices) >= count:
            break
    return prices


def test_a_stream_that_is_closed_while_it_connects_ends_at_once() -> None:
    """Its connection too."""

    async def run() -> None:
        with Liar(Say(b"", "hold")) as liar:
            client = AsyncClient(liar.url, timeout=3600)
            streams = [client.live("X", "time", type="MD") for _ in range(2)]
            iterating = asyncio.ensure_future(anext(streams[0]))
            entering = asyncio.ensure_future(streams[1].__aenter__())
            await asyncio.to_thread(liar.wait_for, 2)
            await client.close()
            with pytest.raises(StopAsyncIteration):
                await iterating
            await entering
            await asyncio.to_thread(liar.wait_until_ended, 2)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_task_that_is_cancelled_while_its_stream_is_closed_is_cancelled() -> None:
    """`close` takes nobody's cancellation."""

    async def run() -> None:
        with Liar(Say(b"", "hold")) as liar:
            stream = AsyncClient(liar.url, timeout=3600).live("X", "time", type="MD")
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.to_thread(liar.wait_for, 1)
            await stream.close()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_stream_that_nobody_holds_ends_its_connection() -> None:
    """Who breaks out of a loop need not close it."""

    def one(head: Head) -> Say:
        columns = {"time": np.zeros(1, "<u4")}
        return Say(upgrade(head, columns_body(columns, cursor="20250131.1")), "hold")

    async def run() -> None:
        with Liar(one) as liar:
            async for frame in AsyncClient(liar.url, timeout=3600).live("X", "time", type="MD"):
                assert len(frame) == 1
                break
            gc.collect()
            await asyncio.to_thread(liar.wait_until_ended, 1)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_streams_are_the_same(url: str, ca: str, root: Path) -> None:
    """Order, cursor, reset and end."""
    ticker = Ticker(root, f"ASYNC{url.partition(':')[0]}")

    async def run() -> None:
        async with AsyncClient(url, ca=ca) as client:
            async with client.live(ticker.symbol, "price", type="MD") as stream:
                assert stream.cursor == f"{ticker.day:%Y%m%d}.0"
                ticker.append(5)
                assert await _taken(stream, 5) == [0, 1, 2, 3, 4]
                ticker.replace(2)
                with pytest.raises(Reset):
                    await _taken(stream, 1)
                assert await _taken(stream, 2) == [0, 1]
                waiting: asyncio.Task[Frame] = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)
                await stream.close()
                with pytest.raises(StopAsyncIteration):
                    await waiting
            with pytest.raises(NotFound):
                await anext(client.live("NOPE", "price", type="MD"))
            stale = client.live(ticker.symbol, "price", type="MD", cursor=f"{ticker.day:%Y%m%d}.99")
            async with stale:
                with pytest.raises(Reset):
                    await anext(stale)
                assert await _taken(stale, 2) == [0, 1]

    asyncio.run(asyncio.wait_for(run(), 30))


def test_a_stream_that_is_cancelled_can_go_on(url: str, ca: str, root: Path) -> None:
    """A timeout around a frame loses no record."""
    ticker = Ticker(root, f"CANCEL{url.partition(':')[0]}")

    async def run() -> None:
        async with (
            AsyncClient(url, ca=ca) as client,
            client.live(ticker.symbol, "price", type="MD") as stream,
        ):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.01)
            ticker.append(3)
            assert await _taken(stream, 3) == [0, 1, 2]

    asyncio.run(asyncio.wait_for(run(), 30))
