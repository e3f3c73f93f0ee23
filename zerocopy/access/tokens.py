"""Signed tokens and who has shown one: the key set of now, and the grants that it has proved.

Owns what is remembered of tokens, by their SHA-256: the second request with a token costs a hash.
What a key has proved is revoked with the key: when it leaves the set, and when the set is so old
that nobody can know. Verification is done by threads, a bounded number at a time. Everything but
`load` belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakSet

from zerocopy.access.jwt import UnknownKeyError, verify
from zerocopy.core.access import Grant
from zerocopy.core.errors import OverloadError, UnauthorizedError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from zerocopy.access.jwt import Policy
    from zerocopy.access.keyset import KeySet
    from zerocopy.access.keyset_source import KeySetSource
    from zerocopy.core.access import Allowance, Scope

TOKENS_MAX = 4_096
"""Tokens that are remembered; others are verified at each request that is no known head."""

WAITING_MAX = 64
"""Tokens that are or wait to be verified: ten milliseconds of a thread."""

_TICKET = b"ticket\0"
"""Before a ticket that is remembered, or it would be a token ever after, past its minute too."""

_NO_KEYS = "the keys of tokens are not known now; try again"
_GONE = "the token is not valid: its key is no longer known"


class Tokens:
    """Finds the grant of a token. `fresh_s`: a set that its source had longer ago is too old."""

    def __init__(
        self,
        source: KeySetSource,
        policy: Policy,
        allowance: Allowance,
        executor: Executor,
        *,
        fresh_s: float,
    ) -> None:
        self._source = source
        self._policy = policy
        self._allowance = allowance
        self._executor = executor
        self._fresh_s = fresh_s
        self._keys: KeySet | None = None
        self._waiting = 0
        self._known: OrderedDict[bytes, Grant] = OrderedDict()
        # Kept heads and streams hold grants that are remembered no longer.
        self._granted: dict[str, WeakSet[Grant]] = {}

    def load(self) -> None:
        """Read the set; blocks.

        Raises:
            ConfigError: it is in a file that cannot be read.
        """
        self._keys = self._source.read_if_changed()

    async def look(self, executor: Executor) -> None:
        """Read the set again if it has changed, in a thread; what it no longer proves is revoked.

        Raises:
            ConfigError: it cannot be read; the one before holds, as long as it is not too old.
        """
        loop = asyncio.get_running_loop()
        try:
            keys = await loop.run_in_executor(executor, self._source.read_if_changed)
            if keys is not None:
                self._keys = keys
        finally:
            held = frozenset() if self._keys is None or self._is_old else self._keys.marks
            for mark in self._granted.keys() - held:
                for grant in self._granted.pop(mark):
                    grant.revoke()

    @property
    def _is_old(self) -> bool:
        return self._source.age_s > self._fresh_s

    async def grant(self, word: bytes) -> Grant:
        """Who shows the token `word`.

        Raises:
            UnauthorizedError: it proves nothing.
            OverloadError: the keys are not known, or too many tokens wait to be verified.
        """
        digest, now_s = hashlib.sha256(word).digest(), time.time()
        known = self._remembered(digest, now_s)
        if known is not None:
            return known
        keys = self._held_keys()
        if self._waiting >= WAITING_MAX:
            raise OverloadError("too many tokens wait to be verified; try again")
        self._waiting += 1
        try:
            verified = await asyncio.get_running_loop().run_in_executor(
                self._executor, verify, word, keys, self._policy, now_s
            )
        except UnknownKeyError:
            self._source.ask()
            raise
        except RuntimeError as error:
            raise OverloadError("the server is out of threads; try again") from error
        finally:
            self._waiting -= 1
        return self._remember(digest, *verified)

    def grant_again(self, word: bytes, name: str, scope: Scope, until_s: float, mark: str) -> Grant:
        """The same for a ticket `word` that says what a token proved when it was made.

        Raises:
            UnauthorizedError: the token holds no longer.
            OverloadError: the keys are not known.
        """
        self._held_keys()
        digest = hashlib.sha256(_TICKET + word).digest()
        return self._remembered(digest, time.time()) or self._remember(
            digest, name, scope, until_s, mark
        )

    def _held_keys(self) -> KeySet:
        if self._keys is None or self._is_old:
            raise OverloadError(_NO_KEYS)
        return self._keys

    def _remembered(self, digest: bytes, now_s: float) -> Grant | None:
        known = self._known.get(digest)
        if known is None:
            return None
        if known.until_s <= now_s:  # revoked, or run out
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return known

    def _remember(self, digest: bytes, name: str, scope: Scope, until_s: float, mark: str) -> Grant:
        # The set may have changed while a thread verified by the one before.
        if mark not in self._held_keys().marks or until_s <= time.time():
            raise UnauthorizedError(_GONE, is_invalid=True)
        grant = Grant(name, scope, self._allowance, until_s, mark)
        grant = self._known.setdefault(digest, grant)
        self._granted.setdefault(mark, WeakSet()).add(grant)
        while len(self._known) > TOKENS_MAX:
            self._known.popitem(last=False)
        return grant
