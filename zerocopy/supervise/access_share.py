"""What all workers of a server share to know who asks: the secret of tickets, the key set.

Owns both for every generation. The secret of this start outlives reloads, so a ticket of an old
worker opens a request to a new one. A generation with the same URL as the one before goes on with
what that has fetched.
"""

from __future__ import annotations

import secrets
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import ConfigError
from zerocopy.supervise.key_set import KeySetFetcher, check_url, is_url

if TYPE_CHECKING:
    from zerocopy.config.load import Config
    from zerocopy.observe.metrics import Collector

_SECRET_BYTES = 32


class Share(NamedTuple):
    """What one generation hands to its workers."""

    ticket_secret: bytes = b""
    fetcher: KeySetFetcher | None = None

    @property
    def key_set_fds(self) -> tuple[int, int] | None:
        """Descriptors of the memory of the key set, and of the eventfd by which it is asked for."""
        return None if self.fetcher is None else self.fetcher.fds


NO_SHARE = Share()
"""Of a generation without `[auth]`."""


class AccessShare:
    """Gives each generation its share."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._users: dict[KeySetFetcher, int] = {}

    def take(self, config: Config, ticket_secret: bytes | None) -> Share:
        """The share of a generation of `config`, to be given back.

        `ticket_secret` is what `check_auth` has found for it.

        Raises:
            OSError: there is no room for the memory of a key set.
        """
        auth = config.auth
        if not auth.is_on:
            return NO_SHARE
        secret = ticket_secret or self._secret
        if auth.jwks is None or not is_url(auth.jwks):
            return Share(secret)
        fetcher = next((each for each in self._users if each.url == auth.jwks), None)
        if fetcher is None:
            fetcher = KeySetFetcher(auth.jwks, auth.jwks_refresh_s, self._collector)
        fetcher.refresh_s = auth.jwks_refresh_s
        self._users[fetcher] = self._users.get(fetcher, 0) + 1
        return Share(secret, fetcher)

    def give_back(self, share: Share) -> None:
        """A generation has gone."""
        fetcher = share.fetcher
        if fetcher is None:
            return
        self._users[fetcher] -= 1
        if not self._users[fetcher]:
            del self._users[fetcher]
            fetcher.stop()


def check_auth(config: Config) -> bytes | None:
    """Assure that tokens and tickets can be served with `config`; the secret of its file, if any.

    Blocks while it reads files.

    Raises:
        ConfigError: what is wrong with `[auth]`.
    """
    auth = config.auth
    if auth.jwks is not None:
        if find_spec("joserfc") is None:
            raise ConfigError("[auth] jwks: needs joserfc: pip install 'zerocopy[auth]'")
        if is_url(auth.jwks):
            check_url(auth.jwks)
        else:
            from zerocopy.access.keyset_source import KeySetFile  # noqa: PLC0415 - has joserfc

            KeySetFile(auth.jwks).read_if_changed()
    if auth.ticket_secret_path is None or not auth.is_on:
        return None
    from zerocopy.access.tickets import read_secret  # noqa: PLC0415 - only where it is on

    return read_secret(auth.ticket_secret_path)
