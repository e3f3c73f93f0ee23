"""From a request to the grant of who asks.

Owns the order in which proofs are tried, and when the key file is read. It blocks only in `load`;
everything else belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from zerocopy.access.credentials import credential_of
from zerocopy.access.key_file import KeyFile
from zerocopy.access.keys import Change, Keys, Reading
from zerocopy.access.tickets import SECRET_BYTES_MIN, Tickets
from zerocopy.core.errors import UnauthorizedError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.access.tokens import Tokens
    from zerocopy.core.access import Allowance, Grant
    from zerocopy.core.http.messages import Request

_WANTED = "the request must say who asks: Authorization: Bearer KEY"
_DOTS = 2
"""In a signed token, RFC 7515 section 7.1; a key has none."""

_UNKNOWN = "the key or token is unknown, has expired or was revoked"


class Authenticator:
    """Finds the grant of a request.

    Without `tickets` those of a secret of its own, which nobody else has; without `tokens` a signed
    token is unknown like any word.
    """

    def __init__(
        self,
        default: Allowance,
        keys_path: str | None,
        tickets: Tickets | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._keys = Keys(default)
        self._key_file = None if keys_path is None else KeyFile(keys_path)
        self._tickets = tickets or Tickets(secrets.token_bytes(SECRET_BYTES_MIN))
        self._tokens = tokens

    def __len__(self) -> int:
        """How many keys hold."""
        return len(self._keys)

    def load(self) -> None:
        """Read what is in files; blocks.

        Raises:
            ConfigError: a file cannot be read.
        """
        try:
            self._take(self._read())
        finally:
            if self._tokens is not None:
                self._tokens.load()

    async def look(self, executor: Executor) -> Change | None:
        """Read again what has changed, in a thread; what it no longer grants is revoked.

        Returns what that changed, None where nothing did.

        Raises:
            ConfigError: a file cannot be read; what was read before holds.
        """
        change = None
        try:
            if self._key_file is not None:
                loop = asyncio.get_running_loop()
                change = self._take(await loop.run_in_executor(executor, self._read))
        finally:
            if self._tokens is not None:
                await self._tokens.look(executor)
        return change

    def _read(self) -> Reading | None:
        """The key file, if it has changed; blocks."""
        entries = None if self._key_file is None else self._key_file.read_if_changed()
        return None if entries is None else self._keys.compare(entries)

    def _take(self, reading: Reading | None) -> Change | None:
        if reading is None:
            return None
        change = self._keys.take(reading)
        for grant in change.gone:
            grant.revoke()
        return change if change.added or change.gone else None

    async def grant(self, request: Request, ticket: bytes | None = None) -> Grant:
        """Who asks: by Authorization, else the `ticket` of its target, else Cloudflare's field.

        Raises:
            UnauthorizedError: nobody knows.
            OverloadError: that cannot be found out now.
        """
        tokens = self._tokens
        reads_assertion = tokens is not None and ticket is None
        credential = credential_of(request, reads_assertion=reads_assertion)
        if credential is None:
            if ticket is None:
                raise UnauthorizedError(_WANTED)
            return self._open(ticket)
        word = credential.word
        if tokens is not None and (credential.kind == "assertion" or word.count(b".") == _DOTS):
            return await tokens.grant(word)
        grant = self._keys.find(word)
        if grant is None:
            raise UnauthorizedError(_UNKNOWN, is_invalid=True)
        return grant

    def ticket(self, grant: Grant) -> tuple[bytes, int]:
        """A ticket for who has `grant`, and seconds that it holds.

        Raises:
            BadRequestError: what that may see is too long for a ticket.
        """
        return self._tickets.make(grant, time.time())

    def _open(self, word: bytes) -> Grant:
        """The grant of who made the ticket `word`, if that still has one."""
        ticket = self._tickets.read(word, time.time())
        mark, until_s = ticket.mark, ticket.until_s
        if until_s is None:
            grant = self._keys.marked(mark)
        elif self._tokens is not None:
            grant = self._tokens.grant_again(word, ticket.name, ticket.scope, until_s, mark)
        else:
            grant = None
        if grant is None:
            raise UnauthorizedError(_UNKNOWN, is_invalid=True)
        return grant
