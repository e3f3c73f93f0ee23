"""Content codings: any format, or any document, as it leaves in zstd (RFC 8878) or gzip (RFC 1952).

Owns the levels and what a coded body depends on besides its content. Both libraries give up the
interpreter's lock while they work.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

from zerocopy.core.codings import GZIP, ZSTD

if TYPE_CHECKING:
    from zerocopy.core.plan import Encode, Plan, Read, Represent, Write

ZSTD_LEVEL = 1
GZIP_LEVEL = 1
"""Higher ones take several times the time for a tenth of the bytes: docs/measurements.md. A window
of zstd is 512 KiB at this level; RFC 9659 forbids more than 8 MiB."""

PIECE_BYTES = 1_048_576
"""Records that are read at a time: copied in 0.1 ms."""

_GZIP_WINDOW = 31
"""zlib's number for a window of 32 KiB and the frame of gzip, whose time is 0."""

VERSIONS = {
    ZSTD: f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} {ZSTD_LEVEL}",
    GZIP: f"gzip {zlib.ZLIB_RUNTIME_VERSION} {GZIP_LEVEL}",
}
"""What codes, for the entity tag: the same content and the same of these are the same bytes."""


class Compressor(Protocol):
    """A stream of one coding; it gives what it has to give so far."""

    def compress(self, data: bytes, /) -> bytes:
        """Take the next bytes."""

    def flush(self) -> bytes:
        """The end of the stream."""


def compressor(coding: bytes) -> Compressor:
    """A new stream of `coding`; a checksum of the content ends it in either."""
    if coding == ZSTD:
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compressobj()
    assert coding == GZIP, "one of CODINGS"
    return zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)


def compressed(coding: bytes, content: bytes) -> bytes:
    """All of `content` in `coding`.

    Example:
        >>> zlib.decompress(compressed(b"gzip", b"abc"), 31)
        b'abc'
    """
    stream = compressor(coding)
    return stream.compress(content) + stream.flush()


def encode_coded(encode: Encode, coding: bytes) -> Encode:
    """What writes the bodies of `encode` in `coding`."""

    def encode_in_coding(plan: Plan, read: Read, write: Write) -> None:
        stream = compressor(coding)

        def pass_on(data: bytes) -> None:
            found = stream.compress(data)
            if found:
                write(found)

        encode(plan, read, pass_on)
        write(stream.flush())

    return encode_in_coding


def encode_as(represent: Represent) -> Encode:
    """What writes the bodies of a format whose bytes are the files' own, see `Encode`."""

    def encode(plan: Plan, read: Read, write: Write) -> None:
        places = {
            id(source): (day, position)
            for day in plan.days
            for position, source in enumerate(day.sources)
        }
        found = represent(plan)
        write(found.content)
        for source, offset, count in ((it.source, it.offset, it.count) for it in found.segments):
            place = places.get(id(source))
            if place is None:  # what stands between records
                write(source.read(offset, count))
                continue
            day, position = place
            nbytes = plan.columns[position].dtype.nbytes
            assert offset % nbytes == count % nbytes == 0, "whole records"
            most = max(1, PIECE_BYTES // nbytes)
            stop = (offset + count) // nbytes
            for first in range(offset // nbytes, stop, most):
                write(read(day, position, first, min(most, stop - first)))

    return encode
