"""What one request may be, whatever carries it: its bounds, its target, its authority."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core.errors import (
    BadRequestError,
    ExpectationFailedError,
    FieldsTooLargeError,
    RequestError,
    TargetTooLongError,
)
from zerocopy.core.http.authority import has_port, is_authority

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.http.messages import Request

_ORIGIN_FORM = re.compile(rb"/[!\"$-~]*+")
"""Visible ASCII but `#`: clients send more of it raw than RFC 3986 allows (`^`, `|`, `{`)."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Bounds on one request head and its content, in bytes or as counts."""

    target_bytes_max: int
    field_bytes_max: int
    head_bytes_max: int
    fields_max: int
    content_bytes_max: int

    def check(self, request: Request) -> RequestError | None:
        """Return the fault of a request that a library parsed, or None; RFC 9110 section 5.4."""
        if len(request.target) > self.target_bytes_max:
            return self.target_too_long()
        sizes = [len(name) + len(value) for name, value in request.fields]
        if (
            len(sizes) > self.fields_max
            or max(sizes, default=0) > self.field_bytes_max
            or len(request.target) + sum(sizes) > self.head_bytes_max
        ):
            return self.fields_too_large()
        if not is_continue_alone(request.values(b"expect")):
            return unknown_expectation()
        if any(value and not is_authority(value) for value in request.values(b"host")):
            return invalid_host()
        # HTTP/2 has no target for CONNECT: RFC 9113 section 8.5.
        return target_fault(request.method, request.target) if request.target else None

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


def is_continue_alone(expectations: Iterable[bytes]) -> bool:
    """Whether all members of the Expect lines are 100-continue; empty ones are none."""
    members = b",".join(expectations).lower().split(b",")
    return {member.strip(b" \t") for member in members} <= {b"", b"100-continue"}


def unknown_expectation() -> RequestError:
    """417, RFC 9110 section 10.1.1."""
    return ExpectationFailedError("the Expect field may only ask for 100-continue")


def invalid_host() -> RequestError:
    """400, RFC 9112 section 3.2."""
    return BadRequestError("the Host field must be a host and an optional port")


def target_fault(method: bytes, target: bytes) -> RequestError | None:
    """Return the fault of a target not in absolute-form, or None; RFC 9112 section 3.2."""
    if method == b"CONNECT":
        if not (is_authority(target) and has_port(target)):
            return BadRequestError("the target of CONNECT must be a host and a port")
    elif target == b"*":
        if method != b"OPTIONS":
            return BadRequestError("only OPTIONS may have the target *")
    elif _ORIGIN_FORM.fullmatch(target) is None:
        return BadRequestError("the path must begin with a slash and be percent-encoded")
    return None
