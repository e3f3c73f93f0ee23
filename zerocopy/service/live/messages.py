"""The messages of a live stream: some records of one day, in one of two shapes.

Owns how many records a message takes and how it is made: for server-sent events json in one event,
for a WebSocket the format `columns`. What is small is read at once where that takes no waiting; a
large message in `columns` is the files' own bytes, large json is written by a thread.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from zerocopy.core.cursor import Cursor
from zerocopy.core.http.stream import End, Message
from zerocopy.core.plan import Column, DayRecords, Plan, in_memory
from zerocopy.core.timeindex import RecordRange
from zerocopy.formats import columns, events

if TYPE_CHECKING:
    from types import ModuleType

    from zerocopy.core.cursor import Reset
    from zerocopy.core.http.stream import Item
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.live.following import LiveDay

EVENTS: Final = 0
COLUMNS: Final = 1
"""What a stream's messages are: server-sent events, or whole answers in `columns`."""

MESSAGES_KEPT = 8
"""Messages of one tail: the newest in two shapes, and those of readers that are a little behind."""

EVENT_RECORDS_MAX = 8_192
"""Records of an event: encoding a column of them holds the interpreter's lock for 0.3 ms."""

INLINE_VALUES_MAX = 2_048
"""Values that the event loop itself encodes as json: 80 µs. Texts count eightfold."""

HEADER_BYTES, HEADER_COLUMN_BYTES = 96, 192
"""Bytes that the header line of a message in `columns` takes at most, and for each column."""

EVENT_BYTES, EVENT_COLUMN_BYTES = 128, 80
"""Bytes of an event beside its values, and for each column."""

SKIPPED_BYTES = 16
"""What a skipped day takes of a message at most: so many records less, of a byte at least."""

_JSON = "zerocopy.formats.json"

RESET_CODE = 4001
FAILED = End(1011, "the data cannot be read")

_TEXT_VALUES = 8
_JSON_BYTES = {1: 5, 2: 7, 4: 16, 8: 26}
"""Bytes of one number in json at most, with its comma, by the bytes it has in a file."""


class Part(NamedTuple):
    """The records [first, stop) of a day, and the days passed over before it."""

    first: int
    stop: int
    skipped: tuple[int, ...] = ()


class Made(NamedTuple):
    """A message of the records [first, stop) of the files that `identity` names."""

    identity: object
    first: int
    stop: int
    message: Message | None


NOT_MADE: Final = Made(None, -1, -1, None)


class Kept(OrderedDict[tuple[object, ...], Message]):
    """The last messages of one tail, by all that they depend on."""

    def add(self, key: tuple[object, ...], message: Message) -> None:
        """Keep one more; the oldest is forgotten at the bound."""
        self[key] = message
        if len(self) > MESSAGES_KEPT:
            self.popitem(last=False)


_imported: list[ModuleType] = []
"""What makes events. In `sys.modules` it may be half imported, by another thread."""


def is_prepared() -> bool:
    """Whether events can be made without importing numpy first, which takes some 40 ms."""
    return bool(_imported)


def prepare() -> None:
    """Import what makes events; for a thread."""
    _imported[:] = [importlib.import_module(_JSON)]


