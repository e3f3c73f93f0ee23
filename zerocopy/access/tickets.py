"""Tickets: a word in a URL that opens requests for a minute, for browsers that set no field.

Owns their form. A ticket says who made it, what for and until when, and an HMAC (RFC 2104) over
that proves that a server with the same secret wrote it: nothing is kept, so any worker and any
server opens it. It opens any number of requests until it ends; what it opened lives as long as the
key or token that it was made with.

    base64url(JSON) "." base64url(HMAC-SHA256)
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import stat

import msgspec
from msgspec import Struct

from zerocopy.core.access import Grant, Scope
from zerocopy.core.errors import BadRequestError, ConfigError, UnauthorizedError

LIFE_S = 60
"""Seconds that a ticket opens requests: for a slow network, and too short to be passed on."""

TICKET_BYTES_MAX = 4_096
"""Bytes of a ticket: half a request target."""

SECRET_BYTES_MIN, SECRET_BYTES_MAX = 32, 4_096

_PURPOSE = b"zerocopy ticket 1\0"
"""Before what is signed, so that no other use of the same secret makes tickets."""

_FORM = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{43})")


class Ticket(Struct, frozen=True, array_like=True):
    """What a ticket says. Times are unix seconds; `until_s` is the end of the token, None of a key.

    The scope of a key is that of its file at the time of the request; of a token it is here.
    """

    expires_s: int
    mark: str
    name: str
    until_s: float | None = None
    exchanges: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    @property
    def scope(self) -> Scope:
        """What its token may see."""
        return Scope(self.exchanges, self.symbols, self.types)


class Tickets:
    """Makes and reads the tickets of one secret."""

    def __init__(self, secret: bytes) -> None:
        assert len(secret) >= SECRET_BYTES_MIN, "checked by whoever read it"
        self._secret = secret

    def make(self, grant: Grant, now_s: float) -> tuple[bytes, int]:
        """A ticket for who has `grant`, from `now_s` (unix seconds) on, and seconds that it holds.

        Raises:
            BadRequestError: what that may see is too long to say.
        """
        expires_s = int(min(now_s + LIFE_S, grant.until_s))
        ticket = Ticket(expires_s, grant.mark, grant.name)
        if grant.until_s != float("inf"):
            scope = grant.scope
            ticket = Ticket(
                expires_s, grant.mark, grant.name, grant.until_s,
                scope.exchanges, scope.symbols, scope.types,
            )  # fmt: skip
        said = _encoded(msgspec.json.encode(ticket))
        word = b"%b.%b" % (said, self._mac(said))
        if len(word) > TICKET_BYTES_MAX:
            raise BadRequestError(
                f"the scope of this token takes more than the {TICKET_BYTES_MAX:,} bytes of a "
                "ticket; send the token itself"
            )
        return word, max(0, expires_s - int(now_s))

    def read(self, word: bytes, now_s: float) -> Ticket:
        """What `word` says, if it holds at `now_s`.

        Raises:
            UnauthorizedError: it is none, or has ended.
        """
        form = _FORM.fullmatch(word) if len(word) <= TICKET_BYTES_MAX else None
        if form is None or not hmac.compare_digest(self._mac(form[1]), form[2]):
            raise UnauthorizedError("the ticket is none of this server", is_invalid=True)
        ticket = msgspec.json.decode(
            base64.urlsafe_b64decode(form[1] + b"=" * (-len(form[1]) % 4)), type=Ticket
        )
        if ticket.expires_s <= now_s:
            raise UnauthorizedError(
                f"the ticket has ended; it opens requests for {LIFE_S} s", is_invalid=True
            )
        return ticket

    def _mac(self, said: bytes) -> bytes:
        return _encoded(hmac.digest(self._secret, _PURPOSE + said, "sha256"))


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def read_secret(path: str) -> bytes:
    """The secret in the file at `path`, every byte of it.

    Raises:
        ConfigError: it cannot be read, is too short or long, or others than its owner (or of a
            file of root's its group) may read it.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{path}: the secret of tickets must be a regular file")
            group = 0o030 if found.st_uid == 0 else 0o070
            if found.st_mode & (group | 0o007):
                raise ConfigError(
                    f"{path}: others may read the secret of tickets; chmod 600 {path}"
                )
            secret = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: the secret of tickets cannot be read: {error.strerror}"
        ) from error
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise ConfigError(
            f"{path}: the secret of tickets must be {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX:,} "
            f"random bytes; head -c {SECRET_BYTES_MIN} /dev/urandom > {path}"
        )
    return secret
