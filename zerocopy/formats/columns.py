"""The format `columns`: a header line of JSON, then the records of each column as they lie on disk.

Owns the header line. It is the representation that costs least: every record leaves from its file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from zerocopy.core.layout import day_label
from zerocopy.core.plan import Representation, ends_of

if TYPE_CHECKING:
    from zerocopy.core.plan import Plan

MEDIA_TYPE = b"application/octet-stream"


def represent(plan: Plan) -> Representation:
    """The header line, ended by LF, then all of the first column, all of the second, and so on."""
    segments = plan.segments()
    num_records = plan.num_records
    found = Representation(MEDIA_TYPE, header_line(plan), segments, ends_of(segments))
    nbytes = num_records * sum(column.dtype.nbytes for column in plan.columns)
    assert found.nbytes == len(found.content) + nbytes, "segments add up"
    return found


def header_line(plan: Plan) -> bytes:
    """What each column is and how many records it has, as one line of JSON ended by LF."""
    num_records = plan.num_records
    header: dict[str, object] = {
        "columns": [
            {
                "name": name,
                "record_size": dtype.nbytes,
                "num_records": num_records,
                "data_length": num_records * dtype.nbytes,
                "dtype": dtype.name,
            }
            for name, dtype in plan.columns
        ]
    }
    if plan.interval_s is not None:
        header["interval_s"] = plan.interval_s
    if plan.cursor is not None:
        header["cursor"] = plan.cursor
    if plan.skipped:
        header["skipped"] = [day_label(day) for day in plan.skipped]
    return orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE)
