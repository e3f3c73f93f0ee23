"""Where the directories are that options of several tables bound, and how large each may be.

Owns that arithmetic, for the server, its commands and the doctor. It must never look at a disk.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from zerocopy.config.load import Config

ROLLUP_SHARE = 16
"""Of the cache of an object store: what roll-ups may take of it at most."""


class Place(NamedTuple):
    """A directory, None for none, and the bytes that may lie in it."""

    path: str | None
    bytes_max: int


def rollup_place(config: Config) -> Place:
    """Where roll-ups are kept: over an object store in its cache, unless somewhere else is named.

    Example:
        >>> from zerocopy.config.load import Config
        >>> rollup_place(Config())
        Place(path=None, bytes_max=10737418240)
    """
    most = config.rollups.disk_bytes_max
    if config.rollups.path is not None or config.s3.cache_path is None or not config.store_url:
        return Place(config.rollups.path, most)
    share = config.s3.cache_bytes_max // ROLLUP_SHARE
    return Place(os.path.join(config.s3.cache_path, "rollups"), min(most, share))


def copies_bytes_max(config: Config) -> int:
    """Bytes that copies of an object store may take of its cache: what roll-ups leave of it."""
    place = rollup_place(config)
    inside = place.bytes_max if config.rollups.path is None and place.path is not None else 0
    return config.s3.cache_bytes_max - inside
