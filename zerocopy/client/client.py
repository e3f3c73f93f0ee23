"""The client: methods that wait for their answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TypeVar
from weakref import WeakSet

from zerocopy.client import requests
from zerocopy.client.download import download
from zerocopy.client.fetch import Fetcher
from zerocopy.client.live import Live
from zerocopy.client.options import read_options
from zerocopy.client.progress import showing
from zerocopy.client.stop import Stop

if TYPE_CHECKING:
    import os
    from datetime import timedelta
    from pathlib import Path

    from zerocopy.client.frame import Frame
    from zerocopy.client.progress import Shown
    from zerocopy.client.requests import Call, Catalog, Columns, Symbols
    from zerocopy.client.times import TimeLike

Result = TypeVar("Result")


class Client:
    """A zerocopy server, as seen by one program.

    Safe to use from any number of threads: each request takes a connection of its own, which is
    kept for the next. Proxies named in the environment are not used.

    Args:
        url: where the server is, such as `https://data.example.com`; `$ZEROCOPY_URL` if None.
        key: sent as `Authorization: Bearer`. If None, it is `$ZEROCOPY_KEY` or the password of the
            server's host and `login zerocopy` in `~/.netrc`: see "Keys" in docs/client-python.md.
        ca: a PEM file of the authorities to trust instead of the system's.
        exchange: of every method that is not told another.
        timeout: seconds to wait for a connection and for each next byte, not for the whole.

    Raises:
        BadRequest: an argument is unusable.

    Example:
        with Client("http://127.0.0.1:8080") as client:
            frame = client.data("BTC-USD", "time,price", type="MD", start="2025-01-01")
            print(frame.to_polars())
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        ca: str | os.PathLike[str] | None = None,
        exchange: str = "coinbase",
        timeout: float = 30,
    ) -> None:
        self._options = read_options(url, key, ca, timeout)
        self._exchange = exchange
        self._fetcher = Fetcher(self._options)
        self._streams: WeakSet[Live] = WeakSet()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the live streams and close the kept connections; requests under way go on."""
        for stream in list(self._streams):
            stream.close()
        self._fetcher.close()

    def symbols(self, exchange: str | None = None) -> Symbols:
        """What the server has: `["symbols"]`, and `["exchanges"]` with the newest first.

        Args:
            exchange: list this one only.
        """
        return self._run(requests.symbols_call(exchange))

    def catalog(self, symbol: str, *, exchange: str | None = None) -> Catalog:
        """What there is of a symbol: `["types"]["MD"]` has its columns, days and gaps.

        Raises:
            NotFound: there is no such symbol.
        """
        return self._run(requests.catalog_call(exchange or self._exchange, symbol))

    def data(
        self,
        symbol: str,
        columns: Columns,
        *,
        type: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        exchange: str | None = None,
        progress: Shown = None,
    ) -> Frame:
        """Every record of a symbol from `start` to before `end`.

        A connection that breaks is resumed where it broke; if the data has changed meanwhile, it is
        fetched anew, so that a frame is always of one state.

        Args:
            symbol: such as `BTC-USD`.
            columns: names, `"time,price"` or a list; the frame keeps their order.
            type: such as `MD` or `TRADES`.
            start: inclusive; None is the beginning. See `TimeLike`.
            end: exclusive; None is the end.
            exchange: if it is not the client's.
            progress: None shows a bar in a terminal or notebook after a second, False none; a
                function is called with the bytes that have come and with all of them (None
                while that is unknown), at most twenty times a second, and once when all have come.

        Raises:
            BadRequest: a time or name is malformed.
            NotFound: exchange, symbol, type or column does not exist.
            ConnectionFailed: retries did not help.
        """
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        with showing(progress, symbol) as shown:
            return self._run(requests.data_call(of, start, end, shown))

    def bars(
        self,
        symbol: str,
        columns: Columns,
        *,
        type: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        interval: int | str | timedelta | None = None,
        max_points: int = 2000,
        exchange: str | None = None,
    ) -> Frame:
        """Bars over the records: `time` and, for `price`, `price.open`, `price.high` and so on.

        Args:
            symbol: such as `BTC-USD`.
            columns: a column, then what to take of it: `"price"` (open, high, low, close),
                `"price:open+close,volume:sum"`; of open, high, low, close, sum, mean, count, ohlc.
            type: such as `MD` or `TRADES`.
            start: inclusive; None is the beginning.
            end: exclusive; None is the end.
            interval: seconds, a timedelta, `"5m"`, `"1d"`; None chooses one of at most
                `max_points` bars. `frame.interval_s` tells which.
            max_points: 1 to 100,000.
            exchange: if it is not the client's.

        Raises:
            BadRequest: an argument is malformed, or there would be more than 100,000 bars.
            NotFound: exchange, symbol, type or column does not exist.
        """
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        return self._run(requests.bars_call(of, start, end, interval, max_points))

    def live(
        self,
        symbol: str,
        columns: Columns,
        *,
        type: str,
        start: TimeLike | None = None,
        cursor: str | None = None,
        exchange: str | None = None,
    ) -> Live:
        """Records as they are appended: an iterator of frames, each with its `cursor`.

        It begins at `cursor`, else at `start`, else now, which is when this method is called. A
        connection that breaks is opened again at the cursor: no record is lost, none comes twice.

        Raises:
            NotFound: exchange, symbol, type or column does not exist.
            Reset: by the iterator, if the day at the cursor was replaced; iterate on to continue.

        Example:
            with client.live("BTC-USD", "time,price", type="MD") as stream:
                for frame in stream:
                    print(frame["price"][-1], frame.cursor)
        """
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        stream = Live(self._options, requests.live_target(of, start), cursor)
        self._streams.add(stream)
        return stream

    def download(
        self,
        symbol: str,
        columns: Columns,
        path: str | os.PathLike[str],
        *,
        type: str,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        exchange: str | None = None,
        format: str | None = None,
        progress: Shown = None,
    ) -> Path:
        """The same records as a file, which appears under its name once it is whole.

        Until then it is `NAME.part`. A download that broke off is resumed by the next one of the
        same records, if they have not changed.

        Args:
            symbol: such as `BTC-USD`.
            columns: names, `"time,price"` or a list.
            path: of the file; one that exists is replaced.
            type: such as `MD` or `TRADES`.
            start: inclusive; None is the beginning.
            end: exclusive; None is the end.
            exchange: if it is not the client's.
            format: `columns`, `arrow`, `json`, `csv`, `parquet`; None takes it from the name:
                .bin, .arrows or .arrow (an IPC stream), .json, .csv, .parquet.
            progress: as in `data`.

        Returns:
            The path.

        Raises:
            BadRequest: an argument is malformed, or no format fits the name.
            WriteFailed: the file cannot be written.
        """
        of = requests.series(exchange or self._exchange, symbol, type, columns)
        with showing(progress, symbol) as shown:
            call = download(of, path, start, end, format, shown)
            return self._run(call)

    def __repr__(self) -> str:
        return f"Client({self._options.origin + self._options.prefix!r})"

    def _run(self, call: Call[Result]) -> Result:
        return self._fetcher.run(call, Stop())
