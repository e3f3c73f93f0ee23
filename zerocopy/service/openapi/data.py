"""What /openapi.json tells of /api/data in words, and of all; `document.py` uses it."""

from __future__ import annotations

DATA = """\
All records with `start` <= time <= `end`, each exactly once. The content begins with one line of
compact JSON, ended by one LF: `HeaderLine` among the schemas. After it come the raw little-endian
records of the first column, days ascending, then those of the second, with nothing between. Every
column has the same number of records, and record i of each belongs to record i of `time`. Times are
u32 unix seconds. What the others are is told by `dtype`, in numpy's words: u32 of `side`, `nanos`,
`count` and `flags`, else f32, unless the operator declared another. A range without records is no
error: every `num_records` is 0. Preconditions and ranges (RFC 9110 sections 13 and 14) concern the
content as a whole, header line included. `format` chooses another shape of the same records, with
an `ETag` of its own and a file name; all else holds for every format. `json`, `csv` and `parquet`
are computed, so they hold at most a number of records that the operator sets. `csv` and `parquet`
need an extra on the server: 501 where it is missing. With `last` the content holds only so many
records from the end of the range."""

INTERFACE = """\
Columnar market data of any time range, straight from day files. Every answer may be read by any
origin. A path that is not listed here is answered 404, but for `/` and `/ui/`: a page for people,
whose files change their names. Errors are problem documents (RFC 9457) whose `detail` names the
parameter and what would be right. Documents, `json` and `csv` come in zstd or gzip as
`Accept-Encoding` likes best. `columns` and `arrow` only come in zstd with `compress=zstd`, to
clients that take it: then they are computed as `json` is, with its bound of records. Each coding
has an `ETag` of its own, and ranges are those of the coded form."""
