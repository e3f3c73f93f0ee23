"""How many descriptors a worker needs beside those of its connections.

Owns that sum, for the worker that takes them and for `zerocopy doctor`, which tells beforehand
whether the system gives them. It must never know how many the system gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.window import WINDOW_SLICES_MAX

if TYPE_CHECKING:
    from zerocopy.config import Config

PLAN_DESCRIPTORS = 160
"""Descriptors one plan may hold while it is made: 128 files, the columns of a day, directories."""

READING_DESCRIPTORS = 2 * WINDOW_SLICES_MAX + 2
"""Descriptors one reading thread may hold: of each file its own and its mapping's."""

OWN_DESCRIPTORS = 128
"""Descriptors of the worker itself and of the connections that are being refused, with a margin."""


def descriptors_kept(config: Config) -> int:
    """Descriptors for day files and plans; idle connections could else leave none for an answer."""
    kept = config.memory.open_files_max + config.limits.planner_threads * PLAN_DESCRIPTORS
    kept += config.limits.reader_threads * READING_DESCRIPTORS
    if config.listeners().tls_port is not None:
        kept += config.memory.mapped_files_max  # mmap(2) in Python keeps a descriptor of its own
    return kept
