"""What /openapi.json tells of /api/bars: its parameters and its header line.

Owns the words and schemas of that endpoint; `openapi.py` puts them into the document.
"""

from __future__ import annotations

from zerocopy.core.bars import BARS_MAX, FORMATS, MAX_POINTS

OUTPUT_PATTERN = (
    r"^[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}"
    r"(:(ohlc|open|high|low|close|sum|mean|count)(\+(ohlc|open|high|low|close|sum|mean|count))*)?$"
)
"""A column and its aggregates."""

COLUMNS_MAX = 32
"""`[limits] columns_max`, unless config.toml says otherwise."""

BARS = """\
One record for each bucket of `interval` that holds a record with `start` <= time <= `end`: `time`,
the second at which the bucket begins, then each output. Content and fields are those of /api/data,
with `interval_s` in the header line: `BarsHeaderLine` among the schemas. Open and close are the
first and the last number of the bucket, high and low the greatest and the least; they have the
column's dtype. `sum` and `mean` are f8, `count` is u32. NaN never wins: it is left out, but for
`count`, and a bucket of NaN alone is NaN."""


_OUTPUTS = f"""\
A column, then what to take of it; ohlc where nothing is said. At most {COLUMNS_MAX} items by
default; no output twice; no column of text."""

_INTERVAL = """\
Seconds, or a number with s, m, h, d or w, of at most 4294967295 s; weeks begin on Monday. `auto` is
the shortest of 1, 2, 5, 10, 15, 30 s and m, 1, 2, 4, 6, 12 h, 1, 2 d and 1, 2, 4 w that cuts the
time from the first to the last record into at most `max_points`. More than 100000 bars are refused;
the detail names the shortest interval that fits."""

BARS_PARAMETERS: dict[str, object] = {
    "outputs": {
        "name": "columns",
        "in": "query",
        "required": True,
        "description": _OUTPUTS,
        "schema": {
            "type": "array",
            "items": {
                "type": "string",
                "pattern": OUTPUT_PATTERN,
                "examples": ["price:open+close"],
            },
            "minItems": 1,
            "maxItems": COLUMNS_MAX,
            "uniqueItems": True,
        },
        "style": "form",
        "explode": False,
    },
    "interval": {
        "name": "interval",
        "in": "query",
        "required": False,
        "description": _INTERVAL,
        "schema": {
            "type": "string",
            "pattern": r"^(auto|0*[1-9][0-9]{0,3}[smhdw]?)$",
            "default": "auto",
            "examples": ["5m"],
        },
    },
    "maxPoints": {
        "name": "max_points",
        "in": "query",
        "required": False,
        "description": "What `auto` aims at.",
        "schema": {
            "type": "integer",
            "minimum": 1,
            "maximum": BARS_MAX,
            "default": MAX_POINTS,
        },
    },
    "barsFormat": {
        "name": "format",
        "in": "query",
        "required": False,
        "description": "The shape of the answer.",
        "schema": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
    },
}

BARS_SCHEMAS: dict[str, object] = {
    "BarsHeaderLine": {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"$ref": "#/components/schemas/Column"}},
            "interval_s": {
                "type": "integer",
                "description": "Seconds of a bucket.",
                "minimum": 1,
            },
            "skipped": {
                "type": "array",
                "items": {"type": "string", "examples": ["02.06.25"]},
            },
        },
        "required": ["columns", "interval_s"],
    }
}
