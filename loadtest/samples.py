"""Bytes taken out of a body that streams by.

Owns which bytes of an answer are kept to be compared, and no more of it than these: a body of
gigabytes costs as little memory as one of a kilobyte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Sample(NamedTuple):
    """Bytes of a body and where they begin in it."""

    offset: int
    content: bytes

    @property
    def stop(self) -> int:
        """The offset after the last byte."""
        return self.offset + len(self.content)


class Sampler:
    """Keeps the wanted parts of a body that is fed to it in order."""

    def __init__(self, wanted: Iterable[range]) -> None:
        self.samples: list[Sample] = []
        self._wanted = list(merge(wanted))
        self._taken = bytearray()

    def feed(self, offset: int, piece: memoryview) -> None:
        """Take what is wanted of `piece`, which begins at `offset` of the body."""
        stop = offset + len(piece)
        while len(self.samples) < len(self._wanted):
            part = self._wanted[len(self.samples)]
            if part.start >= stop:
                return
            begin = part.start + len(self._taken)
            self._taken += piece[begin - offset : min(part.stop, stop) - offset]
            if stop < part.stop:
                return
            self.samples.append(Sample(part.start, bytes(self._taken)))
            self._taken.clear()

    def at(self, offset: int, nbytes: int) -> bytes:
        """Bytes that were wanted and have been fed."""
        for sample in self.samples:
            if sample.offset <= offset and offset + nbytes <= sample.stop:
                return sample.content[offset - sample.offset : offset - sample.offset + nbytes]
        raise LookupError(f"bytes {offset} to {offset + nbytes} were not kept")


def merge(parts: Iterable[range]) -> Iterable[range]:
    """The same bytes as ranges in order, with a gap between each two."""
    merged: list[range] = []
    for part in sorted(parts, key=lambda part: part.start):
        if merged and part.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, part.stop))
        elif part:
            merged.append(part)
    return merged
