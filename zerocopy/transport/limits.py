"""The bounds on one request, whatever carries it, and the errors that tell a client of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core.errors import (
    BadRequestError,
    ExpectationFailedError,
    FieldsTooLargeError,
    RequestError,
    TargetTooLongError,
)

if TYPE_CHECKING:
    from zerocopy.core.messages import Request


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds on one request head and its content, in bytes or as counts."""

    target_bytes_max: int
    field_bytes_max: int
    head_bytes_max: int
    fields_max: int
    content_bytes_max: int

    def check(self, request: Request) -> RequestError | None:
        """What is wrong with a request that a library parsed, or None; RFC 9110 section 5.4."""
        if len(request.target) > self.target_bytes_max:
            return self.target_too_long()
        sizes = [len(name) + len(value) for name, value in request.fields]
        if (
            len(sizes) > self.fields_max
            or max(sizes, default=0) > self.field_bytes_max
            or len(request.target) + sum(sizes) > self.head_bytes_max
        ):
            return self.fields_too_large()
        if any(value.lower() != b"100-continue" for value in request.values(b"expect")):
            return unknown_expectation()
        return None

    def target_too_long(self) -> RequestError:
        """414 with the bound."""
        return TargetTooLongError(
            f"the request target must be at most {self.target_bytes_max} bytes"
        )

    def fields_too_large(self) -> RequestError:
        """431 with the bounds."""
        return FieldsTooLargeError(
            f"the request may hold at most {self.fields_max} fields, {self.field_bytes_max} "
            f"bytes in one and {self.head_bytes_max} bytes in all"
        )


def malformed() -> RequestError:
    """400 to what is no request at all."""
    return BadRequestError("the request is not HTTP/1.1 as RFC 9112 defines it")


def unknown_expectation() -> RequestError:
    """417, RFC 9110 section 10.1.1."""
    return ExpectationFailedError("the Expect field may only ask for 100-continue")
