"""Public clients of /api/live that go on with their cursor, and a writer that waits for them.

Each kind of client is a generator over one connection. A `Subscriber` is a thread that opens one
connection after the other and keeps what came. `Feed.append` returns once each has the record, so
whatever holds records back until more come, or until the stream ends, is seen.
"""

from __future__ import annotations

import json
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple, Self

import httpx
import websockets.exceptions
from httpx_sse import connect_sse
from websockets.sync.client import connect

from tests.eventstream import EventSource
from tests.storage.trees import OPEN_START_S
from zerocopy.core.layout import file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    # Given the URL and the last cursor, "" at first: what one connection brings.
    Kind = Callable[[str, str], Iterator["Piece"]]

DAY_S = 86_400
DEADLINE_S = 40.0


class Piece(NamedTuple):
    """Values of the column `price`, and the cursor behind them."""

    cursor: str
    values: list[float]


def by_curl(url: str, cursor: str) -> Iterator[Piece]:
    """`curl -N`, which writes what comes when it comes."""
    resume = ["-H", f"Last-Event-ID: {cursor}"] if cursor else []
    source = EventSource()
    with subprocess.Popen(
        ["curl", "-sSN", "--fail", *resume, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        try:
            while data := process.stdout.read(65_536):
                found = source.feed(data)
                yield Piece(source.last_event_id, [])
                for event in found:
                    values = json.loads(event.data)["columns"]["price"]
                    yield Piece(event.last_event_id, values)
        finally:
            process.kill()


def by_httpx_sse(url: str, cursor: str) -> Iterator[Piece]:
    """httpx-sse, as docs/live.md has it."""
    fields = {"Last-Event-ID": cursor} if cursor else {}
    with (
        httpx.Client(timeout=DEADLINE_S) as client,
        connect_sse(client, "GET", url, headers=fields) as source,
    ):
        for event in source.iter_sse():
            values = event.json()["columns"]["price"] if event.event == "records" else []
            yield Piece(event.id, values)


def by_websockets(url: str, cursor: str) -> Iterator[Piece]:
    """`websockets`, which opens a new connection with the cursor of the last message."""
    url = url.replace("http:", "ws:", 1)
    with connect(f"{url}&from={cursor}" if cursor else url, proxy=None) as socket:
        for message in socket:
            assert isinstance(message, bytes)
            line, _, records = message.partition(b"\n")
            header = json.loads(line)
            time_column, price = header["columns"]
            count = price["num_records"]
            yield Piece(
                header["cursor"],
                [*struct.unpack_from(f"<{count}f", records, time_column["data_length"])],
            )


class Subscriber:
    """A client in a thread; `values` are what it has had, over all its connections."""

    def __init__(self, kind: Kind, url: str, moved: threading.Condition) -> None:
        self.kind = kind
        self.values: list[float] = []
        self.cursor = ""
        self.connections = 0
        self.is_over = False
        self._url = url
        self._moved = moved
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.is_over:
            try:
                with closing(self.kind(self._url, self.cursor)) as pieces:  # type: ignore[type-var]
                    self._take(pieces)
            except (httpx.HTTPError, OSError, websockets.exceptions.WebSocketException):
                time.sleep(0.01)  # the server, or the proxy, is between two generations

    def _take(self, pieces: Iterator[Piece]) -> None:
        self.connections += 1
        for cursor, values in pieces:
            with self._moved:
                if self.is_over:
                    return
                self.cursor = cursor
                self.values += values
                self._moved.notify_all()

    def join(self) -> None:
        """Wait until its thread has ended."""
        self._thread.join(DEADLINE_S)


class Feed:
    """One series that grows, and its subscribers; leaving it ends them."""

    def __init__(self, root: Path, symbol: str) -> None:
        self.folder = root / "coinbase" / symbol / "MD"
        self.folder.mkdir(parents=True)
        self.query = f"/api/live?symbol={symbol}&type=MD&columns=time,price"
        self.subscribers: list[Subscriber] = []
        self.count = 0
        self._moved = threading.Condition()
        self._day = OPEN_START_S // DAY_S
        self._write(0)

    def __enter__(self) -> Self:
        """Nobody listens yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """The last record tells each that it is over."""
        for subscriber in self.subscribers:
            subscriber.is_over = True
        self._write(1)
        for subscriber in self.subscribers:
            subscriber.join()

    def subscribe(self, port: int, *kinds: Kind) -> None:
        """One subscriber of each kind; returns once each has its first cursor."""
        url = f"http://127.0.0.1:{port}{self.query}"
        begun = [Subscriber(kind, url, self._moved) for kind in kinds]
        self.subscribers += begun
        self._wait(lambda: all(subscriber.cursor for subscriber in begun), "a first cursor")

    def append(self) -> None:
        """One record; returns once each subscriber has it."""
        self._write(1)
        self.count += 1
        self._wait(
            lambda: all(len(subscriber.values) >= self.count for subscriber in self.subscribers),
            f"record {self.count}",
        )

    def assert_exact(self) -> None:
        """Each has had each record once, in order."""
        for subscriber in self.subscribers:
            assert subscriber.values == list(range(self.count)), subscriber.kind

    def _write(self, count: int) -> None:
        with ExitStack() as stack:
            for column, record in (
                ("price", struct.pack("<f", self.count)),
                ("time", struct.pack("<I", self._day * DAY_S + 1)),
            ):
                path = self.folder / file_name(column, self._day)
                stack.enter_context(path.open("ab")).write(record * count)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._moved:
            if not self._moved.wait_for(condition, DEADLINE_S):
                told = {
                    subscriber.kind.__name__: (subscriber.cursor, len(subscriber.values))
                    for subscriber in self.subscribers
                }
                raise AssertionError(f"no {what}: {told}")
