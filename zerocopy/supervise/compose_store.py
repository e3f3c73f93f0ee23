"""What serves an object store: built where `[data] path` is a URL, and only then."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.config.places import copies_bytes_max
from zerocopy.core.errors import ConfigError
from zerocopy.core.layout import Dtypes
from zerocopy.core.settling import Settling
from zerocopy.storage.store.breaker import Breaker
from zerocopy.storage.store.cache import CacheDirectory
from zerocopy.storage.store.checking import CacheCheck
from zerocopy.storage.store.checks import start_of
from zerocopy.storage.store.contents import StoreContents, StoreSymbols
from zerocopy.storage.store.fetching import Fetcher, StoredFiles
from zerocopy.storage.store.following import StoreFollower
from zerocopy.storage.store.listings import Listings
from zerocopy.storage.store.names import StoreNames
from zerocopy.storage.store.objectstore import ObjectStore
from zerocopy.storage.store.planner import StorePlanner
from zerocopy.storage.store.tally import Tally

if TYPE_CHECKING:
    from zerocopy.config.load import Config
    from zerocopy.core.counters import Counters
    from zerocopy.storage.mapping import MappedFiles
    from zerocopy.storage.rollups import Rollups


class Stored(NamedTuple):
    """The parts that take the places of those over local files."""

    files: StoredFiles
    planner: StorePlanner
    symbols: StoreSymbols
    contents: StoreContents
    names: StoreNames
    listings: Listings
    fetcher: Fetcher
    follower: StoreFollower
    check: CacheCheck


def begin_cache(config: Config) -> None:
    """A server starts: what lies in its cache is believed no more until it was checked.

    Raises:
        ConfigError: the cache cannot be written.
    """
    path = os.path.dirname(config.root)
    try:
        os.makedirs(path, exist_ok=True)
        start_of(path, is_new=True)
    except OSError as error:
        raise _unusable(path, error) from None


def open_store(
    config: Config, breaker: Breaker | None = None, url: str | None = None
) -> ObjectStore:
    """The object store at `url`, else that which `config` names; nothing is asked of it yet.

    Raises:
        ConfigError: its library is not installed, or the URL is none of its.
    """
    url = url or config.store_url
    assert url is not None, "there is one"
    return ObjectStore(
        url,
        breaker or Breaker(),
        endpoint=config.s3.endpoint,
        region=config.s3.region,
        allow_http=config.s3.allow_http,
        timeout_s=config.s3.timeout_s,
        check_md5=config.s3.check_md5,
    )


def build_names(config: Config, counters: Counters) -> StoreNames:
    """The names in the object store, for who asks by itself what there is.

    Raises:
        ConfigError: it cannot be used.
    """
    path = os.path.dirname(config.root)
    return StoreNames(open_store(config), path, config.s3.list_s, tally=Tally(counters))


def build_stored(
    config: Config,
    counters: Counters | None = None,
    mapped: MappedFiles | None = None,
    rollups: Rollups | None = None,
) -> Stored:
    """What serves the object store that `config` names.

    Raises:
        ConfigError: it cannot be used, or the cache cannot be written.
    """
    breaker, tally, path = Breaker(), Tally(counters), os.path.dirname(config.root)
    store = open_store(config, breaker)
    try:
        cache = CacheDirectory(path, copies_bytes_max(config), tally)
        listings = Listings(store, path, config.s3.list_s, tally=tally)
        names = StoreNames(store, path, config.s3.list_s, tally=tally)
    except OSError as error:
        raise _unusable(path, error) from None
    fetcher = Fetcher(
        store,
        cache,
        threads=config.s3.fetch_threads,
        ahead_bytes_max=config.s3.read_ahead_bytes_max,
        tally=tally,
    )
    files = StoredFiles(fetcher, config.memory.open_files_max, mapped)
    dtypes = Dtypes(config.columns)
    planner = StorePlanner(
        listings=listings,
        names=names,
        fetcher=fetcher,
        files=files,
        breaker=breaker,
        dtypes=dtypes,
        settling=Settling(config.data.settle_s, config.data.gap_days),
        days_max=config.limits.days_max,
        segments_max=config.limits.segments_max,
        small_answer_bytes_max=config.limits.small_answer_bytes_max,
        rollups=rollups,
    )
    contents = StoreContents(listings, names, fetcher, files, dtypes)
    follower = StoreFollower(
        listings,
        names,
        fetcher,
        files,
        dtypes,
        settle_s=config.data.settle_s,
        lines_max=config.live.series_max,
    )
    symbols = StoreSymbols(names)
    check = CacheCheck(cache, listings, path, config.s3.check_bytes_per_s_max, tally)
    return Stored(files, planner, symbols, contents, names, listings, fetcher, follower, check)


def _unusable(path: str, error: OSError) -> ConfigError:
    return ConfigError(f"[s3] cache_path: {path} cannot be used: {error.strerror}")
