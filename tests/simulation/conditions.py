"""Fields that ask for parts of an answer, or for it only if something holds.

One table: each row makes the fields from the body and the tag that a client believes in, which the
files may have left behind by the time the request is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Fields = list[tuple[str, str]]
    Maker = Callable[[Random, bytes, str], Fields]

RANGES_MAX = 16
FAR = 10_000_000


def old(etag: str) -> str:
    """A tag that was never given."""
    return f'"{etag[-2:0:-1]}"'


def span(rng: Random, body: bytes) -> str:
    """One range: of the header line, across columns and days, open, or a suffix."""
    line = body.index(b"\n") + 1
    first, last = sorted(rng.randrange(len(body) + 20) for _ in range(2))
    ends = [
        f"0-{line - 1}",
        f"{rng.randrange(line)}-{rng.randrange(line, line + 9)}",
        f"{first}-{last}",
        f"{first}-{last}",
        f"{line}-",
        f"-{1 + last}",
        f"{first}-{first}",
    ]
    return rng.choice(ends)


def one(rng: Random, body: bytes, _etag: str) -> Fields:
    """One range."""
    return [("Range", f"bytes={span(rng, body)}")]


def several(rng: Random, body: bytes, _etag: str) -> Fields:
    """Up to the bound and one beyond, in any order, overlapping or not."""
    count = rng.choice([2, 2, 3, 5, RANGES_MAX, RANGES_MAX + 1])
    return [("Range", "bytes=" + ", ".join(span(rng, body) for _ in range(count)))]


def apart(rng: Random, body: bytes, _etag: str) -> Fields:
    """Small ranges that do not overlap, out of order."""
    count = min(RANGES_MAX, len(body) // 4)
    ranges = [f"{at}-{at + 1}" for at in rng.sample(range(0, len(body), 3), count)]
    return [("Range", "bytes=" + ",".join(ranges))]


def beyond(_rng: Random, _body: bytes, _etag: str) -> Fields:
    """No byte of any answer."""
    return [("Range", f"bytes={FAR}-")]


def none_match(_rng: Random, _body: bytes, etag: str) -> Fields:
    """Only if it is new."""
    return [("If-None-Match", etag)]


def none_match_old(_rng: Random, _body: bytes, etag: str) -> Fields:
    """Only if it is new, and it is."""
    return [("If-None-Match", f"{old(etag)}, W/{old(etag)}")]


def match(_rng: Random, _body: bytes, etag: str) -> Fields:
    """Only if it is still the same."""
    return [("If-Match", etag)]


def match_old(_rng: Random, _body: bytes, etag: str) -> Fields:
    """Only if it is still the same, and it is not."""
    return [("If-Match", old(etag))]


def if_range(rng: Random, body: bytes, etag: str) -> Fields:
    """A part if it is still the same, else everything."""
    more = rng.choice([one, several])(rng, body, etag)
    return [("If-Range", etag), *more]


def if_range_old(rng: Random, body: bytes, etag: str) -> Fields:
    """Everything, for it is not the same."""
    return [("If-Range", old(etag)), *one(rng, body, etag)]


def matched_part(rng: Random, body: bytes, etag: str) -> Fields:
    """A part of what must still be the same."""
    return [("If-Match", etag), *apart(rng, body, etag)]


MAKERS: dict[str, tuple[int, Maker]] = {
    "range": (4, one),
    "ranges": (2, several),
    "ranges apart": (2, apart),
    "beyond": (1, beyond),
    "not modified": (2, none_match),
    "modified": (1, none_match_old),
    "if match": (1, match),
    "if match old": (1, match_old),
    "if range": (2, if_range),
    "if range old": (1, if_range_old),
    "matched part": (1, matched_part),
}
"""Weight and maker of each."""
