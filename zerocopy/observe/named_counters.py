"""What each key or token asked for: rows of shared memory, one for each worker.

Owns how a row is laid out. It has room for `NAMES_MAX` names and never grows: names that come later
are counted together. So a metric that has names as labels stays bounded, whoever issues tokens.

    used    names (64 bytes each, UTF-8, padded by NUL)    TALLIED numbers of 64 bits for each name
"""

from __future__ import annotations

import mmap
import os
from collections import defaultdict
from typing import TYPE_CHECKING

from zerocopy.core.access import REQUESTS, SENT_BYTES, TALLIED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.access import Grant

NAMES_MAX = 500
"""Names that are told apart in a worker; Prometheus counts series by the thousand."""

OTHERS = "(others)"
"""Stands for the names that came when all room was taken; no key can be called so."""

_NUMBER_BYTES = 8
_NAME_BYTES = 64
_NAMES_AT = _NUMBER_BYTES
_COUNTS_AT = _NAMES_AT + (NAMES_MAX + 1) * _NAME_BYTES
ROW_BYTES = _COUNTS_AT + (NAMES_MAX + 1) * len(TALLIED) * _NUMBER_BYTES


def make_names() -> int:
    """A descriptor of shared memory without a row."""
    return os.memfd_create("zerocopy-names")


def add_row(names_fd: int, rows: int) -> None:
    """Have room for so many rows; those that are open stay valid."""
    os.ftruncate(names_fd, rows * ROW_BYTES)


class NamedCounters:
    """One row, for the worker that counts in it; it goes on with what its predecessor counted."""

    def __init__(self, names_fd: int, row: int) -> None:
        memory = memoryview(mmap.mmap(names_fd, 0))[row * ROW_BYTES : (row + 1) * ROW_BYTES]
        self._memory = memory
        self._used = memory[:_NAMES_AT].cast("Q")
        self._counts = memory[_COUNTS_AT:].cast("Q")
        self._places = {name: place for place, name in enumerate(_names(memory))}
        if not self._places:
            self._add(OTHERS)

    def count(self, name: str, count: int, amount: int) -> None:
        """Add `amount` to one of `TALLIED` of `name`."""
        self._counts_of(name)[count] += amount

    def tally(self, grant: Grant, nbytes: int, times: int) -> None:
        """Count requests that have ended; see `transport.request_metrics.Tally`.

        Called for every request, so a grant keeps the counts of its name.
        """
        counts = grant.tallied
        if counts is None:
            counts = grant.tallied = self._counts_of(grant.name)
        counts[REQUESTS] += times
        counts[SENT_BYTES] += nbytes * times

    def _counts_of(self, name: str) -> memoryview[int]:
        """Those of `TALLIED`, in their order."""
        place = self._places.get(name)
        if place is None:
            place = self._add(name)
        first = place * len(TALLIED)
        return self._counts[first : first + len(TALLIED)]

    def _add(self, name: str) -> int:
        """Give a name its place, which may be that of all others."""
        place = self._used[0]
        if place > NAMES_MAX:
            return self._places[OTHERS]
        begin = _NAMES_AT + place * _NAME_BYTES
        self._memory[begin : begin + _NAME_BYTES] = _spelled(name)
        self._used[0] = place + 1  # last: until then no reader looks at the name
        self._places[name] = place
        return place


def totals(names_fd: int) -> dict[str, tuple[int, ...]]:
    """The `TALLIED` of each name, of all rows together; blocks no worker."""
    found: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(TALLIED))
    size = os.fstat(names_fd).st_size
    for begin in range(0, size, ROW_BYTES):
        row = memoryview(os.pread(names_fd, ROW_BYTES, begin))
        counts = row[_COUNTS_AT:].cast("Q")
        for place, name in enumerate(_names(row)):
            for kind in range(len(TALLIED)):
                found[name][kind] += counts[place * len(TALLIED) + kind]
    return {name: tuple(counted) for name, counted in sorted(found.items())}


def _names(row: memoryview) -> Iterable[str]:
    used = min(row[:_NAMES_AT].cast("Q")[0], NAMES_MAX + 1)
    for place in range(used):
        begin = _NAMES_AT + place * _NAME_BYTES
        yield bytes(row[begin : begin + _NAME_BYTES]).rstrip(b"\0").decode("utf-8", "replace")


def _spelled(name: str) -> bytes:
    """At most 64 bytes of it, cut between two characters."""
    cut = name.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return cut.encode().ljust(_NAME_BYTES, b"\0")
