"""`zerocopy prefetch`: files of an object store into the cache, ahead of queries.

Owns the choice of files, and what is said of them. What is fetched is what queries would fetch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    counting,
    read_config,
    terminal,
)
from zerocopy.core.errors import ConfigError, StoreError, ZerocopyError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zerocopy.storage.store.fetching import StoredFile
    from zerocopy.supervise.compose_store import Stored


def prefetch(
    config: ConfigOption = None,
    data_path: DataOption = None,
    exchange: Annotated[str | None, typer.Option("--exchange", "-e", metavar="NAME")] = None,
    symbol: Annotated[str | None, typer.Option("--symbol", "-s", metavar="NAME")] = None,
    type_: Annotated[str | None, typer.Option("--type", "-t", metavar="NAME")] = None,
    columns: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Comma separated; else all of them.")
    ] = None,
    last_days: Annotated[
        int | None, typer.Option("--last-days", min=1, help="Only the newest days of each type.")
    ] = None,
) -> int:
    """Fetch day files of an object store into the cache, ahead of queries.

    Those that are there are left alone, so an interrupted run goes on. The bound of the cache
    holds: what does not fit takes the place of what was not used for longest. Exit code 1 when
    files could not be fetched.
    """
    from zerocopy.core.query import check_name
    from zerocopy.supervise.compose_store import build_stored

    loaded = read_config(config, {"data.path": data_path})
    if loaded.store_url is None:
        raise ConfigError(f"[data] path: {loaded.data.path} is no object store")
    for field, name in (("exchange", exchange), ("symbol", symbol), ("type", type_)):
        if name is not None:
            check_name(field, name)
    chosen = None if columns is None else {check_name("columns", c) for c in columns.split(",")}
    stored = build_stored(loaded)
    wanted = list(_wanted(stored, (exchange, symbol, type_), chosen, last_days))
    done = _fetch_all(stored, wanted, loaded.s3.fetch_threads)
    if not wanted:
        terminal().print("no day files were chosen")
        return 0
    nbytes = sum(each.size for each in wanted)
    terminal().print(f"{done:,} of {len(wanted):,} files of {nbytes:,} bytes are in the cache")
    return 0 if done == len(wanted) else 1


def _wanted(
    stored: Stored,
    names: tuple[str | None, str | None, str | None],
    chosen: set[str] | None,
    last_days: int | None,
) -> Iterator[StoredFile]:
    """The files that were chosen, oldest day first: the newest are to stay longest."""
    from zerocopy.core.layout import TIME_COLUMN, file_name
    from zerocopy.storage.store.fetching import StoredFile
    from zerocopy.storage.tree import Series

    exchange, symbol, type_ = names
    for market, entries in stored.names.listed(exchange).items():
        for entry in sorted(entries):
            if symbol not in (None, entry.symbol):
                continue
            for name in stored.names.types(market, entry.symbol):
                if type_ not in (None, name):
                    continue
                series = Series(market, entry.symbol, name)
                listing = stored.listings.of(series)
                for day in listing.days.days[-(last_days or 0) :]:
                    there = listing.days.columns_of(day)
                    columns = there if chosen is None else there & (chosen | {TIME_COLUMN})
                    for column in sorted(columns):
                        yield StoredFile(
                            stored.files,
                            series,
                            file_name(column, day),
                            listing.entry(column, day),
                            is_closed=True,
                            lost=[],
                        )


def _fetch_all(stored: Stored, wanted: list[StoredFile], threads: int) -> int:
    """Fetch by several threads. Returns how many are there; faults are told, each kind once."""
    from zerocopy.storage.dayfile import Fetched

    told: set[str] = set()

    def fetch(day_file: StoredFile) -> bool:
        try:
            Fetched(day_file.stamp, stored.fetcher.fetch(day_file)).close()
        except ZerocopyError as error:
            detail = error.detail if isinstance(error, StoreError) else str(error)
            if detail not in told:
                told.add(detail)
                tell(f"zerocopy: {day_file.key_in_store}: {detail}")
            return False
        return True

    done = 0
    with counting("files", terminal(), is_left=False) as progress:
        bar = progress.add_task("fetching", total=len(wanted))
        with ThreadPoolExecutor(threads) as executor:
            for is_there in executor.map(fetch, wanted):
                done += is_there
                progress.advance(bar)
    return done
