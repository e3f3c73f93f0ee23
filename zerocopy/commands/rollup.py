"""`zerocopy rollup`: make the roll-ups of /api/bars ahead of queries.

Owns the choice of day files, the processes and the progress bar. A roll-up that is there and true
is not made again, so a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    counting,
    read_config,
    terminal,
)
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from rich.console import Console

    from zerocopy.config.load import Config
    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.catalog import Listing
    from zerocopy.storage.rollup_making import Maker
    from zerocopy.storage.rollups import DaySource, Rollups
    from zerocopy.storage.tree import Series

TASKS_MAX = 1_000
"""Days that are given to the processes at once: each takes some KB until it is done."""

MEANINGS = {
    "made": "made",
    "there": "were there",
    "later": "of days that are open or cannot be read",
    "never": "not worth one: few records, text, or times that do not ascend",
}
"""What to call each `Outcome`."""


class _Task(NamedTuple):
    """The columns of one day of a series."""

    series: Series
    day: int
    columns: tuple[str, ...]


def rollup(
    exchange: Annotated[
        str | None, typer.Option("--exchange", "-e", metavar="NAME", help="Only this exchange.")
    ] = None,
    symbol: Annotated[
        str | None, typer.Option("--symbol", metavar="NAME", help="Only this symbol.")
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="NAME", help="Only this type.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Only these; else all of numbers, without time."),
    ] = None,
    processes: Annotated[
        int, typer.Option(metavar="N", min=0, max=1024, help="At once; 0: one a core.")
    ] = 0,
    path: Annotated[
        str | None, typer.Option("--path", metavar="DIR", help="Where they go: rollups.path.")
    ] = None,
    config: ConfigOption = None,
    data_path: DataOption = None,
) -> None:
    """Compute bars of closed days ahead, so that /api/bars need not read their records.

    Interrupt it at any time: the next run goes on. Exit code 1 when they cannot be written.
    Above rollups.disk_bytes_max those that were not used for longest are deleted.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    loaded = read_config(config, {"data.path": data_path, "rollups.path": path})
    from zerocopy.config.places import rollup_place

    if rollup_place(loaded).path is None:
        raise ConfigError("[rollups] path is not set: name a directory there, or by --path")
    tasks = list(_tasks(loaded, (exchange, symbol, type_), columns))
    count = min(processes or len(os.sched_getaffinity(0)), max(1, len(tasks)))
    # Spawned, because forking a process that has threads is not safe.
    with ProcessPoolExecutor(count, get_context("spawn"), _begin, (loaded,)) as executor:
        try:
            _make_all(tasks, executor, terminal())
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _tasks(config: Config, names: tuple[str | None, ...], columns: str | None) -> Iterator[_Task]:
    """The days that were chosen, each with the columns that it has."""
    from zerocopy.core.layout import TIME_COLUMN, Dtypes
    from zerocopy.core.query import check_name
    from zerocopy.storage.tree import Series

    chosen = None if columns is None else {check_name("columns", c) for c in columns.split(",")}
    for field, name in zip(Series._fields, names, strict=True):
        if name is not None:
            check_name(field, name)
    dtypes = Dtypes(config.columns)
    listed = _listings if config.store_url is None else _stored_listings
    for series, listing in listed(config, *names):
        for day in listing.days:
            there = listing.columns_of(day)
            wanted = there - {TIME_COLUMN} if chosen is None else there & chosen
            numbers = sorted(c for c in wanted if not dtypes.of(c).name.startswith("|S"))
            if numbers and TIME_COLUMN in there:
                yield _Task(series, day, tuple(numbers))


def _listings(
    config: Config, exchange: str | None, symbol: str | None, type_: str | None
) -> Iterator[tuple[Series, Listing]]:
    """The days of each series below the root that was chosen."""
    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.catalog import Catalog
    from zerocopy.storage.contents import Contents
    from zerocopy.storage.symbols.walk import list_symbols
    from zerocopy.storage.tree import Series, open_series

    catalog, contents = Catalog(), Contents(config.root, Dtypes(config.columns))
    for market, entries in list_symbols(config.root, exchange).items():
        for entry in entries:
            if symbol not in (None, entry.symbol):
                continue
            types = contents.of(market, entry.symbol)["types"]
            for name in types if type_ is None else types.keys() & {type_}:
                series = Series(market, entry.symbol, name)
                with open_series(config.root, series) as directory_fd:
                    yield series, catalog.listing(series, directory_fd)


