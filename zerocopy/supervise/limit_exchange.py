"""The thread of the supervisor that exchanges the counts of limits with other servers.

Owns when that happens, and what is said of a store that is away. Workers never wait for it: they
read the shared counts, and by the time of the last exchange they know whether it is away.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from zerocopy.access.exchange import AwayError, Exchange
from zerocopy.core.errors import ConfigError
from zerocopy.observe.log import get_logger

if TYPE_CHECKING:
    from zerocopy.observe.metrics import Collector

EXCHANGE_S = 0.1
"""Seconds between two exchanges: a tenth of the shortest window."""

RETRY_S = 0.5
"""Seconds until the store is asked again while it is away."""

_log = get_logger(__name__)


class LimitExchange:
    """Exchanges the counts in `counts_fd` while there is a store."""

    def __init__(self, counts_fd: int, collector: Collector) -> None:
        self._counts_fd = counts_fd
        self._collector = collector
        self._url: str | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def configure(self, url: str | None) -> None:
        """Exchange with the store at `url` from now on; None: with nobody.

        Raises:
            ConfigError: the URL is none, or the extra is not installed.
        """
        if url == self._url:
            return
        exchange = None if url is None else _make(self._counts_fd, url)
        self.stop()
        self._url, self._stopped = url, threading.Event()
        self._collector.limits_store_up = None if url is None else False
        if exchange is not None:
            self._thread = threading.Thread(
                target=self._run, args=(exchange, self._stopped), name="limits", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Exchange no more; waits for the exchange under way, which has a time-out."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, exchange: Exchange, stopped: threading.Event) -> None:
        away_since_s: float | None = None
        while True:
            try:
                exchange.step()
            except Exception as error:  # noqa: BLE001 - a thread that ends would limit for ever
                self._collector.limits_store_up = False
                if away_since_s is None:
                    away_since_s = time.monotonic()
                    is_known = isinstance(error, AwayError)
                    _log.error("limits_store_away", reason=str(error) if is_known else repr(error))
            else:
                self._collector.limits_store_up = True
                if away_since_s is not None:
                    away_s = round(time.monotonic() - away_since_s, 3)
                    away_since_s = None
                    _log.info("limits_store_back", away_s=away_s)
            if stopped.wait(EXCHANGE_S if away_since_s is None else RETRY_S):
                return


def _make(counts_fd: int, url: str) -> Exchange:
    try:
        from zerocopy.access.redis_store import RedisStore  # noqa: PLC0415 - where there is a store
    except ImportError as error:
        raise ConfigError(
            "[auth] limits_url needs two more packages: pip install 'zerocopy[auth]'"
        ) from error
    return Exchange(counts_fd, RedisStore(url))
