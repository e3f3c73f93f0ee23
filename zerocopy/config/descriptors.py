"""How many descriptors a worker needs beside those of its connections.

Owns that sum, for the worker that takes them and for `zerocopy doctor`, which tells beforehand
whether the system gives them. It must never know how many the system gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.bars import COMPUTING_THREADS
from zerocopy.core.plan import (
    BODIES_MAX,
    ENCODING_THREADS,
    HELD_FILES_MAX,
    LIVE_FETCHING_THREADS,
    LIVE_FILES,
    LIVE_LOOKS_KEPT,
    LIVE_THREADS,
)
from zerocopy.core.window import GATHERED_SLICES_MAX, GATHERERS_MAX, WINDOW_SLICES_MAX

if TYPE_CHECKING:
    from zerocopy.config.load import Config

DIRECTORY_DESCRIPTORS = 2
"""Descriptors of directories that a thread holds: a step of the way down, and the one above it."""

READING_DESCRIPTORS = 2 * WINDOW_SLICES_MAX + DIRECTORY_DESCRIPTORS
"""Descriptors one reading thread may hold: of each file its own and its mapping's."""

GATHERING_DESCRIPTORS = GATHERED_SLICES_MAX + 1 + DIRECTORY_DESCRIPTORS
"""Descriptors one gathering may hold: those lent to it, also while it waits, and one it opens."""

STORE_DESCRIPTORS = 7
"""Descriptors a thread may hold that fetches a file of an object store: the lock, the copy, the
copy opened, and a socket for each of four parts."""

OWN_DESCRIPTORS = 128
"""Descriptors of the worker itself and of the connections that are being refused, with a margin."""


def planner_threads(config: Config) -> int:
    """Threads that plan: those that wait for an object store do not hold up the others."""
    return config.limits.planner_threads + _waiting_threads(config)


def reader_threads(config: Config) -> int:
    """Threads that read: the same, so what is in the cache does not wait for what is not."""
    return config.limits.reader_threads + _waiting_threads(config)


def _waiting_threads(config: Config) -> int:
    return 0 if config.store_url is None else config.s3.fetch_threads


def plan_descriptors(columns_max: int) -> int:
    """Descriptors one plan may hold while it is made: what it keeps, and a day that it reads.

    All of a day is open at once, `time` and each column.
    """
    return HELD_FILES_MAX + 1 + columns_max + DIRECTORY_DESCRIPTORS


def live_descriptors(config: Config) -> int:
    """Descriptors for live streams: of the newest days, and of others that readers catch up on."""
    day = 1 + config.limits.columns_max + DIRECTORY_DESCRIPTORS
    looks = LIVE_LOOKS_KEPT + (LIVE_THREADS if config.store_url is None else LIVE_FETCHING_THREADS)
    return config.live.series_max * LIVE_FILES + looks * day


def descriptors_kept(config: Config) -> int:
    """Descriptors for day files and plans; idle connections could otherwise take all of them."""
    limits = config.limits
    kept = config.memory.open_files_max + GATHERERS_MAX * GATHERING_DESCRIPTORS
    threads = planner_threads(config) + COMPUTING_THREADS + ENCODING_THREADS
    kept += threads * plan_descriptors(limits.columns_max)
    readers = reader_threads(config)
    kept += readers * READING_DESCRIPTORS
    kept += BODIES_MAX
    kept += live_descriptors(config)
    if config.store_url is not None:
        kept += STORE_DESCRIPTORS * (threads + readers + config.s3.fetch_threads)
    if config.listeners().tls_port is not None:
        kept += config.memory.mapped_files_max  # mmap(2) in Python keeps a descriptor of its own
    return kept
