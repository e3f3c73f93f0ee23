"""Nodes over a store that has closed days, what they are asked, and what is right."""

from __future__ import annotations

import http.client
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.certificate import client_context
from tests.naive import naive_answer
from tests.server import Answer, ForkedServer, RunningServer
from tests.standin import BUCKET, Standin, environ_of, standin
from tests.storage.trees import DAY, DAY_S, DAY_START_S, SERIES, marks, put, u32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DAYS = 12
RECORDS = 8_640
"""Of a day, one each ten seconds: 34,560 bytes a column, so that a day is no small answer."""

CLOSED_S = 1_700_000_000

PATIENCE_S = 40.0
"""A store that is back is asked again after 7.5 s at most; a busy machine takes its time."""

TWO_WORKERS = {
    "ZEROCOPY_SERVER_WORKERS": "2",
    "ZEROCOPY_S3_LIST_S": "1",
    "ZEROCOPY_TLS_PORT": "0",
}


def fill(root: Path) -> None:
    """Days of `time` and `price`, on disk."""
    for number in range(DAYS):
        first_s = DAY_START_S + number * DAY_S
        times = u32(*range(first_s, first_s + DAY_S, 10))
        put(
            str(root),
            {"time": times, "price": marks(RECORDS, base=number * 10_000)},
            DAY + timedelta(days=number),
        )


def target(first: int = 0, last: int = DAYS - 1, columns: str = "price", **more: str) -> str:
    """A query of whole days, each cut by a second at both ends of the range."""
    start_s, end_s = DAY_START_S + first * DAY_S + 1, DAY_START_S + (last + 1) * DAY_S - 2
    rest = "".join(f"&{name}={value}" for name, value in more.items())
    exchange, symbol, type_ = SERIES
    return (
        f"/api/data?exchange={exchange}&symbol={symbol}&type={type_}"
        f"&start={start_s}&end={end_s}&columns={columns}{rest}"
    )


def expected(root: Path, first: int = 0, last: int = DAYS - 1, columns: str = "price") -> bytes:
    """What the oracle answers to `target`."""
    start_s, end_s = DAY_START_S + first * DAY_S + 1, DAY_START_S + (last + 1) * DAY_S - 2
    return naive_answer(str(root), *SERIES, start_s, end_s, columns.split(","))


@contextmanager
def serving(
    bucket: Standin, cache: Path, kind: type[RunningServer] = ForkedServer, /, **environ: str
) -> Iterator[RunningServer]:
    """A node over the store."""
    with kind(f"s3://{BUCKET}/p", **{**environ_of(bucket.url, cache), **environ}) as server:
        yield server


def get_by_tls(server: RunningServer, asked: str) -> Answer:
    """The answer over TLS and HTTP/1.1, which is sent from mappings."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.tls_port, timeout=20, context=client_context(["http/1.1"])
    )
    try:
        connection.request("GET", asked)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def until_right(ask: Callable[[], Answer], body: bytes) -> None:
    """Ask until the answer is 200, as a client does that is told to come again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = ask()
        except (http.client.IncompleteRead, ConnectionError):
            answer = None  # cut off, and told so
        if answer is not None and answer.status == 200:
            assert answer.content == body
            return
        if answer is not None:
            assert answer.status == 503
            assert answer.fields["retry-after"]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def poll(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def stored(root: Path) -> Iterator[Standin]:
    """A store that has the files below `root`, of long ago."""
    with standin() as bucket:
        bucket.upload(root, "p/")
        for name, kept in list(bucket.objects.items()):
            bucket.put(name, kept.content, CLOSED_S)
        yield bucket
