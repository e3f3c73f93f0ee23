"""The Python client of zerocopy: frames of numpy columns, from any server of this project.

    from zerocopy.client import Client

    with Client("http://127.0.0.1:8080") as client:
        frame = client.data("BTC-USD", "time,price", type="MD", start="2025-01-01")
        print(frame, frame.to_polars())

It imports nothing of the server, and of other packages only numpy; polars, pandas, pyarrow, rich
and websockets are imported when they are used.

| module | owns |
|---|---|
| `client`, `aio` | `Client`, `AsyncClient`: arguments, documentation |
| `requests`, `times`, `options`, `keys` | what is asked for, of whom, by whom |
| `fetch`, `pool`, `stop` | one GET until it is there; connections; the end from another thread |
| `sinks`, `layout`, `download` | where bytes go |
| `frame`, `tables`, `progress` | what users see |
| `follow`, `live` | live streams |
| `errors` | the tree of errors |
"""

from __future__ import annotations

from zerocopy.client.aio import AsyncClient
from zerocopy.client.client import Client
from zerocopy.client.errors import (
    BadRequest,
    ChangedData,
    ConnectionFailed,
    Error,
    Interrupted,
    MissingPackage,
    NotFound,
    NotInstalled,
    RateLimit,
    Reset,
    Timeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
    WriteFailed,
)
from zerocopy.client.frame import Frame
from zerocopy.client.live import AsyncLive, Live
from zerocopy.client.requests import Catalog, Columns, Symbols
from zerocopy.client.times import TimeLike

__all__ = [
    "AsyncClient",
    "AsyncLive",
    "BadRequest",
    "Catalog",
    "ChangedData",
    "Client",
    "Columns",
    "ConnectionFailed",
    "Error",
    "Frame",
    "Interrupted",
    "Live",
    "MissingPackage",
    "NotFound",
    "NotInstalled",
    "RateLimit",
    "Reset",
    "Symbols",
    "TimeLike",
    "Timeout",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "WriteFailed",
]
