"""Validators and freshness of a representation: RFC 9110 section 8.8, RFC 9111 section 5.2.

Owns ETag, Last-Modified and Cache-Control of a data answer. The clock is a value that comes in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

from zerocopy.core.layout import DAY_S, day_of

if TYPE_CHECKING:
    from collections.abc import Iterable

_ETAG_BYTES = 16
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of an answer from another.

    `etag` is a strong entity tag, quotes included. `modified_ns` is the newest modification of a
    file in the answer in unix nanoseconds, 0 where it holds none. `closes_s` is the unix second
    from which every day of the answer is closed.
    """

    etag: bytes
    modified_ns: int
    closes_s: float


def validators_of(
    header: bytes,
    stamps: Iterable[tuple[int, int, int, int]],
    *,
    end_s: int,
    settle_s: float,
    skipped_ns: int = 0,
) -> Validators:
    """The validators of an answer with this header line.

    `stamps` holds, for `time` and each column of each day that was read, the first byte of its
    range, the bytes in it, the file's size in bytes and its modification time in unix nanoseconds:
    what a copy that keeps times (rsync -a, cp -p) has in common with its original, and nothing else
    has. Inode and device are left out, so that replicas agree. `skipped_ns` is the newest
    modification of a file of a skipped day.

    The answer closes when the last UTC day it was asked for is past and no file of its days has
    changed for `settle_s` seconds: until then a day that has no file yet may get one.
    """
    digest = hashlib.blake2b(header, digest_size=_ETAG_BYTES)
    modified_ns = 0
    for stamp in stamps:
        digest.update(b"%d %d %d %d\n" % stamp)
        modified_ns = max(modified_ns, stamp[3])
    day_end_s = (day_of(end_s) + 1) * DAY_S
    return Validators(
        etag=b'"' + digest.hexdigest().encode() + b'"',
        modified_ns=modified_ns,
        closes_s=max(day_end_s, max(modified_ns, skipped_ns) / _NS_PER_S + settle_s),
    )


def http_date(time_s: float) -> bytes:
    """An IMF-fixdate, RFC 9110 section 5.6.7."""
    return formatdate(int(time_s), usegmt=True).encode("ascii")


def last_modified(validators: Validators, date_s: int) -> bytes | None:
    """Last-Modified, never later than Date (RFC 9110 section 8.8.2.1); None without files.

    `date_s` is a unix second that the Date of no response from now on can be earlier than.
    """
    if validators.modified_ns == 0:
        return None
    return http_date(min(validators.modified_ns // _NS_PER_S, date_s))


def cache_control(validators: Validators, now_s: float, closed_max_age_s: int) -> bytes:
    """Cache-Control: shared caches may keep what is closed; what is open is always asked again.

    `no-transform` keeps a CDN from compressing, which would drop Content-Length.
    """
    if now_s < validators.closes_s:
        return b"no-cache, no-transform"
    return b"public, max-age=%d, no-transform" % closed_max_age_s
