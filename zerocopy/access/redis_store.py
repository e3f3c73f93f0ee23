"""The store of limits in Redis or Valkey, by the `limits` library.

Owns what the server asks of that library: one script that adds and expires, and its ways to a
server, to Sentinel and to a cluster. One server gets all of an exchange in one round trip. It
blocks, for at most `TIMEOUT_S` a round trip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limits.errors import ConfigurationError
from limits.storage import RedisStorage, storage_from_string
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from zerocopy.access.exchange import AwayError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 0.5
"""For a connection, and for an answer: a store that takes longer is away."""

PROBE_S = 60
"""Seconds that the store keeps what `check` writes: a full one would answer a PING."""

_FAILED = (RedisError, RedisClusterException, OSError)
"""A cluster of which no node answers is no RedisError."""
_NONE = (ConfigurationError, ValueError)
"""Of a URL that has a scheme of Redis and is none. Their text may quote its password."""

_NO_URL = "[auth] limits_url is no URL of its scheme; in a password / is %2F, # is %23, % is %25"


class RedisStore:
    """See `Store`; `url` is one of the library's, such as `redis://host:port/database`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._storage: Any = None  # made by the first exchange, for a cluster is asked at once

    def add(self, amounts: Sequence[tuple[str, int, int]]) -> list[int]:
        """See `Store`."""
        try:
            storage = self._connect()
            if type(storage) is not RedisStorage:  # a cluster has no script in a pipeline
                return [storage.incr(key, expiry, amount) for key, expiry, amount in amounts]
            with storage.storage.pipeline(transaction=False) as pipe:
                for key, expiry, amount in amounts:
                    storage.lua_incr_expire([storage.prefixed_key(key)], [expiry, amount], pipe)
                return [int(total) for total in pipe.execute()]
        except _FAILED as error:
            raise AwayError(str(error)) from error
        except _NONE:
            raise AwayError(_NO_URL) from None

    def check(self) -> None:
        """See `Store`."""
        try:
            self._connect().incr("probe", PROBE_S, 0)
        except _FAILED as error:
            raise AwayError(str(error)) from error
        except _NONE:
            raise AwayError(_NO_URL) from None

    def _connect(self) -> Any:
        if self._storage is None:
            # An exchange that has failed comes again by itself. Retries of the library would delay
            # the moment at which the store is known to be away, and send twice what was sent.
            options: dict[str, Any] = {
                "socket_timeout": TIMEOUT_S,
                "socket_connect_timeout": TIMEOUT_S,
                "retry": Retry(NoBackoff(), 0),
            }
            if self._url.partition("://")[0].endswith("+sentinel"):
                # Else they have the library's: ten attempts of 5 s each.
                options["sentinel_kwargs"] = dict(options)
            self._storage = storage_from_string(self._url, key_prefix="zerocopy", **options)
        return self._storage
