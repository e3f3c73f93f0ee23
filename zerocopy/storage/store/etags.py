"""What an ETag of S3 says: the MD5 of a file, or that of the MD5s of its parts and their number.

See https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html. Encrypted
by SSE-KMS or SSE-C it is neither.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
"""Bytes of a file that are in memory at a time, of each thread."""

PUT_PART_BYTES = 5 << 20
"""A larger file is put in parts of so many bytes, and S3 makes its ETag of theirs."""

PARTS_PUT_BYTES = (PUT_PART_BYTES, 8 << 20, 16 << 20)
"""Parts in which files are put: by `ObjectStore.put`, by the tools of AWS, by others."""

_ETAG = re.compile(r'"?[0-9a-f]{32}(?:-([0-9]{1,5}))?"?')


def parts_of(etag: str, size: int) -> list[int | None]:
    """The sizes of parts in which a file may have been put, None for at once; none: it is no MD5.

    Example:
        >>> parts_of('"900150983cd24fb0d6963f7d28e17f72-2"', 9 << 20)
        [5242880, 8388608]
    """
    match = _ETAG.fullmatch(etag)
    if match is None:
        return []
    if match[1] is None:
        return [None]
    return [part for part in PARTS_PUT_BYTES if -(-size // part) == int(match[1])]


def is_of(fd: int, etag: str, size: int) -> bool:
    """Whether an ETag is that of the first `size` bytes of a descriptor, which blocks.

    Raises:
        OSError: it cannot be read.
    """
    return any(_etag_of(fd, size, part) == etag.strip('"') for part in parts_of(etag, size))


def is_of_file(path: str, etag: str, size: int) -> bool:
    """The same of the first `size` bytes of a local file.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return is_of(file.fileno(), etag, size)


def md5_of(fd: int, end: int, begin: int = 0) -> hashlib._Hash:
    """The MD5 of the bytes of a descriptor from `begin` to `end`."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces_of(fd, end, begin):
        digest.update(piece)
    return digest


def pieces_of(fd: int, end: int, begin: int = 0) -> Iterator[bytes]:
    """The bytes of a descriptor from `begin` to `end`, or to where the file ends."""
    while begin < end and (piece := os.pread(fd, min(CHUNK_BYTES, end - begin), begin)):
        yield piece
        begin += len(piece)


def _etag_of(fd: int, size: int, part_bytes: int | None) -> str:
    if part_bytes is None:
        return md5_of(fd, size).hexdigest()
    digest, begins = hashlib.md5(usedforsecurity=False), range(0, size, part_bytes)
    for begin in begins:
        digest.update(md5_of(fd, min(begin + part_bytes, size), begin).digest())
    return f"{digest.hexdigest()}-{len(begins)}"
