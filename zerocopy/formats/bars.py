"""Bars in the format `columns`: a header line of JSON, then the values of each column.

Owns the header line, which is that of /api/data with `interval_s` in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from zerocopy.core.layout import day_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


def content_of(
    names: Iterable[str], columns: Sequence[NDArray[Any]], interval_s: int, skipped: Sequence[int]
) -> bytes:
    """The header line, ended by LF, then all of the first column, all of the second, and so on."""
    header: dict[str, object] = {
        "columns": [
            {
                "name": name,
                "record_size": column.itemsize,
                "num_records": len(column),
                "data_length": column.nbytes,
                "dtype": column.dtype.str,
            }
            for name, column in zip(names, columns, strict=True)
        ],
        "interval_s": interval_s,
    }
    if skipped:
        header["skipped"] = [day_label(day) for day in skipped]
    line = orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE)
    return b"".join((line, *(column.tobytes() for column in columns)))
