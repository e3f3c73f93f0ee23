"""What a configuration says that needs Redis or counts: limits of one worker, and announcements.

What counts is imported only where something is limited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from zerocopy.access.limits import Limits
    from zerocopy.config.load import Config
    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler


def build_limits(config: Config, counters: Counters, counts_fd: int, row: int) -> Limits | None:
    """The limits of names and addresses; None where there are neither."""
    auth = config.auth
    if not (auth.is_on or auth.requests_per_s_per_address_max):
        return None
    from zerocopy.access.limits import Limits  # noqa: PLC0415
    from zerocopy.access.shared_counts import SharedCounts  # noqa: PLC0415

    counts = SharedCounts(counts_fd, row, asks_world=auth.limits_url is not None)
    counts.begin()
    return Limits(
        counts,
        counters,
        per_address_max=auth.requests_per_s_per_address_max,
        fails_closed=auth.limits_url is not None and auth.limits_fail == "closed",
    )


def limit_addresses(handler: Handler, config: Config, limits: Limits | None) -> Handler:
    """`handler`, behind the limit of requests an address where there is one."""
    if limits is None or not config.auth.requests_per_s_per_address_max:
        return handler
    from zerocopy.service.guard.limited import LimitedService  # noqa: PLC0415

    return LimitedService(handler, limits, config.auth.address_field)


def check_announce(config: Config) -> None:
    """Assure that `[live] announce` can be listened to; asks nobody.

    Raises:
        ConfigError: it cannot.
    """
    if config.live.announce is not None:
        from zerocopy.access.redis_client import open_redis  # noqa: PLC0415 - an extra

        try:
            open_redis(config.live.announce).close()
        except ConfigError as error:
            raise ConfigError(f"[live] announce: {error.detail}") from None
