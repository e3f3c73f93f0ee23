"""The recorders of all series of one feed, opened when their first row comes.

Owns which series are open, which have rows that wait, and the sum of their counts. A series that
cannot be written is told once, and its rows are refused; the others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zerocopy.core.errors import IngestError
from zerocopy.ingest.recorder import Counts, Recorder, RecorderFullError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zerocopy.ingest.feed import Row, Series


class _Open(NamedTuple):
    recorder: Recorder
    columns: tuple[str, ...]


class Totals(NamedTuple):
    """What came of all rows. `refused` are those that did not fit their series."""

    series: int
    recorded: int
    refused: int
    late: int
    future: int
    lost: int


class Recorders:
    """Opens a `Recorder` for each series; they flush when told.

    `options` are those of every recorder. `on_fault` is told a sentence when the disk takes
    nothing, and when it does again.
    """

    def __init__(
        self, root: str, options: Mapping[str, Any], on_fault: Callable[[str], None]
    ) -> None:
        self._root = root
        self._options = options
        self._tell = on_fault
        self._open: dict[Series, _Open] = {}
        self._failed: dict[Series, str] = {}
        self._touched: set[Series] = set()
        self._refused = 0
        self._closed: list[Counts] = []
        self._is_failing = False

    def give(self, row: Row) -> None:
        """Take a row.

        Raises:
            RecorderFullError: the disk takes nothing, and the buffer of the series is full: try the
                same row again later.
            IngestError: it does not fit its series, or that cannot be written; it is counted.
        """
        try:
            opened = self._open.get(row.series) or self._opened(row)
            if opened.columns != row.columns:
                values = dict(zip(row.columns, row.values[1:], strict=True))
                opened.recorder.append({"time": row.values[0], **values})
            else:
                opened.recorder.append(row.values)
        except RecorderFullError:
            raise
        except IngestError:
            self._refused += 1
            raise
        self._touched.add(row.series)

    def refuse(self) -> None:
        """Count a row that could not be read."""
        self._refused += 1

    def flush(self, *, everything: bool = False) -> None:
        """Write what is due of series that got rows since, or of all."""
        touched, self._touched = self._touched, set()
        for series in [*self._open] if everything else touched:
            opened = self._open.get(series)
            if opened is None:
                continue
            try:
                opened.recorder.flush()
            except OSError:
                self._touched.add(series)  # told by the recorder
            except IngestError as error:
                self._fail(series, error)

    def close(self) -> Totals:
        """Write what waits, unlock all; what came of the rows."""
        for series in [*self._open]:
            self._close(series)
        sums = (
            Counts(*map(sum, zip(*self._closed, strict=True)))
            if self._closed
            else Counts(0, 0, 0, 0)
        )
        return Totals(
            series=sum(1 for counts in self._closed if counts.recorded),
            recorded=sums.recorded,
            refused=self._refused,
            late=sums.late,
            future=sums.future,
            lost=sums.waiting,
        )

    def _opened(self, row: Row) -> _Open:
        failed = self._failed.get(row.series)
        if failed is not None:
            raise IngestError(failed)
        exchange, symbol, type_ = row.series
        recorder = Recorder(
            self._root,
            exchange=exchange,
            symbol=symbol,
            type=type_,
            columns=row.columns,
            flush_ms=None,
            unit="ns",
            on_fault=self._on_fault,
            **self._options,
        )
        try:
            recorder.__enter__()
        except IngestError as error:
            self._failed[row.series] = error.detail
            raise
        opened = self._open[row.series] = _Open(recorder, row.columns)
        return opened

    def _fail(self, series: Series, error: IngestError) -> None:
        """Close a series that cannot be written; what waited is lost."""
        if series not in self._failed:
            self._tell(error.detail)
        self._failed[series] = error.detail
        self._close(series)

    def _close(self, series: Series) -> None:
        recorder = self._open.pop(series).recorder
        try:
            recorder.__exit__(None, None, None)
        except IngestError as error:
            if series not in self._failed:
                self._tell(error.detail)
        self._closed.append(recorder.counts)

    def _on_fault(self, error: OSError | None) -> None:
        """One sentence for all series on the same disk."""
        if error is not None and not self._is_failing:
            self._tell(f"{self._root}: {error.strerror}; rows wait until it is tried again")
        elif error is None and self._is_failing:
            self._tell(f"{self._root}: written again")
        self._is_failing = error is not None