def _stored_listings(
    config: Config, exchange: str | None, symbol: str | None, type_: str | None
) -> Iterator[tuple[Series, Listing]]:
    """The same of an object store."""
    from zerocopy.storage.tree import Series
    from zerocopy.supervise.compose_store import build_stored

    stored = build_stored(config)
    for market, entries in stored.names.listed(exchange).items():
        for entry in entries:
            if symbol not in (None, entry.symbol):
                continue
            for name in stored.names.types(market, entry.symbol):
                if type_ in (None, name):
                    series = Series(market, entry.symbol, name)
                    yield series, stored.listings.of(series).days


def _make_all(tasks: list[_Task], executor: Executor, console: Console) -> None:
    outcomes = Counter[str]()
    deleted = 0
    with counting("day files", console) as progress:
        bar = progress.add_task("rolling up", total=sum(len(task.columns) for task in tasks))
        for at in range(0, len(tasks), TASKS_MAX):
            for done in executor.map(_make, tasks[at : at + TASKS_MAX]):
                outcomes.update(done.outcomes)
                deleted += done.deleted
                progress.advance(bar, len(done.outcomes))
        deleted += executor.submit(_trim).result()
    for outcome, meaning in MEANINGS.items():
        if outcomes[outcome]:
            console.print(f"{outcomes[outcome]:,} {meaning}", highlight=False)
    if deleted:
        console.print(f"{deleted:,} deleted: more than [rollups] disk_bytes_max", markup=False)
    if not outcomes:
        console.print("no day files were chosen")


# ---- in a process of its own


class _Done(NamedTuple):
    """What came of each column of a task, and how many files were deleted for it."""

    outcomes: list[str]
    deleted: int


class _Tools(NamedTuple):
    """What a process needs for its tasks."""

    maker: Maker
    dtypes: Dtypes
    rollups: Rollups
    counters: list[int]


_tools: _Tools
"""Set in each process by `_begin`."""


def _begin(config: Config) -> None:
    """Get a process ready. Ctrl-C ends the command, which ends its processes."""
    import signal

    from zerocopy.config.places import rollup_place
    from zerocopy.core.counters import SLOTS
    from zerocopy.core.layout import Dtypes
    from zerocopy.core.settling import Settling
    from zerocopy.storage.rollup_making import Maker
    from zerocopy.storage.rollups import Rollups

    def refuse(sentence: str) -> None:
        raise ConfigError(sentence)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    place = rollup_place(config)
    counters = [0] * len(SLOTS)
    rollups = Rollups(
        bytes_max=0,
        path=place.path,
        disk_bytes_max=place.bytes_max,
        counters=counters,
        on_unwritable=refuse,
    )
    settling = Settling(config.data.settle_s, config.data.gap_days)
    maker = Maker(_source(config), settling, rollups)
    global _tools  # noqa: PLW0603 - what a process has, its tasks find here
    _tools = _Tools(maker, Dtypes(config.columns), rollups, counters)


def _source(config: Config) -> DaySource:
    """Where the day files are; those of an object store are fetched."""
    from zerocopy.storage.rollups import TreeDays

    if config.store_url is None:
        return TreeDays(config.root)
    from zerocopy.storage.store.days import StoredDays
    from zerocopy.supervise.compose_store import build_stored

    stored = build_stored(config)
    return StoredDays(stored.listings, stored.fetcher, stored.files, fetches=True)


def _make(task: _Task) -> _Done:
    """What came of each column."""
    from zerocopy.storage.rollup_file import Key

    before = _deleted()
    outcomes: list[str] = [
        _tools.maker.make(Key(task.series, task.day, column), _tools.dtypes.of(column))
        for column in task.columns
    ]
    return _Done(outcomes, _deleted() - before)


def _trim() -> int:
    """Have no more files than are to be kept; how many were deleted."""
    before = _deleted()
    _tools.rollups.trim()
    return _deleted() - before


def _deleted() -> int:
    from zerocopy.core.counters import ROLLUP_FILES_DELETED

    return _tools.counters[ROLLUP_FILES_DELETED]
