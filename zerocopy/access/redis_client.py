"""The Redis by which recorders tell servers of appends: how it is opened, and what is said of it.

Owns timeouts and the words for the operator. Counts of limits have a client of their own
(`redis_store.py`), which knows Sentinel and clusters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_S = 0.5
"""For a connection, and for an answer: a Redis that takes longer is away."""

SCHEMES = ("redis", "rediss", "unix")


def open_redis(url: str) -> Redis:
    """A client of the Redis at `url`, which asks it nothing yet, and never twice.

    Raises:
        ConfigError: the URL is none, or the package redis is not installed.
    """
    try:
        from redis import Redis  # noqa: PLC0415 - an extra
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "announcing needs the package redis: pip install 'zerocopy[auth]'"
        ) from None
    if url.partition("://")[0] not in SCHEMES:
        raise ConfigError("announcing needs the URL of a Redis: redis://, rediss:// or unix://")
    try:
        return Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:  # its text may quote the password
        raise ConfigError(
            "the URL of Redis cannot be read; in a password / is %2F, # is %23"
        ) from None


def reason_of(error: Exception) -> str:
    """What may be said of a fault of Redis: not the address, which may hold a password."""
    return str(error).partition("\n")[0][:200] or type(error).__name__
