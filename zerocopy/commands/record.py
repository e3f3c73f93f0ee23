"""`zerocopy record`: rows from standard input, appended to the day files as they come.

Owns the flags, the reading of standard input, the signals and the exit code. `ingest/` reads the
lines and writes the files.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time as clocks
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerocopy.commands.ingest_flags import (
    AnnounceOption,
    DtypeOption,
    MapOption,
    TimeOption,
    announcing,
    checked_delimiter,
    checked_dtypes,
    checked_map,
    checked_name,
    checked_time,
    pairs,
)
from zerocopy.commands.shared import ConfigOption, read_config
from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from zerocopy.config.load import Config
    from zerocopy.ingest.feed import Asked, Feed, Row
    from zerocopy.ingest.recorders import Recorders, Totals
    from zerocopy.ingest.recording.announcing import Announcer
    from zerocopy.storage.store.pushing import DayPusher

READ_BYTES = 1 << 20
ALL_EVERY_S = 1.0
"""How often series without new rows are looked at: for rows that are held back, and for fsync."""

RETRY_S = 0.2
"""How long standard input waits, where a full disk has filled the buffer."""

_DAY_NS = 86_400 * 1_000_000_000

REFUSALS_TOLD_MAX = 10
"""Lines that are told why they were refused; the others are only counted."""


_To = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Put days that are over into an object store as well."),
]

_Buffer = Annotated[
    int, typer.Option(metavar="MIB", min=1, help="What may wait of a series: a full disk.")
]


def record(
    root: Annotated[
        str, typer.Option("--root", metavar="DIR", help="The data root that gets the rows.")
    ],
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="ndjson or csv; else as it looks."),
    ] = None,
    exchange: Annotated[
        str | None, typer.Option(metavar="NAME", help="Else of the field exchange.")
    ] = None,
    symbol: Annotated[
        str | None, typer.Option(metavar="NAME", help="Else of the field symbol.")
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="NAME", help="Else of the field type.")
    ] = None,
    time: TimeOption = None,
    map_: MapOption = None,
    dtype: DtypeOption = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="C", help="Between fields of CSV; tab for a tabulator.")
    ] = None,
    nanos: Annotated[
        bool, typer.Option("--nanos/--no-nanos", help="Write nanos: times below a second.")
    ] = True,
    reorder_s: Annotated[
        int, typer.Option(metavar="S", min=0, help="Hold rows back so long, and sort them.")
    ] = 0,
    flush_ms: Annotated[
        int, typer.Option(metavar="MS", min=1, help="Rows are in the files after so long.")
    ] = 50,
    fsync: Annotated[
        str, typer.Option(metavar="WHEN", help="never, flush (each), or every so many seconds.")
    ] = "5",
    buffer_mib: _Buffer = 64,
    to: _To = None,
    announce: AnnounceOption = None,
    config: ConfigOption = None,
) -> int:
    """Append rows of standard input, NDJSON or CSV with a header, to today's day files.

    A field is a column unless --map chooses. SIGTERM and Ctrl-C write what has come and end with
    exit code 0. Exit code 1 when rows were refused or --to lacks days; standard error says why.
    """
    from zerocopy.ingest.feed import Asked

    loaded = read_config(config)
    declared = loaded.columns
    checked_dtypes(pairs("--dtype", dtype), declared)
    asked = Asked(
        exchange=checked_name("--exchange", exchange),
        symbol=checked_name("--symbol", symbol),
        type=checked_name("--type", type_),
        time=checked_time(time),
        columns=checked_map(pairs("--map", map_)),
        delimiter=checked_delimiter(delimiter) or ",",
        format=_checked_format(format_),
    )
    options: dict[str, Any] = {
        "dtypes": declared,
        "nanos": nanos,
        "reorder_s": reorder_s,
        "fsync": _fsync(fsync),
        "buffer_bytes_max": buffer_mib << 20,
    }
    with announcing(announce, loaded) as announcer:
        pusher = _pusher(loaded, root, to, announcer)
        return _run(root, asked, {**options, "announce": announcer}, flush_ms / 1_000, pusher)


def _checked_format(name: str | None) -> str | None:
    if name not in {None, "ndjson", "csv"}:
        raise typer.BadParameter(f"--format {name}: expected ndjson or csv")
    return name


def _pusher(
    config: Config, root: str, url: str | None, announcer: Announcer | None
) -> DayPusher | None:
    """What puts days that are over into the store at `url`."""
    if url is None:
        return None
    from zerocopy.storage.store.pushing import DayPusher
    from zerocopy.supervise.compose_store import open_store

    store = open_store(config, url=url)
    more: dict[str, Any] = {} if announcer is None else {"on_pushed": announcer.pushed}
    return DayPusher(
        store, root, config.data.settle_s, lambda words: tell(f"zerocopy: {words}"), **more
    )


def _run(
    root: str, asked: Asked, options: dict[str, Any], flush_s: float, pusher: DayPusher | None
) -> int:
    """Record until standard input ends or a signal comes; the exit code."""
    from zerocopy.core.layout import Dtypes
    from zerocopy.ingest.feed import Feed
    from zerocopy.ingest.recorders import Recorders

    feed = Feed(asked, Dtypes(options["dtypes"]))
    recorders = Recorders(root, options, lambda sentence: tell(f"zerocopy: {sentence}"))
    _raise_descriptors()
    input_ = _Input(flush_s)
    if pusher is not None:
        pusher.start()
    try:
        _Recording(feed, recorders, input_, pusher).run()
    finally:
        totals = recorders.close()
        is_pushed = pusher is None or pusher.close()
        _report(totals, feed)
    is_whole = not (totals.refused or totals.late or totals.future or totals.lost)
    return 0 if is_whole and is_pushed else 1


class _Input:
    """Standard input that can be waited for, and the signals that end it."""

    def __init__(self, flush_s: float) -> None:
        self.is_ending = False
        self.flush_s = flush_s
        self._fd = sys.stdin.fileno()
        # A signal that comes before poll(2) wakes it up all the same (signal-safety(7)).
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        self._poll = select.poll()
        for fd in (self._fd, self._woken):
            self._poll.register(fd, select.POLLIN)

    def read(self) -> bytes | None:
        """What has come; empty at the end, None if nothing came within a flush."""
        ready = dict(self._poll.poll(0 if self.is_ending else self.flush_s * 1_000))
        if self._fd in ready:
            return os.read(self._fd, READ_BYTES)
        return b"" if self.is_ending else None

    def pause(self, seconds: float) -> None:
        """Wait, or until a signal comes."""
        select.select([self._woken], [], [], 0 if self.is_ending else seconds)

    def _end(self, _number: int, _frame: object) -> None:
        self.is_ending = True


class _Recording:
    """From standard input to the recorders, until one of them ends."""

    def __init__(
        self, feed: Feed, recorders: Recorders, input_: _Input, pusher: DayPusher | None = None
    ) -> None:
        from zerocopy.ingest.recorder import RecorderFullError

        self._full = RecorderFullError
        self._feed = feed
        self._recorders = recorders
        self._input = input_
        self._pusher = pusher
        self._told = 0
        self._flushed_s = self._all_flushed_s = clocks.monotonic()

    def run(self) -> None:
        """Read, give, flush.

        After a signal it takes what one read gives: what the writer had in the pipe by then.
        """
        while True:
            was_ending = self._input.is_ending
            piece = self._input.read()
            if piece is not None:
                self._give(piece, is_last=not piece)
            if piece == b"" or was_ending:
                return
            self._flush()

    def _give(self, piece: bytes, *, is_last: bool) -> None:
        for row in self._feed.rows(piece, is_last=is_last and not self._input.is_ending):
            if isinstance(row, IngestError):
                self._recorders.refuse()
                self._tell(row.detail)
            elif not self._take(row):
                return

    def _take(self, row: Row) -> bool:
        """Give a row; wait where the disk takes nothing. False if there is no more waiting."""
        while True:
            try:
                self._recorders.give(row)
            except self._full as error:
                if self._input.is_ending:
                    self._recorders.refuse()
                    self._tell(error.detail)
                    return False
                self._input.pause(RETRY_S)
                self._recorders.flush()
            except IngestError as error:
                self._tell(f"line {self._feed.lines}: {error.detail}")
                return True
            else:
                if self._pusher is not None:
                    self._pusher.note(row.series, int(row.values[0]) // _DAY_NS)
                return True

    def _flush(self) -> None:
        now_s = clocks.monotonic()
        if now_s >= self._all_flushed_s + ALL_EVERY_S:
            self._recorders.flush(everything=True)
            self._all_flushed_s = self._flushed_s = now_s
        elif now_s >= self._flushed_s + self._input.flush_s:
            self._recorders.flush()
            self._flushed_s = now_s

    def _tell(self, sentence: str) -> None:
        self._told += 1
        if self._told <= REFUSALS_TOLD_MAX:
            tell(f"zerocopy: {sentence}")


def _report(totals: Totals, feed: Feed) -> None:
    """What came of the rows, in one line; and one for each column that loses digits."""
    parts = {
        "do not fit": totals.refused,
        "came too late": totals.late,
        "are of the future": totals.future,
        "are lost, the disk took them not": totals.lost,
    }
    rest = "; ".join(f"{count:,} {words}" for words, count in parts.items() if count)
    tell(
        f"zerocopy: recorded {totals.recorded:,} rows of {totals.series:,} series"
        + (f"; {rest}" if rest else "")
    )
    for column, lost in feed.lost.items():
        tell(
            f"zerocopy: {column}: {lost.count:,} values lose digits in f4 ({lost.example}); "
            f'{column} = "f8" below [columns] of config.toml keeps them'
        )


def _fsync(text: str) -> str | float:
    if text in {"never", "flush"}:
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise typer.BadParameter(f"--fsync {text}: expected never, flush or seconds")
    return seconds


def _raise_descriptors() -> None:
    """Each series holds one; the usual bound of 1,024 is for programs that call select(2)."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        raise ConfigError(f"descriptors: {error}") from error
