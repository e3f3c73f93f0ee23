"""What tells one state of a response from another, and how long a cache may keep it.

Owns ETag, Last-Modified and Cache-Control (RFC 9110 section 8.8, RFC 9111 section 5.2). The clock
is a value that comes in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_ETAG_BYTES = 16
NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of a response from another.

    `etag` is a strong entity tag, quotes included. `modified_ns` is the newest modification of a
    file in the response in unix nanoseconds, 0 where it holds none. Both are equal on replicas.
    """

    etag: bytes
    modified_ns: int


def validators_of(
    header: bytes, stamps: Iterable[tuple[int, int, int, int]], tag: bytes = b""
) -> Validators:
    """The validators of a response that begins with `header`, in the format that `tag` names.

    `stamps` holds, for `time` and each column of each day that was read, the first byte of its
    range, the bytes in it, the file's size in bytes and its modification time in unix nanoseconds:
    what a copy that keeps times (rsync -a, cp -p) has in common with its original, and nothing else
    has. Inode, device and change time are left out, so that replicas agree.
    """
    digest = hashlib.blake2b(header, digest_size=_ETAG_BYTES)
    modified_ns = 0
    for stamp in stamps:
        digest.update(b"%d %d %d %d\n" % stamp)
        modified_ns = max(modified_ns, stamp[3])
    if tag:
        digest.update(tag + b"\n")
    return Validators(etag=_etag(digest), modified_ns=modified_ns)


def document_validators(content: bytes) -> Validators:
    """The validators of a whole document: a tag of its bytes, and no date."""
    return Validators(etag=_etag(hashlib.blake2b(content, digest_size=_ETAG_BYTES)), modified_ns=0)


def _etag(digest: hashlib.blake2b) -> bytes:
    return b'"' + digest.hexdigest().encode() + b'"'


def http_date(time_s: float) -> bytes:
    """An IMF-fixdate, RFC 9110 section 5.6.7."""
    return formatdate(int(time_s), usegmt=True).encode("ascii")


def last_modified(validators: Validators, date_s: int) -> bytes | None:
    """Last-Modified, never later than Date (RFC 9110 section 8.8.2.1); None without files.

    `date_s` is a unix second that the Date of no response from now on can be earlier than.
    """
    if validators.modified_ns == 0:
        return None
    return http_date(min(validators.modified_ns // NS_PER_S, date_s))


def cache_control(closes_s: float, now_s: float, closed_max_age_s: int) -> bytes:
    """Cache-Control: shared caches may keep what is closed; what is open is always asked again.

    `closes_s` is the unix second from which every day of the response is closed.
    `no-transform` keeps a CDN from compressing, which would drop Content-Length.
    """
    if now_s < closes_s:
        return b"no-cache, no-transform"
    return b"public, max-age=%d, no-transform" % closed_max_age_s
