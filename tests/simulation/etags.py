"""The entity tag that an answer must carry, computed from the files of one moment.

Owns a second reading of what a tag is made of: the header line, and for `time` and each column of
each day that was read the bytes asked for, the file's size and its time of modification.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def etag_of(
    body: bytes,
    days: Iterable[Mapping[str, tuple[bytes, int]]],
    columns: Sequence[str],
    span: tuple[int, int],
    sizes: Mapping[str, int],
) -> str:
    """The strong tag of `body`; `days` are those that have every column, ascending."""
    digest = hashlib.blake2b(body[: body.index(b"\n") + 1], digest_size=16)
    for day in days:
        wanted = {column: sizes.get(column, 4) for column in ("time", *columns)}
        length = min(len(day[column][0]) // size for column, size in wanted.items())
        times = struct.unpack(f"<{length}I", day["time"][0][: 4 * length])
        first, stop = bisect_left(times, span[0]), bisect_right(times, span[1])
        for column, size in wanted.items():
            content, modified_ns = day[column]
            stamp = first * size, (stop - first) * size, len(content), modified_ns
            digest.update(b"%d %d %d %d\n" % stamp)
    return f'"{digest.hexdigest()}"'
