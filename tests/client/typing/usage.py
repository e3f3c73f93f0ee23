"""Every public name of the client, used as a user would: to be type-checked, not to be run."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zerocopy.client import (
    AsyncClient,
    AsyncLive,
    BadRequest,
    Catalog,
    ChangedData,
    Client,
    Columns,
    ConnectionFailed,
    Error,
    Frame,
    Interrupted,
    Live,
    MissingPackage,
    NotFound,
    NotInstalled,
    RateLimit,
    Reset,
    Symbols,
    TimeLike,
    Timeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WriteFailed,
)

COLUMNS: Columns = ["time", "price"]
START: TimeLike = date(2025, 1, 31)


def progress(received: int, total: int | None) -> None:
    """Tell how far a transfer has come."""
    print(received, total)  # noqa: T201 - as a user would


def ask() -> None:
    """All of Client."""
    with Client(
        "https://data.example.com", key="k", ca=Path("ca.crt"), exchange="x", timeout=5
    ) as client:
        symbols = assert_type(client.symbols(), Symbols)
        assert_type(symbols["symbols"], list[str])
        assert_type(symbols["exchanges"]["coinbase"][0]["last_update"], int)
        catalog = assert_type(client.catalog("X", exchange="coinbase"), Catalog)
        assert_type(catalog["symbol"], str)
        frame = client.data("X", COLUMNS, type="MD", start=START, end=np.datetime64("2025-02-01"))
        client.data("X", "time", type="MD", start="2025-01-31", end=datetime.now(UTC))
        client.data("X", ("time",), type="MD", start=0, progress=progress, exchange="y")
        look_at(assert_type(frame, Frame))
        bars = client.bars("X", "price", type="MD", interval=timedelta(hours=1), max_points=10)
        client.bars("X", "price:open+close", type="MD", interval="5m")
        client.bars("X", ["price"], type="MD", interval=60, start=None, end=None)
        assert_type(bars.interval_s, int | None)
        path = client.download("X", "time", "x.csv", type="MD", format="csv", progress=False)
        assert_type(path, Path)
        with client.live("X", "time", type="MD", start=0, cursor="20250131.0") as stream:
            assert_type(stream, Live)
            assert_type(stream.cursor, str | None)
            for piece in stream:
                assert_type(piece, Frame)
        stream.close()
    client.close()


def look_at(frame: Frame) -> None:
    """All of Frame."""
    assert_type(frame["price"], NDArray[Any])
    assert_type(frame[10:20], Frame)
    assert_type(frame.time, NDArray[np.datetime64])
    assert_type(frame.skipped, tuple[str, ...])
    assert_type(frame.columns, tuple[str, ...])
    assert_type(frame.cursor, str | None)
    assert_type(len(frame) + frame.nbytes, int)
    assert_type(frame.to_polars(datetimes=True), pl.DataFrame)
    frame.to_pandas().describe()
    frame.to_arrow(datetimes=True).num_rows  # noqa: B018 - untyped
    for name, values in frame.items():
        assert_type(name, str)
        assert_type(values, NDArray[Any])


async def ask_async() -> None:
    """All of AsyncClient."""
    async with AsyncClient("http://127.0.0.1:8080") as client:
        assert_type(await client.symbols("coinbase"), Symbols)
        assert_type(await client.catalog("X"), Catalog)
        assert_type(await client.data("X", "time", type="MD"), Frame)
        assert_type(await client.bars("X", "price", type="MD"), Frame)
        assert_type(await client.download("X", "time", Path("x.bin"), type="MD"), Path)
        async with client.live("X", "time", type="MD") as stream:
            assert_type(stream, AsyncLive)
            async for frame in stream:
                assert_type(frame, Frame)
        await stream.close()
    await client.close()


def explain(error: Error) -> str:
    """All of the errors."""
    match error:
        case TooManyRequests():
            assert_type(error.rate_limit, RateLimit | None)
            assert_type(error.retry_after_s, float | None)
        case Unavailable():
            assert_type(error.retry_after_s, float | None)
        case Reset():
            assert_type(error.cursor, str)
            assert_type(error.reason, str)
        case Timeout() | Interrupted() | ConnectionFailed():
            raise ConnectionError from error
        case BadRequest() | NotFound() | Unauthorized() | NotInstalled():
            assert_type(error.status, int | None)
        case MissingPackage() | WriteFailed() | ChangedData() | UnexpectedAnswer():
            pass
        case _:
            pass
    return assert_type(error.detail, str)
