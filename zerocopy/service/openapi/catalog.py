"""What /openapi.json tells of /api/catalog: its document.

Owns the words and schemas of that endpoint; `openapi.py` puts them into the document.
"""

from __future__ import annotations

from zerocopy.core.layout import U32_MAX

CATALOG = """\
Each type of a symbol that has day files: its columns, those that every day has before those that
only `days` of them have; its first and last day and the calendar days between them without a file;
the times of its first and its last record, null where there is none. True as of the request."""

_DAY = {"type": "string", "format": "date", "examples": ["2025-01-31"]}
_TIME = {"type": ["integer", "null"], "minimum": 0, "maximum": U32_MAX}

CATALOG_PARAMETERS: dict[str, object] = {
    "listedType": {
        "name": "type",
        "in": "query",
        "required": False,
        "description": "Describe this one only, else all.",
        "schema": {
            "type": "string",
            "pattern": r"^[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}$",
            "examples": ["MD"],
        },
    },
}

CATALOG_SCHEMAS: dict[str, object] = {
    "Catalog": {
        "type": "object",
        "properties": {
            "exchange": {"type": "string", "examples": ["coinbase"]},
            "symbol": {"type": "string", "examples": ["BTC-USD"]},
            "types": {
                "type": "object",
                "additionalProperties": {"$ref": "#/components/schemas/CatalogType"},
            },
        },
        "required": ["exchange", "symbol", "types"],
    },
    "CatalogType": {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"$ref": "#/components/schemas/CatalogColumn"}},
            "days": {"type": "integer", "description": "Days with files.", "minimum": 1},
            "first_day": _DAY,
            "last_day": _DAY,
            "first_time": _TIME,
            "last_time": _TIME,
            "missing_days": {"type": "array", "items": _DAY},
        },
        "required": [
            *("columns", "days", "first_day", "last_day"),
            *("first_time", "last_time", "missing_days"),
        ],
    },
    "CatalogColumn": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "examples": ["price"]},
            "dtype": {"type": "string", "examples": ["<f4"]},
            "record_size": {"type": "integer", "description": "Bytes of a record.", "minimum": 1},
            "days": {
                "type": "integer",
                "description": "Days that have it, if not all do.",
                "minimum": 1,
            },
        },
        "required": ["name", "dtype", "record_size"],
    },
}
