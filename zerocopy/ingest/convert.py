"""Rows of a source as records, by series and day.

Owns the meeting of rows and rules: for each batch the time, the columns in their dtypes and the
series of each row; what was inferred and what f4 lost is gathered beside it. It must never know the
disk.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import DAY_S, is_name
from zerocopy.ingest.digits import Loss
from zerocopy.ingest.recipe import NANOS, Recipe, View
from zerocopy.ingest.times import NS_PER_S, times_ns
from zerocopy.ingest.values import SIDE, ValueRefused, records_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from zerocopy.core.layout import Dtypes
    from zerocopy.ingest.sources import Source
    from zerocopy.ingest.tables import Batch

INSTANT = "#instant"
"""Beside the columns: unix nanoseconds, of which `time` and `nanos` are made at the end."""

ROW_HASH = "#row"
"""Beside the columns: a hash of what the source has in the row besides them. Two trades of one
price at one time are no duplicates if their ids differ."""

Columns = dict[str, NDArray[Any]]
"""Arrays of one length by name: `INSTANT`, ours but for time and nanos, then `ROW_HASH`."""


_DAY_NS = DAY_S * NS_PER_S
_DAYS = 1 << 20  # more than there are; a key is a series and a day


class Part(NamedTuple):
    """Records of one series and day, in the order of the source."""

    exchange: str
    symbol: str
    type: str
    day: int
    columns: Columns


class Converter:
    """Turns the batches of one source into parts; `notes` and `losses` tell what was found."""

    def __init__(self, source: Source, recipe: Recipe, dtypes: Dtypes) -> None:
        self._source = source
        self._recipe = recipe
        self._dtypes = dtypes
        self.notes: Counter[str] = Counter()
        self.losses: dict[str, Loss] = {}
        self.rows = 0
        self._only_series: list[tuple[str, str]] = []
        self.writes_nanos = recipe.writes_nanos

    def convert(self, batch: Batch) -> Iterator[Part]:
        """The records of a batch.

        Raises:
            IngestError: a row breaks a rule; it names the line.
        """
        self.rows += batch.frame.height
        try:
            columns, rows = self._columns(batch.frame)
        except ValueRefused as refused:
            place = batch.place(refused.row)
            raise IngestError(f"{self._source.name}: {place}: {refused.why}") from refused
        yield from self._split(batch, columns, rows)

    def _columns(self, frame: pl.DataFrame) -> tuple[Columns, NDArray[np.intp] | None]:
        """The records, and the row of each; None where record i is of row i."""
        recipe = self._recipe
        found: set[str] = set()
        instants = times_ns(frame.get_column(recipe.time.column), recipe.time, found.add)
        for words in found:
            self.notes[words] = 1
        if not recipe.writes_nanos and (instants % NS_PER_S).any():
            row = int((instants % NS_PER_S != 0).argmax())
            words = f"has a part of a second, for which {recipe.type} has no column"
            raise ValueRefused(row, f"{words}: --map writes nanos")
        common = {INSTANT: instants}
        if recipe.others:
            # Resumed runs compare hashes of earlier ones: the seed is fixed.
            common[ROW_HASH] = frame.select(recipe.others).hash_rows(seed=0).to_numpy()
        made = [self._of_view(frame, view, common) for view in recipe.views]
        if len(made) == 1:
            return made[0]
        rows = np.concatenate([rows for _, rows in made if rows is not None])
        order = np.argsort(rows, kind="stable")
        names = made[0][0]
        whole = {name: np.concatenate([each[name] for each, _ in made])[order] for name in names}
        return whole, rows[order]

    def _of_view(
        self, frame: pl.DataFrame, view: View, common: Columns
    ) -> tuple[Columns, NDArray[np.intp] | None]:
        rows = None
        if view.needs is not None:
            is_there = frame.get_column(view.needs).is_not_null()
            frame = frame.filter(is_there)
            rows = np.flatnonzero(is_there.to_numpy())
            common = {name: column[rows] for name, column in common.items()}
        made = {INSTANT: common[INSTANT]}
        for ours, theirs in view.columns.items():
            dtype = self._dtypes.of(ours)
            if isinstance(theirs, int):
                made[ours] = np.full(frame.height, theirs, dtype.name)
                continue
            loss = self.losses.setdefault(ours, Loss())
            is_price = theirs in self._recipe.fixed_point
            try:
                series = frame.get_column(theirs)
                made[ours] = records_of(series, ours, dtype, loss, is_fixed_point=is_price)
            except ValueRefused as refused:
                row = refused.row if rows is None else int(rows[refused.row])
                raise ValueRefused(row, f"{ours}: {refused.why}") from refused
            if ours == SIDE:
                self.notes[_side_words(theirs)] = 1
        if NANOS in made:
            made[INSTANT] = _with_nanos(made[INSTANT], made.pop(NANOS))
        if ROW_HASH in common:
            made[ROW_HASH] = common[ROW_HASH]
        return made, rows

    def _split(
        self, batch: Batch, columns: Columns, rows: NDArray[np.intp] | None
    ) -> Iterator[Part]:
        names, codes = self._series(batch)
        instants = columns[INSTANT]
        if not len(instants):
            return
        type_ = self._recipe.type
        first, last = int(instants.min()) // _DAY_NS, int(instants.max()) // _DAY_NS
        if codes is None and first == last:
            yield Part(*names[0], type_, first, columns)
            return
        keys = instants // _DAY_NS
        if codes is not None:
            keys += (codes if rows is None else codes[rows]) * _DAYS
        if (keys[1:] < keys[:-1]).any():
            order = np.argsort(keys, kind="stable")
            keys = keys[order]
            columns = {name: column[order] for name, column in columns.items()}
        bounds = [0, *(np.flatnonzero(np.diff(keys)) + 1), len(keys)]
        for begin, end in pairwise(bounds):
            code, day = divmod(int(keys[begin]), _DAYS)
            cut = {name: column[begin:end] for name, column in columns.items()}
            yield Part(*names[code], type_, day, cut)

    def _series(self, batch: Batch) -> tuple[list[tuple[str, str]], NDArray[np.int64] | None]:
        """The exchanges and symbols of a batch, and which each row has; None where there is one."""
        import polars as pl  # noqa: PLC0415 - the extra `import`

        if self._only_series:
            return self._only_series, None
        recipe = self._recipe
        frame = batch.frame.select(
            exchange=_named(recipe.exchange, recipe.exchange_column),
            symbol=_named(recipe.symbol, recipe.symbol_column),
        )
        is_constant = recipe.exchange_column is None and recipe.symbol_column is None
        if is_constant:
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
        if is_constant:
            self._only_series = names
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


def _with_nanos(instants: NDArray[np.int64], nanos: NDArray[Any]) -> NDArray[np.int64]:
    """A column of nanoseconds goes beside times of whole seconds.

    Raises:
        ValueRefused: a time has a part of a second of its own, or nanos is a second or more.
    """
    if (instants % NS_PER_S).any():
        row = int((instants % NS_PER_S != 0).argmax())
        raise ValueRefused(row, "the time has a part of a second, and nanos is mapped")
    if (nanos >= NS_PER_S).any():
        row = int((nanos >= NS_PER_S).argmax())
        raise ValueRefused(row, f"nanos: {nanos[row]} is a second or more")
    return np.asarray(instants + nanos)


def _named(name: str | None, column: str | None) -> pl.Expr:
    import polars as pl  # noqa: PLC0415

    if column is None:
        return pl.lit(name, dtype=pl.String)
    # TrueFX writes EUR/USD where names of files have EURUSD; a slash is in no name of ours.
    text = pl.col(column).cast(pl.String)
    return text.str.replace_all("/", "", literal=True) if column == "pair" else text


def _side_words(column: str) -> str:
    return f"side from {column}: 0 where the taker buys, 1 where it sells"
