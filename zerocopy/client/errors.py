"""Every error that the client raises on purpose, in one tree.

    Error                   .status (None: no response was involved) and .detail
    ├── BadRequest              400, or an argument refused before it was sent; a ValueError
    ├── Unauthorized            401, 403: the key is missing, unknown, or does not cover this
    ├── NotFound                404: exchange, symbol, type or column
    ├── TooManyRequests         429: .retry_after_s, .rate_limit
    ├── NotInstalled            501: the server lacks what this format needs
    ├── Unavailable             502, 503, 504: .retry_after_s
    ├── UnexpectedAnswer        any other status, or an answer that is none of zerocopy's
    ├── ConnectionFailed        no connection, or it broke; a ConnectionError
    │   ├── Timeout                 nothing came for `timeout` seconds; a TimeoutError
    │   └── Interrupted             the connection broke amid a body, again and again
    ├── ChangedData             the data changed each time while it was fetched
    ├── Reset                   a live stream's day began anew: .cursor, .reason
    ├── WriteFailed             the file could not be written; an OSError
    └── MissingPackage          a package that this call needs is not installed; an ImportError

`detail` is one sentence. It never holds a key.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple


class Error(Exception):
    """The root of the tree.

    Attributes:
        status: the status code of the response, None where there was none.
        detail: what is wrong and what would be right, as one sentence.

    Example:
        >>> try:
        ...     raise NotFound("symbol NOPE: there is none", status=404)
        ... except Error as error:
        ...     print(error.status, error.detail)
        404 symbol NOPE: there is none
    """

    def __init__(self, detail: str = "", *, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class BadRequest(Error, ValueError):
    """The request cannot be answered as it stands: status 400, or None where it was not sent."""


class Unauthorized(Error):
    """Status 401 or 403: the key is missing, unknown or revoked, or does not cover this."""


class NotFound(Error):
    """Status 404: the exchange, symbol, type or column does not exist for this key."""


class _Busy(Error):
    """An error that passes; `retry_after_s` is what the server asked for, None if nothing."""

    def __init__(
        self, detail: str = "", *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail, status=status)
        self.retry_after_s = retry_after_s


class RateLimit(NamedTuple):
    """A limit as the server tells it, in the fields `RateLimit` and `RateLimit-Policy`.

    Attributes:
        policy: the name of the limit.
        quota: how much is allowed in `window_s` seconds; None where that was not told.
        remaining: how much of it is left.
        reset_s: seconds after which there is more; None where that was not told.
        window_s: seconds that the quota is for; None where that was not told.
    """

    policy: str
    quota: int | None
    remaining: int
    reset_s: int | None
    window_s: int | None


class TooManyRequests(_Busy):
    """Status 429: a limit of the key or of the address is reached.

    Attributes:
        retry_after_s: seconds to wait, or None.
        rate_limit: the limit that is reached, or None where the server does not tell it.
    """

    rate_limit: RateLimit | None = None


class Unavailable(_Busy):
    """Status 502, 503 or 504: the server is busy, starts or stops. `retry_after_s` as above."""


class NotInstalled(Error):
    """Status 501: the server lacks the extra that this format needs."""


class UnexpectedAnswer(Error):
    """The answer is none that zerocopy gives: another status, a redirect, or a malformed body."""


class ConnectionFailed(Error, ConnectionError):
    """The server could not be reached, or the connection broke before a response."""


class Timeout(ConnectionFailed, TimeoutError):
    """No connection within `timeout` seconds, or no byte for so long."""


class Interrupted(ConnectionFailed):
    """The connection broke amid a body and resuming failed as often as it may."""


class ChangedData(Error):
    """The data changed each time while it was fetched, so that no attempt was of one state."""


class Reset(Error):
    """The day behind a live stream's cursor was replaced or became shorter.

    Drop what you have of that day and iterate on: the stream continues at `cursor`, the beginning
    of the day.

    Attributes:
        cursor: where the stream continues.
        reason: what happened to the day.
    """

    def __init__(self, detail: str = "", *, cursor: str = "", reason: str = "") -> None:
        super().__init__(detail)
        self.cursor = cursor
        self.reason = reason


class WriteFailed(Error, OSError):
    """The file of a download could not be written; what has come is kept, to be resumed."""

    def __str__(self) -> str:
        """Return the sentence; OSError would print a tuple."""
        return self.detail


class MissingPackage(Error, ImportError):
    """A package that this call needs is not installed; the sentence says how to install it."""

    def __str__(self) -> str:
        """Return the sentence."""
        return self.detail


_KINDS: dict[int, type[Error]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Unauthorized,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.NOT_IMPLEMENTED: NotInstalled,
}

_BUSY_KINDS: dict[int, type[_Busy]] = {
    HTTPStatus.TOO_MANY_REQUESTS: TooManyRequests,
    HTTPStatus.BAD_GATEWAY: Unavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Unavailable,
}


def error_of(status: int, detail: str, retry_after_s: float | None = None) -> Error:
    """The error that fits a response's status code.

    >>> error_of(404, "there is none")
    NotFound('there is none')
    """
    if status in _BUSY_KINDS:
        return _BUSY_KINDS[status](detail, status=status, retry_after_s=retry_after_s)
    is_ours = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return _KINDS.get(status, BadRequest if is_ours else UnexpectedAnswer)(detail, status=status)
