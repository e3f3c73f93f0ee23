"""Every error the package raises on purpose, in one tree.

Leaves are grouped by cause, and carry the HTTP status that fits. Exactly one function,
`service.problems.problem_response`, turns them into responses. `detail` is written for the client:
it never holds a path, a stack trace or another library's wording.

    ZerocopyError
    ├── RequestError            the client's fault
    │   ├── BadRequestError         400
    │   ├── UnauthorizedError       401
    │   ├── NotFoundError           404
    │   ├── MethodNotAllowedError   405
    │   ├── PreconditionFailedError 412
    │   ├── TargetTooLongError      414
    │   ├── RangeError              416
    │   ├── ExpectationFailedError  417
    │   ├── UpgradeRequiredError    426
    │   ├── LimitedError            429
    │   ├── FieldsTooLargeError     431
    │   ├── UnknownCodingError      501
    │   ├── NotInstalledError       501
    │   └── UnknownVersionError     505
    ├── DataError               our data's fault: 500
    │   └── DataChangedError        a file changed after its response was promised: abort
    │       └── NotFetchedError         a file of the object store cannot be had any more
    ├── OverloadError           a bound was reached: 503
    │   └── StoreError              the object store does not give what is needed now
    ├── IngestError             what is to be imported is wrong: its file or day is left out
    └── ConfigError             the operator's fault: the start stops with one line
"""

from __future__ import annotations

from typing import ClassVar


class ZerocopyError(Exception):
    """The root of the tree; `detail` is one sentence for the client or operator that caused it."""

    status: ClassVar[int] = 500

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RequestError(ZerocopyError):
    """The request cannot be answered as it stands."""

    status = 400


class BadRequestError(RequestError):
    """The request is malformed; the detail names the parameter and what would be right."""

    status = 400


class UnauthorizedError(RequestError):
    """Nobody knows who asks, RFC 9110 section 15.5.2; the response carries WWW-Authenticate.

    `is_invalid`: a key, token or ticket came and is none that holds (RFC 6750 section 3.1).
    """

    status = 401

    def __init__(self, detail: str, *, is_invalid: bool = False) -> None:
        super().__init__(detail)
        self.is_invalid = is_invalid


class NotFoundError(RequestError):
    """The path, exchange, symbol, type or column does not exist."""

    status = 404


class MethodNotAllowedError(RequestError):
    """The path exists and does not know this method; the response carries Allow: `allowed`."""

    status = 405

    def __init__(self, detail: str, allowed: bytes = b"GET, HEAD, OPTIONS") -> None:
        super().__init__(detail)
        self.allowed = allowed


class PreconditionFailedError(RequestError):
    """If-Match or If-Unmodified-Since does not hold: RFC 9110 section 13.1."""

    status = 412


class TargetTooLongError(RequestError):
    """The request target is longer than `[limits] target_bytes_max`."""

    status = 414


class RangeError(RequestError):
    """No byte of the Range field can be had: RFC 9110 section 15.5.17.

    `nbytes` is the length of the whole representation, for Content-Range.
    """

    status = 416

    def __init__(self, detail: str, nbytes: int = 0) -> None:
        super().__init__(detail)
        self.nbytes = nbytes


class ExpectationFailedError(RequestError):
    """An Expect field asks for something other than 100-continue."""

    status = 417


class UpgradeRequiredError(RequestError):
    """A WebSocket is asked for in a version other than 13: RFC 6455 section 4.4."""

    status = 426


class LimitedError(RequestError):
    """Somebody has had as much as is allowed for now, RFC 6585 section 4.

    `policy` names the limit, `quota` is how much it allows, in `window_s` or at once, of `unit`;
    `left` of it was not enough. After `retry_s` some of it is there again. For Retry-After and the
    RateLimit fields.
    """

    status = 429

    def __init__(
        self,
        detail: str,
        *,
        policy: str,
        quota: int,
        window_s: int | None,
        retry_s: int,
        unit: str = "requests",
        left: int = 0,
    ) -> None:
        super().__init__(detail)
        self.policy = policy
        self.quota = quota
        self.window_s = window_s
        self.retry_s = retry_s
        self.unit = unit
        self.left = left


class FieldsTooLargeError(RequestError):
    """One field, or all fields together, are longer or more than the limits allow."""

    status = 431


class UnknownCodingError(RequestError):
    """The content has a transfer coding other than chunked: RFC 9112 section 6.1."""

    status = 501


class NotInstalledError(RequestError):
    """What is asked for needs something that this server lacks; the detail names it."""

    status = 501


class UnknownVersionError(RequestError):
    """The request line names a major version of HTTP other than 1: RFC 9110 section 15.6.6."""

    status = 505


class DataError(ZerocopyError):
    """The data directory or a day file failed before the status line."""

    status = 500


class DataChangedError(DataError):
    """A day file is no longer what its plan promised: the transfer is aborted, never padded."""


class NotFetchedError(DataChangedError):
    """A file of the object store that was planned cannot be had now."""


class OverloadError(ZerocopyError):
    """A bound on connections or requests in flight is reached; the client may retry."""

    status = 503


class StoreError(OverloadError):
    """The object store is away or its files cannot be kept; the cause is for the log."""


class IngestError(ZerocopyError):
    """A file or a day cannot be imported; the detail names the file, the line and the way out."""


class ConfigError(ZerocopyError):
    """config.toml, the environment or a flag is wrong; the detail names file and key."""
