"""From a request to the grant of who asks.

Owns the order in which proofs are tried, and when the key file is read. It blocks only in `load`;
everything else belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from zerocopy.access.credentials import credential_of
from zerocopy.access.keys import Keys, read_keys
from zerocopy.core.errors import ConfigError, UnauthorizedError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.access.keys import Entry
    from zerocopy.core.access import Allowance, Grant
    from zerocopy.core.http.messages import Request

_WANTED = "the request must say who asks: Authorization: Bearer KEY"
_UNKNOWN = "the key or token is unknown, has expired or was revoked"


class KeyFile:
    """A key file, and whether it has changed since it was read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None

    def read_if_changed(self) -> tuple[Entry, ...] | None:
        """What is in it now, or None if that was read before; blocks.

        Raises:
            ConfigError: it cannot be read. The next call tries again.
        """
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise ConfigError(
                f"{self._path}: the key file cannot be read: {error.strerror}"
            ) from error
        seen = found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if seen == self._seen:
            return None
        entries = read_keys(self._path)
        self._seen = seen
        return entries


class Authenticator:
    """Finds the grant of a request."""

    def __init__(self, default: Allowance, keys_path: str | None) -> None:
        self._keys = Keys(default)
        self._key_file = None if keys_path is None else KeyFile(keys_path)

    def load(self) -> None:
        """Read what is in files; blocks.

        Raises:
            ConfigError: a file cannot be read.
        """
        if self._key_file is not None:
            self._replace_keys(self._key_file.read_if_changed())

    async def look(self, executor: Executor) -> None:
        """Read again what has changed, in a thread; what it no longer grants is revoked.

        Raises:
            ConfigError: a file cannot be read; what was read before holds.
        """
        if self._key_file is not None:
            loop = asyncio.get_running_loop()
            self._replace_keys(await loop.run_in_executor(executor, self._key_file.read_if_changed))

    def _replace_keys(self, entries: tuple[Entry, ...] | None) -> None:
        if entries is not None:
            for grant in self._keys.replace(entries):
                grant.revoke()

    async def grant(self, request: Request) -> Grant:
        """Who asks.

        Raises:
            UnauthorizedError: nobody knows.
        """
        credential = credential_of(request)
        if credential is None:
            raise UnauthorizedError(_WANTED)
        if credential.kind == "bearer":
            grant = self._keys.find(credential.word)
            if grant is not None:
                return grant
        raise UnauthorizedError(_UNKNOWN, is_invalid=True)
