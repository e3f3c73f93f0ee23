"""Rows of a source as records, by series and day.

Owns the meeting of rows and rules: for each batch the time, the columns in their dtypes and the
series of each row; what was inferred and what f4 lost is gathered beside it. It must never know the
disk.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import DAY_S, TIME_COLUMN, is_name
from zerocopy.ingest.recipe import NANOS, Recipe, View
from zerocopy.ingest.times import NS_PER_S, times_ns
from zerocopy.ingest.values import SIDE, Loss, ValueRefused, records_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from numpy.typing import NDArray

    from zerocopy.core.layout import Dtypes
    from zerocopy.ingest.sources import Source
    from zerocopy.ingest.tables import Batch

ROW_HASH = "#row"
"""A field beside the columns: a hash of all that the source has in the row. Two trades of one price
at one time are no duplicates if their ids differ."""


class Part(NamedTuple):
    """Records of one series and day, in the order of the source."""

    exchange: str
    symbol: str
    type: str
    day: int
    records: NDArray[Any]


def record_dtype(columns: tuple[str, ...], dtypes: Dtypes) -> np.dtype[Any]:
    """A record as it is carried from source to day: its columns, then `ROW_HASH`."""
    fields = [(column, dtypes.of(column).name) for column in columns]
    return np.dtype([*fields, (ROW_HASH, "<u8")])


class Converter:
    """Turns the batches of one source into parts; `notes` and `losses` tell what was found."""

    def __init__(self, source: Source, recipe: Recipe, dtypes: Dtypes) -> None:
        self._source = source
        self._recipe = recipe
        self._dtypes = dtypes
        self._dtype = record_dtype(recipe.columns, dtypes)
        self.notes: Counter[str] = Counter()
        self.losses: dict[str, Loss] = {}
        self.rows = 0

    def convert(self, batch: Batch) -> Iterator[Part]:
        """The records of a batch.

        Raises:
            IngestError: a row breaks a rule; it names the line.
        """
        self.rows += batch.frame.height
        try:
            records, series = self._records(batch.frame)
        except ValueRefused as refused:
            place = batch.place(refused.row)
            raise IngestError(f"{self._source.name}: {place}: {refused.why}") from refused
        yield from self._split(batch, records, series)

    def _records(self, frame: pl.DataFrame) -> tuple[NDArray[Any], NDArray[np.intp] | None]:
        """Records, and the row of each; None where record i is of row i."""
        found: dict[str, int] = {}
        instants = times_ns(
            frame.get_column(self._recipe.time.column),
            self._recipe.time,
            lambda words: found.update({words: 1}),
        )
        self.notes.update(found)
        seconds = instants // NS_PER_S
        nanos = (instants - seconds * NS_PER_S).astype("<u4")
        if not self._recipe.writes_nanos and nanos.any():
            row = int(nanos.argmax())
            raise ValueRefused(
                row,
                f"has a part of a second, for which {self._recipe.type} "
                "has no column: --map writes nanos",
            )
        hashes = frame.hash_rows(seed=0).to_numpy()
        made = [self._of_view(frame, view, seconds, nanos, hashes) for view in self._recipe.views]
        if len(made) == 1 and self._recipe.views[0].needs is None:
            return made[0][0], None
        rows = np.concatenate([rows for _, rows in made])
        order = np.argsort(rows, kind="stable")
        return np.concatenate([records for records, _ in made])[order], rows[order]

    def _of_view(
        self,
        frame: pl.DataFrame,
        view: View,
        seconds: NDArray[np.int64],
        nanos: NDArray[Any],
        hashes: NDArray[np.uint64],
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        rows = np.arange(len(seconds))
        if view.needs is not None:
            is_there = frame.get_column(view.needs).is_not_null().to_numpy()
            rows, frame = rows[is_there], frame.filter(is_there)
            seconds, nanos, hashes = seconds[is_there], nanos[is_there], hashes[is_there]
        records = np.empty(len(seconds), self._dtype)
        records[TIME_COLUMN] = seconds
        records[ROW_HASH] = hashes
        if self._recipe.writes_nanos:
            records[NANOS] = nanos
        for ours, theirs in view.columns.items():
            if isinstance(theirs, int):
                records[ours] = theirs
                continue
            try:
                records[ours] = records_of(
                    frame.get_column(theirs),
                    ours,
                    self._dtypes.of(ours),
                    self.losses.setdefault(ours, Loss()),
                    is_fixed_point=theirs in self._recipe.fixed_point,
                )
            except ValueRefused as refused:
                raise ValueRefused(int(rows[refused.row]), f"{ours}: {refused.why}") from refused
            if ours == NANOS:
                self._check_nanos(records[NANOS], nanos)
            if ours == SIDE:
                self.notes[_side_words(theirs)] = 1
        return records, rows

    def _check_nanos(self, mapped: NDArray[Any], nanos: NDArray[Any]) -> None:
        """A column of nanoseconds goes beside times of whole seconds."""
        if nanos.any():
            row = int(nanos.argmax())
            raise ValueRefused(row, "the time has a part of a second, and nanos is mapped")
        if (mapped >= NS_PER_S).any():
            row = int((mapped >= NS_PER_S).argmax())
            raise ValueRefused(row, f"nanos: {mapped[row]} is a second or more")

    def _split(
        self, batch: Batch, records: NDArray[Any], rows: NDArray[np.intp] | None
    ) -> Iterator[Part]:
        names, codes = self._series(batch)
        days = (records[TIME_COLUMN] // DAY_S).astype(np.int64)
        if codes is None:
            keys = days
        else:
            keys = (codes if rows is None else codes[rows]) * (1 << 20) + days
        if not len(keys):
            return
        if keys.min() != keys.max():
            order = np.argsort(keys, kind="stable")
            keys, records = keys[order], records[order]
        bounds = [0, *(np.flatnonzero(np.diff(keys)) + 1), len(keys)]
        for begin, end in zip(bounds, bounds[1:], strict=False):
            code, day = divmod(int(keys[begin]), 1 << 20)
            exchange, symbol = names[code]
            yield Part(exchange, symbol, self._recipe.type, day, records[begin:end])

    def _series(self, batch: Batch) -> tuple[list[tuple[str, str]], NDArray[np.int64] | None]:
        """The exchanges and symbols of a batch, and which each row has; None where there is one."""
        import polars as pl  # noqa: PLC0415 - the extra `import`

        recipe = self._recipe
        frame = batch.frame.select(
            exchange=_named(recipe.exchange, recipe.exchange_column),
            symbol=_named(recipe.symbol, recipe.symbol_column),
        )
        if recipe.exchange_column is None and recipe.symbol_column is None:
            frame = frame.head(1)
        unique = frame.unique(maintain_order=True)
        names = [(str(exchange or ""), str(symbol or "")) for exchange, symbol in unique.rows()]
        for field, at in (("exchange", 0), ("symbol", 1)):
            for name in names:
                if not is_name(name[at]):
                    row = int((frame.get_column(field).fill_null("") == name[at]).arg_max() or 0)
                    raise IngestError(
                        f"{self._source.name}: {batch.place(row)}: {name[at]!r} is no name of "
                        f"a {field}: --{field} decides"
                    )
        if len(names) == 1:
            return names, None
        codes = (
            frame.join(
                unique.with_row_index("code"),
                on=["exchange", "symbol"],
                how="left",
                maintain_order="left",
                nulls_equal=True,
            )
            .get_column("code")
            .cast(pl.Int64)
        )
        return names, codes.to_numpy()


def _named(name: str | None, column: str | None) -> pl.Expr:
    import polars as pl  # noqa: PLC0415

    if column is None:
        return pl.lit(name, dtype=pl.String)
    # TrueFX writes EUR/USD where names of files have EURUSD; a slash is in no name of ours.
    text = pl.col(column).cast(pl.String)
    return text.str.replace_all("/", "", literal=True) if column == "pair" else text


def _side_words(column: str) -> str:
    return f"side from {column}: 0 where the taker buys, 1 where it sells"
