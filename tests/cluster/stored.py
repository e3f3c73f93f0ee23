"""Nodes over an object store, each with a cache of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster.front import Node
from tests.standin import BUCKET, environ_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standin import Standin

CLOSED_S = 1_700_000_000
"""A modification time that makes a past day a closed one."""


def node_over(url: str, cache: Path, **environ: str) -> Node:
    """A node over the store that listens there, with a cache of its own."""
    return Node(f"s3://{BUCKET}/p", **{**environ_of(url, cache), **environ})


def put(bucket: Standin, exchange: str, symbol: str, time: bytes, price: bytes) -> None:
    """A closed day of a symbol."""
    for column, content in (("time", time), ("price", price)):
        bucket.put(f"p/{exchange}/{symbol}/MD/{column}.01.01.70.bin", content, CLOSED_S)
