"""Records what is live: rows as they come, appended to the files of their day.

    append, extend → waiting → ordering → due → appending → day files
    (caller)         (memory)  (held)    (memory)

Owns the buffer between caller and disk, and the thread that flushes it. What is in memory is
bounded. A disk that is full or fails is told at once; rows then wait here, and go on from here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, day_label
from zerocopy.core.query import check_name
from zerocopy.ingest.daywriter import SeriesWriter
from zerocopy.ingest.recording.announcing import Announcer
from zerocopy.ingest.recording.appending import PIECE_RECORDS, SeriesAppender
from zerocopy.ingest.recording.ordering import Ordering
from zerocopy.ingest.recording.rows import NANOS_COLUMN, RowFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

FLUSH_BYTES = 1 << 20
"""Rows that wait and take so much are flushed by who appends: memory stays small, and a caller that
is faster than the disk is slowed down by it."""

RETRY_S = 0.5
"""How long a full disk is left alone before it is tried again by who appends."""

_logger = logging.getLogger("zerocopy.ingest")


class RecorderFullError(IngestError):
    """The buffer is full because the disk does not take it; the first `taken` rows were kept."""

    def __init__(self, detail: str, taken: int) -> None:
        super().__init__(detail)
        self.taken = taken


class Counts(NamedTuple):
    """What came of rows: appended to files, refused because too old or too new, not yet written."""

    recorded: int
    late: int
    future: int
    waiting: int


class Recorder:
    """Appends rows to the day files of one series. A context manager; safe to use from threads.

        with Recorder("data", exchange="coinbase", symbol="BTC-USD", type="TRADES",
                      columns=("price", "size", "side")) as recorder:
            recorder.append((1748736000, 104_512.25, 0.01, 0))                 # one row
            recorder.extend({"time": times, "price": …, "size": …, "side": …})  # a batch

    `columns` are those behind the time; `dtypes` says what `[columns]` of the server's config.toml
    says. `unit` is that of times that are numbers: s, ms, us or ns; datetimes with a zone and
    datetime64 have their own. Of the time the seconds are stored, and with `nanos` the rest, in a
    column of that name. The time of a row decides its day.

    Rows up to `reorder_s` seconds out of order are held back and sorted. Later ones are refused and
    counted, as are those older than the newest record of the series, or more than `future_s` ahead
    of the clock. Rows are in the files `flush_ms` after they came, or are due; None: when `flush`
    is called, or 1 MiB waits. `fsync`: "never", "flush" (each), or every so many seconds.

    A disk that takes nothing is told by `on_fault(error)`, and by `on_fault(None)` when it does
    again; without one, in the log `zerocopy.ingest` of the module logging. Meanwhile up to
    `buffer_bytes_max` bytes of rows wait; then `append` and `extend` raise `RecorderFullError`.
    `announce` is the URL of the Redis of `[live] announce`, or an `Announcer` that is shared.

    Raises:
        ConfigError: a column, a dtype, the unit or the URL is none.
        BadRequestError: exchange, symbol or type cannot be a name.
    """

    def __init__(
        self,
        root: str,
        *,
        exchange: str,
        symbol: str,
        type: str,  # noqa: A002 - as in the query
        columns: Sequence[str],
        dtypes: Mapping[str, str] | None = None,
        unit: str = "s",
        nanos: bool = False,
        reorder_s: int = 0,
        future_s: int = 3_600,
        flush_ms: float | None = 50,
        fsync: Literal["never", "flush"] | float = 5.0,
        buffer_bytes_max: int = 64 << 20,
        on_fault: Callable[[OSError | None], None] | None = None,
        announce: str | Announcer | None = None,
    ) -> None:
        names = {"exchange": exchange, "symbol": symbol, "type": type}
        series = tuple(check_name(field, name) for field, name in names.items())
        self._format = RowFormat(columns, dtypes or {}, unit, nanos=nanos)
        self._series = series[0], series[1], series[2]
        self._writer = SeriesWriter(root, self._series)
        self._appender = SeriesAppender(
            self._writer,
            self._format.names,
            self._format.dtypes,
            syncs_each=fsync == "flush",
        )
        self._reorder_s = reorder_s
        self._future_s = future_s
        self._flush_s = None if flush_ms is None else flush_ms / 1_000
        self._fsync_s = float(fsync) if not isinstance(fsync, str) else None
        self._bytes_max = buffer_bytes_max
        self._on_fault = on_fault or self._log_fault
        self._own = Announcer(announce, _logger.warning) if isinstance(announce, str) else None
        self._announcer = self._own if isinstance(announce, str) else announce
        # What callers touch, by `_lock`; all else by `_flushing`, which is taken first.
        self._lock = threading.Lock()
        self._packed = bytearray()
        self._batches: list[NDArray[Any]] = []
        self._waiting_bytes = 0
        self._flushing = threading.RLock()
        self._due: deque[NDArray[Any]] = deque()
        self._due_bytes = 0
        self._recorded = 0
        self._fault: OSError | None = None
        self._failure: IngestError | None = None
        self._retry_at_s = 0.0
        self._synced_at_s = 0.0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        """Lock the series, and mend what a crash left of it.

        Raises:
            IngestError: another process writes it, its directory cannot be written, or its newest
                record is of the future.
        """
        self._writer.__enter__()
        try:
            newest_s = self._appender.newest_s() or 0
            if newest_s > time.time() + self._future_s:
                day = day_label(newest_s // DAY_S)
                raise IngestError(
                    f"{self._writer.name}: has a record of the future, of {day}, behind which "
                    "nothing can be appended; see zerocopy verify"
                )
        except BaseException:
            self._writer.__exit__(None, None, None)
            raise
        sorted_by = (TIME_COLUMN, NANOS_COLUMN)
        self._ordering = Ordering(
            reorder_s=self._reorder_s,
            future_s=self._future_s,
            floor_s=newest_s,
            sort_by=tuple(name for name in sorted_by if name in self._format.names),
        )
        self._synced_at_s = time.monotonic()
        self._is_open = True
        if self._own is not None:
            self._own.__enter__()
        if self._flush_s is not None:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write all that waits or is held back; unlock the series.

        Raises:
            IngestError: it could not be written; says how many rows are lost.
        """
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        try:
            with self._flushing:
                self._take()
                rest = self._ordering.release()
                if rest is not None:
                    self._put_due(rest)
                self.flush()
                if self._fsync_s is not None:
                    self._appender.sync()
        except OSError as full:
            lost = self.counts.waiting
            raise IngestError(
                f"{self._writer.name}: {full.strerror}; {lost} rows are lost"
            ) from full
        finally:
            self._is_open = False
            self._writer.__exit__(kind, error, trace)
            if self._own is not None:
                self._own.__exit__()

    def append(self, row: Sequence[Any] | Mapping[str, Any]) -> None:
        """Take one row: (time, *columns), or a mapping of these names.

        Raises:
            IngestError: it has not just these fields, or a value does not fit its column; or the
                series can no longer be written.
            RecorderFullError: the disk takes nothing, and the buffer is full.
        """
        packed = self._format.pack(row)
        if not self._make_room(len(packed)):
            raise self._full(0)
        with self._lock:
            self._packed += packed
            self._waiting_bytes += len(packed)

    def extend(self, columns: Mapping[str, ArrayLike]) -> None:
        """Take a batch: arrays of equal length by name, `time` among them. They are copied.

        Raises:
            IngestError: as `append`; none of the batch is kept.
            RecorderFullError: the disk takes nothing; rows of the batch that were kept are counted
                in its `taken`.
        """
        rows = self._format.batch(columns)
        for at in range(0, len(rows), PIECE_RECORDS):
            piece = rows[at : at + PIECE_RECORDS]
            if not self._make_room(piece.nbytes):
                raise self._full(at)
            with self._lock:
                self._seal()
                self._batches.append(piece)
                self._waiting_bytes += piece.nbytes

    def flush(self) -> None:
        """Write what is due, now.

        Raises:
            OSError: the disk is full or fails; what is not written waits.
            IngestError: the series can no longer be written.
        """
        assert self._is_open, "used in a with statement"
        with self._flushing:
            if self._failure is not None:
                raise self._failure
            self._take()
            try:
                while self._due:
                    self._write_first()
                self._sync_if_due()
            except OSError as error:
                self._note(error)
                raise
            except IngestError as error:
                self._failure = error
                raise
            self._note(None)

    def _write_first(self) -> None:
        """Write the first piece that is due.

        Raises:
            OSError: the disk is full or fails.
            IngestError: the series can no longer be written.
        """
        rows = self._due[0]
        day = int(rows[TIME_COLUMN][0]) // DAY_S
        self._appender.append(day, rows)
        self._due.popleft()
        self._due_bytes -= rows.nbytes
        self._recorded += len(rows)
        if self._announcer is not None:
            self._announcer.appended(self._series, day, self._format.names)

    @property
    def counts(self) -> Counts:
        """What came of the rows so far."""
        with self._flushing, self._lock:
            waiting = self._waiting_bytes // self._format.dtype.itemsize
            waiting += sum(map(len, self._due)) + self._ordering.held
            return Counts(self._recorded, self._ordering.late, self._ordering.future, waiting)

    # ---- the way of rows

    def _seal(self) -> None:
        """Make a batch of the rows that came one by one, so that the order of arrival is kept."""
        if self._packed:
            self._batches.append(self._format.rows_of(self._packed))
            self._packed = bytearray()

    def _take(self) -> None:
        """Order what waits; what may be written is due, in pieces of a day."""
        with self._lock:
            self._seal()
            batches, self._batches = self._batches, []
            self._waiting_bytes = 0
        if not batches and not self._ordering.held:
            return
        rows = np.concatenate([np.empty(0, self._format.dtype), *batches])
        self._put_due(self._ordering.accept(rows, time.time(), time.monotonic()))

    def _put_due(self, rows: NDArray[Any]) -> None:
        if not len(rows):
            return
        days = rows[TIME_COLUMN] // DAY_S
        midnights = (np.flatnonzero(days[1:] != days[:-1]) + 1).tolist()
        for first, stop in zip([0, *midnights], [*midnights, len(rows)], strict=True):
            for at in range(first, stop, PIECE_RECORDS):
                piece = rows[at : min(at + PIECE_RECORDS, stop)]
                self._due.append(piece)
                self._due_bytes += piece.nbytes

    def _make_room(self, nbytes: int) -> bool:
        """Flush where much waits; whether `nbytes` more may wait."""
        assert self._is_open, "used in a with statement"
        if self._failure is not None:
            raise self._failure
        is_much = self._waiting_bytes >= FLUSH_BYTES
        if self._fault is None and not is_much:
            return True
        if is_much and (self._fault is None or time.monotonic() >= self._retry_at_s):
            with suppress(OSError):  # told by `_note`
                self.flush()
        return self._buffered() + nbytes <= self._bytes_max

    def _buffered(self) -> int:
        return self._waiting_bytes + self._due_bytes + self._ordering.held_bytes

    def _full(self, taken: int) -> RecorderFullError:
        reason = self._fault.strerror if self._fault is not None else "rows are held back"
        return RecorderFullError(
            f"{self._writer.name}: the buffer of {self._bytes_max:,} bytes is full: {reason}", taken
        )

    # ---- the thread

    def _run(self) -> None:
        """Flush every `flush_ms`, until the end."""
        assert self._flush_s is not None, "else there is no thread"
        while not self._ending.wait(self._flush_s):
            if self._fault is not None and time.monotonic() < self._retry_at_s:
                continue
            try:
                self.flush()
            except OSError:
                continue  # told by `_note`; tried again
            except IngestError:
                return  # told by the next call of the caller

    def _sync_if_due(self) -> None:
        if self._fsync_s is not None and time.monotonic() >= self._synced_at_s + self._fsync_s:
            self._appender.sync()
            self._synced_at_s = time.monotonic()

    def _note(self, error: OSError | None) -> None:
        """Tell of a fault that begins, becomes another, or ends."""
        before, self._fault = self._fault, error
        if error is not None:
            self._retry_at_s = time.monotonic() + RETRY_S
        if (before and before.errno) != (error and error.errno):
            self._on_fault(error)

    def _log_fault(self, error: OSError | None) -> None:
        if error is None:
            _logger.warning("%s: written again", self._writer.name)
        else:
            _logger.error(
                "%s: %s; rows wait in memory until it is tried again",
                *(self._writer.name, error.strerror),
            )
