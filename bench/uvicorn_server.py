"""`python -m bench.uvicorn_server PORT ROOT [CERT KEY]`: the service as written in an afternoon.

A plain ASGI application under uvicorn, on uvloop and httptools, that reads files the usual way:
numpy searches the mapped time column, open(), seek() and read() bring the records. It shares no
code with zerocopy and keeps none of its promises about files that change. SIGTERM stops it.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import numpy as np
import uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Send = Callable[[dict[str, Any]], Awaitable[None]]

SECONDS_PER_DAY = 86_400
RECORD_SIZE = 4
DTYPES = dict.fromkeys(("time", "side", "nanos", "count", "flags"), "<u4")
READ_BYTES = 1 << 20
"""Bytes of one read and of one message to uvicorn: more would hold a column in memory, less costs
more turns of the loop."""


class App:
    """GET /api/data over the day files of one root."""

    def __init__(self, root: str) -> None:
        self._root = root

    async def __call__(self, scope: dict[str, Any], _receive: object, send: Send) -> None:
        """Answer one request; files are read right here, from the page cache it costs least."""
        if scope["path"] != "/api/data":
            await respond(send, 404, b"no such page")
            return
        try:
            query = {name: values[0] for name, values in parse_qs(scope["query_string"]).items()}
            directory = os.path.join(
                self._root,
                query.get(b"exchange", b"coinbase").decode(),
                query[b"symbol"].decode(),
                query[b"type"].decode(),
            )
            start_s, end_s = int(query[b"start"]), int(query[b"end"])
            columns = query[b"columns"].decode().split(",")
        except (KeyError, ValueError):
            await respond(send, 400, b"symbol, type, start, end and columns are needed")
            return
        days = list(find_days(directory, start_s, end_s))
        records = sum(end - begin for _, begin, end in days)
        fields = [
            {
                "name": column,
                "record_size": RECORD_SIZE,
                "num_records": records,
                "data_length": records * RECORD_SIZE,
                "dtype": DTYPES.get(column, "<f4"),
            }
            for column in columns
        ]
        head = json.dumps({"columns": fields}, separators=(",", ":")).encode() + b"\n"
        length = len(head) + len(columns) * records * RECORD_SIZE
        chunks = (
            chunk
            for column in columns
            for day, begin, end in days
            for chunk in read_records(f"{directory}/{column}.{day}.bin", begin, end)
        )
        await start(send, 200, length)
        if length <= READ_BYTES:
            await send({"type": "http.response.body", "body": head + b"".join(chunks)})
            return
        await send({"type": "http.response.body", "body": head, "more_body": True})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def find_days(directory: str, start_s: int, end_s: int) -> Iterator[tuple[str, int, int]]:
    """Each day on disk in the range, with its first record in it and the one behind its last."""
    for number in range(start_s // SECONDS_PER_DAY, end_s // SECONDS_PER_DAY + 1):
        day = datetime.fromtimestamp(number * SECONDS_PER_DAY, UTC).strftime("%d.%m.%y")
        path = f"{directory}/time.{day}.bin"
        if os.path.exists(path):
            times = np.memmap(path, dtype="<u4", mode="r")
            # Keys of the column's own type: for a Python int numpy would convert the whole column.
            begin = int(times.searchsorted(np.uint32(start_s), "left"))
            end = int(times.searchsorted(np.uint32(end_s), "right"))
            if begin < end:
                yield day, begin, end


def read_records(path: str, begin: int, end: int) -> Iterator[bytes]:
    """The bytes of these records, piece by piece."""
    left = (end - begin) * RECORD_SIZE
    with open(path, "rb") as file:
        file.seek(begin * RECORD_SIZE)
        while left > 0:
            chunk = file.read(min(left, READ_BYTES))
            if not chunk:
                raise EOFError(f"{path} ends early")
            left -= len(chunk)
            yield chunk


async def start(send: Send, status: int, length: int) -> None:
    """Send the head of a response."""
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(length).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def respond(send: Send, status: int, content: bytes) -> None:
    """Send a whole response at once."""
    await start(send, status, len(content))
    await send({"type": "http.response.body", "body": content})


def main() -> None:
    """Serve what the command line says."""
    port, root, *paths = sys.argv[1:]
    cert_path, key_path = paths or (None, None)
    uvicorn.run(
        App(root),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="warning",
        access_log=False,
        ssl_certfile=cert_path,
        ssl_keyfile=key_path,
    )


if __name__ == "__main__":
    main()
