"""From a request to the grant of who asks.

Owns the order in which proofs are tried, and when the key file is read. It blocks only in `load`;
everything else belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zerocopy.access.credentials import credential_of
from zerocopy.access.key_file import KeyFile
from zerocopy.access.keys import Change, Keys
from zerocopy.core.errors import UnauthorizedError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.access.keys import Entry
    from zerocopy.core.access import Allowance, Grant
    from zerocopy.core.http.messages import Request

_WANTED = "the request must say who asks: Authorization: Bearer KEY"
_UNKNOWN = "the key or token is unknown, has expired or was revoked"


class Authenticator:
    """Finds the grant of a request."""

    def __init__(self, default: Allowance, keys_path: str | None) -> None:
        self._keys = Keys(default)
        self._key_file = None if keys_path is None else KeyFile(keys_path)

    def __len__(self) -> int:
        """How many keys hold."""
        return len(self._keys)

    def load(self) -> None:
        """Read what is in files; blocks.

        Raises:
            ConfigError: a file cannot be read.
        """
        if self._key_file is not None:
            self._replace_keys(self._key_file.read_if_changed())

    async def look(self, executor: Executor) -> Change | None:
        """Read again what has changed, in a thread; what it no longer grants is revoked.

        Returns what that changed, None where nothing did.

        Raises:
            ConfigError: a file cannot be read; what was read before holds.
        """
        if self._key_file is None:
            return None
        loop = asyncio.get_running_loop()
        return self._replace_keys(
            await loop.run_in_executor(executor, self._key_file.read_if_changed)
        )

    def _replace_keys(self, entries: tuple[Entry, ...] | None) -> Change | None:
        if entries is None:
            return None
        change = self._keys.replace(entries)
        for grant in change.gone:
            grant.revoke()
        return change if change.added or change.gone else None

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
