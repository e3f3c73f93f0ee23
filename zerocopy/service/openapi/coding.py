"""What /openapi.json tells of content codings; `document.py` puts it into the document."""

from __future__ import annotations

CODED = ("Content-Encoding", "Vary")
"""Fields of what may be coded; the first only where it is."""

CODING_PARAMETERS: dict[str, object] = {
    "compress": {
        "name": "compress",
        "in": "query",
        "required": False,
        "description": "Have the answer in zstd, where Accept-Encoding takes it or is left out; "
        "`parquet` has it inside.",
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