class Composer:
    """Makes messages of some columns. `read_bytes_max` is what is read to be sent with its header.

    A message has at most `message_bytes_max` bytes, and at least one record.
    """

    __slots__ = (
        "_columns", "_files", "_names", "_read_bytes_max", "_record_values", "_records_max",
        "_width",
    )  # fmt: skip

    def __init__(
        self,
        columns: tuple[Column, ...],
        files: OpenFiles,
        *,
        message_bytes_max: int,
        read_bytes_max: int,
    ) -> None:
        self._columns = columns
        self._names = tuple(column.name for column in columns)
        self._files = files
        self._read_bytes_max = read_bytes_max
        self._width = sum(column.dtype.nbytes for column in columns)
        count = len(columns)
        has_texts = any(column.dtype.name[1] == "S" for column in columns)
        self._record_values = count * _TEXT_VALUES if has_texts else count
        spelled = sum(map(_json_bytes, columns))
        self._records_max = (
            min(
                EVENT_RECORDS_MAX,
                max(1, (message_bytes_max - EVENT_BYTES - EVENT_COLUMN_BYTES * count) // spelled),
            ),
            max(1, (message_bytes_max - HEADER_BYTES - HEADER_COLUMN_BYTES * count) // self._width),
        )

    def cut(self, kind: int, wanted: Part) -> Part:
        """As much of what is wanted as one message may have."""
        first, stop, skipped = wanted
        most = self._records_max[kind]
        if skipped:
            most = max(1, most - SKIPPED_BYTES * (1 + len(skipped)))
        return Part(first, min(stop, first + most), skipped)

    def make_now(self, kind: int, day: LiveDay, part: Part) -> Message | None:
        """A part as a message; None: it takes a thread to make it.

        Raises:
            DataChangedError: a file has less records.
            DataError: the system cannot tell of a file.
            OverloadError: there are no descriptors left.
        """
        first, stop, skipped = part
        cursor, count = str(Cursor(day.day, stop)), stop - first
        if kind == COLUMNS:
            return self._in_columns(day, part, cursor)
        if count * self._record_values > INLINE_VALUES_MAX or not _imported:
            return None  # the first event imports numpy, in a thread
        blocks = self._read_now(day, first, stop)
        if blocks is None:
            return None
        document = _imported[0].document(self._columns, blocks, count, skipped)
        return _whole(events.records(cursor, document))

    def make(self, day: LiveDay, part: Part) -> Message:
        """A part as an event; blocks, and may run in any thread.

        Raises:
            DataChangedError: a file has become shorter.
            DataError: a file cannot be read.
        """
        first, stop, skipped = part
        names = self._names
        from zerocopy.formats import json  # noqa: PLC0415 - with numpy, once it is asked for

        parts: list[bytes] = []
        records = DayRecords(day.day, RecordRange(first, stop), [_UNREAD] * len(names))
        json.encode(
            Plan(self._columns, [records], skipped),
            lambda _day, place, begin, count: day.read(names[place], begin, count),
            parts.append,
        )
        return _whole(events.records(str(Cursor(day.day, stop)), b"".join(parts)))

    def opening(self, kind: int, cursor: Cursor) -> Message:
        """What a stream begins with: where it begins, and no record."""
        if kind == EVENTS:
            return _whole(events.opening(str(cursor)))
        return _whole(columns.header_line(Plan(self._columns, [], cursor=str(cursor))))

    def _in_columns(self, day: LiveDay, part: Part, cursor: str) -> Message:
        first, stop, skipped = part
        nbytes = (stop - first) * self._width
        blocks = None
        if nbytes <= self._read_bytes_max:
            blocks = self._read_now(day, first, stop)
        if blocks is not None:
            records = RecordRange(0, stop - first)
            sources = [in_memory(block).source for block in blocks]
            read = DayRecords(day.day, records, sources)
            plan = Plan(self._columns, [read], skipped, cursor=cursor)
            return _whole(b"".join((columns.header_line(plan), *blocks)))
        records = RecordRange(first, stop)
        day_records = DayRecords(day.day, records, day.sources(self._files, self._names, stop))
        found = columns.represent(Plan(self._columns, [day_records], skipped, cursor=cursor))
        return Message(found.content, found.segments, found.nbytes)

    def _read_now(self, day: LiveDay, first: int, stop: int) -> list[bytes] | None:
        blocks = []
        for name in self._names:
            block = day.read_now(self._files, name, first, stop - first)
            if block is None:
                return None
            blocks.append(block)
        return blocks


_UNREAD = in_memory(b"\0").source
"""Stands for a file where a plan is given to a format that reads by a function."""


def reset_items(kind: int, reset: Reset) -> tuple[Item, ...]:
    """What a stream says whose cursor is good for nothing any more: then it ends."""
    cursor = str(reset.cursor)
    if kind == COLUMNS:
        return (End(RESET_CODE, f"{reset.reason}; it begins at {cursor}"),)
    return _whole(events.reset(cursor, reset.reason)), End(RESET_CODE, reset.reason)


def _whole(content: bytes) -> Message:
    return Message(content, (), len(content))


def _json_bytes(column: Column) -> int:
    """Bytes of one value in json at most: a byte of text may be escaped as six."""
    name, nbytes = column.dtype
    return 6 * nbytes + 3 if name[1] == "S" else _JSON_BYTES[nbytes]
