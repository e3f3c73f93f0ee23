"""Small answers to one client while another process keeps the same worker busy.

Owns the small answer, the process beside it, and the table. As in `fairness`, one connection asks
in a closed loop.
"""

from __future__ import annotations

import multiprocessing
import os
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.percentiles import percentiles, quantile
from bench.section import spread, told
from zerocopy.core.layout import DAY_S, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from multiprocessing.connection import Connection

    from bench.section import Table

RECORDS = 490
"""A small answer: 4 KB with its header line."""

_DAY = 20_000
TARGET = (
    f"/api/data?symbol=SMALL&type=MD&columns=time,price&start={_DAY * DAY_S}"
    f"&end={_DAY * DAY_S + RECORDS}"
)


@dataclass(frozen=True, slots=True)
class Beside:
    """Small answers: what each took, and how much the other process was given meanwhile."""

    took_us: tuple[float, ...]
    rate: float
    others_rate: float
    others_share: float


def make_small(root: str) -> None:
    """One closed day of a series that only `TARGET` asks for."""
    folder = os.path.join(root, "coinbase", "SMALL", "MD")
    os.makedirs(folder)
    begin = _DAY * DAY_S
    for column, kind, values in (
        ("time", "I", range(begin, begin + RECORDS)),
        ("price", "f", range(RECORDS)),
    ):
        with open(os.path.join(folder, file_name(column, _DAY)), "wb") as file:
            file.write(struct.pack(f"<{RECORDS}{kind}", *values))


@contextmanager
def meanwhile(work: Callable[..., None], *arguments: object) -> Iterator[list[Any]]:
    """`work(pipe, *arguments)` in a process of its own while the block runs; what it told then.

    It sends something once it is at work, goes on until something comes, and sends what it tells.

    Raises:
        EOFError: it failed, and has said why.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_work, args=(ours, theirs, work, arguments), daemon=True
    )
    process.start()
    theirs.close()
    given: list[Any] = []
    try:
        ours.recv()
        yield given
        ours.send(None)
        given.append(ours.recv())
    finally:
        ours.close()
        process.join()


def _work(
    ours: Connection, theirs: Connection, work: Callable[..., None], arguments: tuple[object, ...]
) -> None:
    ours.close()  # or the pipe would not end with the process that measures
    # The client whose time is taken gets the core at once. A process with a nice of 10 would keep
    # it for 0.7 ms.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    work(theirs, *arguments)


def tell(table: Table, rounds: Mapping[str, list[Beside]], what: str) -> None:
    """Rows of `alone` and `beside`, and the ratio of their 99th percentiles."""
    p99_us = {}
    for name, taken in rounds.items():
        found = percentiles([took for one in taken for took in one.took_us])
        p99_us[name] = found.p99_us
        by_round = [quantile(one.took_us, 990) for one in taken]
        table.rows.append(
            (
                *(name, told(found.p50_us)),
                f"{told(found.p99_us)} ({min(by_round):,.0f} to {max(by_round):,.0f})",
                told(found.p999_us),
                spread([one.rate for one in taken]),
                spread([one.others_rate for one in taken]),
            )
        )
    alone, beside = p99_us["alone"], p99_us["beside"]
    if alone and beside:
        table.verdicts.append(f"p99 beside {what} / alone: **{beside / alone:.2f}**.")
