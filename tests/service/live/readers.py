"""Readers of live streams without a socket: they pull as a transport does, and check it all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import orjson

from tests.eventstream import EventSource
from zerocopy.core.cursor import Cursor
from zerocopy.core.http.stream import End, Heartbeat, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zerocopy.core.http.stream import Feed


def content_of(message: Message) -> bytes:
    """All bytes of a message, as a transport would send them."""
    pieces = [piece.source.read(piece.offset, piece.count) for piece in message.segments]
    content = b"".join((message.content, *pieces))
    assert len(content) == message.nbytes
    return content


class Client:
    """One client with a cursor; `days` are the ids it has, by day."""

    def __init__(self, columns: Sequence[str], *, is_websocket: bool, bytes_max: int) -> None:
        self.columns = tuple(columns)
        self.is_websocket = is_websocket
        self.cursor: Cursor | None = None
        self.first: Cursor | None = None
        self.days: dict[int, list[int]] = {}
        self.unsure: set[int] = set()
        self.feed: Feed | None = None
        self.messages = self.resets = self.heartbeats = self.segments = 0
        self.wakes = 0
        self._bytes_max = bytes_max
        self._source = EventSource()

    def connect(self, feed: Feed, on_ready: Callable[[], None]) -> None:
        """Take a stream that was opened with the cursor it has."""

        def ready() -> None:
            self.wakes += 1
            on_ready()

        self.feed = feed
        self.begin()
        feed.start(ready)

    def begin(self) -> None:
        """What comes next is the beginning of a stream."""
        self._source = EventSource()

    def drop(self) -> None:
        """Leave."""
        if self.feed is not None:
            self.feed.close()
            self.feed = None

    def pull(self, items_max: int = 1 << 30) -> bool:
        """Take what there is, at most so many items. Returns whether there was nothing more."""
        while self.feed is not None and items_max > 0:
            item = self.feed.next()
            items_max -= 1
            if item is None:
                return True
            if isinstance(item, Message):
                self._take(item)
            elif isinstance(item, End):
                assert item.code == 4001, item
                if self.is_websocket:
                    self.reset(Cursor.parse(item.reason.rpartition(" ")[2]))
                self.drop()
            else:
                assert isinstance(item, Heartbeat)
                self.heartbeats += 1
        return self.feed is None

    def _take(self, message: Message) -> None:
        content = content_of(message)
        self.segments += len(message.segments)
        assert len(content) <= self._bytes_max
        if self.is_websocket:
            self.take_message(content)
        else:
            self.take_events(content)

    def take_message(self, content: bytes) -> None:
        """A whole message of a WebSocket."""
        line, _, body = content.partition(b"\n")
        header = orjson.loads(line)
        at, values = 0, {}
        for column in header["columns"]:
            data = body[at : at + column["data_length"]]
            at += column["data_length"]
            values[column["name"]] = np.frombuffer(data, column["dtype"]).tolist()
        assert at == len(body)
        self._append(values, Cursor.parse(header["cursor"]))

    def take_events(self, content: bytes) -> None:
        """Bytes of server-sent events, cut anywhere."""
        for event in self._source.feed(content):
            told = orjson.loads(event.data)
            if event.kind == "reset":
                self.reset(Cursor.parse(told["cursor"]))
            else:
                assert event.kind == "records"
                self._append(told["columns"], Cursor.parse(event.last_event_id))
                assert told["num_records"] == len(told["columns"]["id"])
        if self.cursor is None and self._source.last_event_id:
            self._begin(Cursor.parse(self._source.last_event_id))

    def _begin(self, cursor: Cursor) -> None:
        self.first = self.cursor = cursor

    def _append(self, values: dict[str, list[int]], cursor: Cursor) -> None:
        assert tuple(values) == self.columns
        ids = values["id"]
        if self.cursor is None:
            assert not ids
            self._begin(cursor)
            return
        if not ids:
            assert cursor == self.cursor, "the opening says where the stream begins"
            return
        self.messages += 1
        assert all(len(each) == len(ids) for each in values.values()), "aligned"
        begin = Cursor(cursor.day, cursor.position - len(ids))
        follows = begin == self.cursor or (begin.day > self.cursor.day and begin.position == 0)
        assert follows, f"{begin} does not follow {self.cursor}"
        self.days.setdefault(cursor.day, []).extend(ids)
        self.cursor = cursor

    def reset(self, cursor: Cursor) -> None:
        """The day is void: what there is of it is asked for again."""
        self.resets += 1
        self.days.pop(cursor.day, None)
        self.unsure.discard(cursor.day)
        self.cursor = cursor
        if self.first is not None and self.first.day == cursor.day:
            self.first = cursor
