"""What /openapi.json tells of content codings; `openapi.py` puts it into the document."""

from __future__ import annotations

CODED = ("Content-Encoding", "Vary")
"""Fields of what may be coded; the first only where it is."""

CODING = """\
Documents, `json` and `csv` come in zstd or gzip as `Accept-Encoding` likes best. `columns` and
`arrow` only come in zstd with `compress=zstd`, to clients that take it: then they are computed, so
`json`'s bound of records holds. Each coding has an `ETag` of its own, and ranges are those of the
coded form."""

CODING_PARAMETERS: dict[str, object] = {
    "compress": {
        "name": "compress",
        "in": "query",
        "required": False,
        "description": "Have the answer in zstd, where Accept-Encoding takes it or is left out; "
        "not with `parquet`.",
        "schema": {"type": "string", "enum": ["zstd"], "examples": ["zstd"]},
    }
}

CODING_HEADERS: dict[str, object] = {
    "Content-Encoding": {
        "description": "The coding of the content, where there is one.",
        "schema": {"type": "string", "enum": ["zstd", "gzip"]},
    },
    "Vary": {
        "description": "Fields of the request that another answer depends on.",
        "schema": {"type": "string", "examples": ["Accept-Encoding"]},
    },
}
