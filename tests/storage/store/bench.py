"""A planner over the stand-in for S3, as one node has it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.standin import BUCKET, CREDENTIALS, Standin
from tests.storage.trees import DTYPES, GENEROUS, SERIES, body_of, query
from zerocopy.core.counters import SLOTS
from zerocopy.core.layout import Dtypes
from zerocopy.core.settling import Settling
from zerocopy.formats.columns import represent
from zerocopy.storage.store.breaker import Breaker
from zerocopy.storage.store.cache import CacheDirectory
from zerocopy.storage.store.contents import StoreContents
from zerocopy.storage.store.fetching import Fetcher, StoredFile, StoredFiles
from zerocopy.storage.store.listings import Listings
from zerocopy.storage.store.names import StoreNames
from zerocopy.storage.store.objectstore import ObjectStore
from zerocopy.storage.store.planner import StorePlanner
from zerocopy.storage.store.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from zerocopy.core.query import Query
    from zerocopy.storage.planner import Planned

LIST_S = 60.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        """The time."""
        return self.now_s


class Ticking(Clock):
    """A clock that no two calls see at the same time, as two listings never do."""

    def __call__(self) -> float:
        """The time."""
        self.now_s += 0.001
        return self.now_s


def use_credentials(patch: pytest.MonkeyPatch) -> None:
    """Set what obstore takes from the environment."""
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)


def store_of(bucket: Standin, breaker: Breaker | None = None, **options: Any) -> ObjectStore:
    """The store behind the stand-in, below the prefix `p`."""
    return ObjectStore(
        f"s3://{BUCKET}/p",
        breaker or Breaker(),
        endpoint=bucket.url,
        allow_http=True,
        **{"timeout_s": 30.0, **options},
    )


class Node:
    """One server's parts. Two with different `path` are two nodes, with the same two workers."""

    def __init__(
        self, bucket: Standin, path: str, *, small_bytes_max: int = GENEROUS, **options: Any
    ) -> None:
        self.counters = [0] * len(SLOTS)
        tally = self.tally = Tally(self.counters)
        self.clock = options.pop("clock", None) or Clock()
        self.breaker = Breaker(self.clock)
        cache_bytes_max = options.pop("cache_bytes_max", GENEROUS)
        ahead_bytes_max = options.pop("ahead_bytes_max", 1 << 26)
        self.store = store_of(bucket, self.breaker, **options)
        self.cache = CacheDirectory(path, cache_bytes_max, tally)
        self.listings = Listings(self.store, path, LIST_S, self.clock, tally)
        self.names = StoreNames(self.store, path, LIST_S, self.clock, tally)
        self.fetcher = Fetcher(
            self.store, self.cache, threads=4, ahead_bytes_max=ahead_bytes_max, tally=tally
        )
        self.files = StoredFiles(self.fetcher, 64)
        dtypes = Dtypes(DTYPES)
        self.contents = StoreContents(self.listings, self.names, self.fetcher, self.files, dtypes)
        self.planner = StorePlanner(
            listings=self.listings,
            names=self.names,
            fetcher=self.fetcher,
            files=self.files,
            breaker=self.breaker,
            dtypes=dtypes,
            settling=Settling(600, 7),
            days_max=50_000,
            segments_max=200_000,
            small_answer_bytes_max=small_bytes_max,
        )

    def plan(self, wanted: Query | None = None) -> Planned:
        """Plan, and adopt what is held, as the service does."""
        planned = self.planner.plan(wanted or query(), represent)
        for day_file, fd in planned.held:
            self.files.adopt(day_file, fd)
        return planned

    def body(self, wanted: Query | None = None) -> bytes:
        """The whole body of an answer, each file fetched before it is read, as by a thread."""
        planned = self.plan(wanted)
        for segment in planned.representation.segments if planned.content is None else ():
            if isinstance(segment.source, StoredFile):
                self.files.keep(segment.source, self.files.fetch(segment.source))
        return body_of(planned)


@contextmanager
def node(bucket: Standin, path: str, **options: Any) -> Iterator[Node]:
    """A `Node` that gives its descriptors back."""
    opened = Node(bucket, path, **options)
    try:
        yield opened
    finally:
        opened.fetcher.close()
        opened.files.close()


def key(name: str) -> str:
    """The key of a file of `SERIES`."""
    return "/".join(("p", *SERIES, name))
