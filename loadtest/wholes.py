"""What a whole answer of /api/data must be.

Owns the judgement of its head, its header line and its bytes while they stream by. Compared are:
the length three ways (Content-Length, the bytes that came, the sum in the header line), the header
line with the query, the samples of `time` with each other, all bytes with those of an earlier
answer of the same ETag on whichever path, and with the files, where they are at hand: the samples,
of a small answer everything.
Whoever asks may then ask for some of the samples again, as ranges.
"""

from __future__ import annotations

import json
import re
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from loadtest.checks import StatusCheck
from loadtest.question import WrongAnswerError
from loadtest.samples import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from loadtest.dataroot import DataRoot
    from loadtest.question import Query, Question
    from loadtest.samples import Sample

LINE_BYTES_MAX = 1 << 20
KEPT_BYTES_MAX = 64 * 1024
"""Of a body that is kept whole."""

RECORDS_SAMPLED = 4
"""Of each column of a longer body, beside the first and the last."""

SUMS_MAX = 20_000
"""Answers whose checksum is remembered."""

_STRONG = re.compile(r'"[\x21\x23-\x7e]+"')
_KEYS = ["name", "record_size", "num_records", "data_length", "dtype"]


class Whole(NamedTuple):
    """A whole answer that was right, and what is kept of it."""

    target: str
    etag: str
    total: int
    samples: list[Sample]


class Sums:
    """Checksums by target and ETag: a strong ETag promises the same bytes each time."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], int] = {}

    def compare(self, target: str, etag: str, checksum: int) -> None:
        """Remember the checksum, or compare it with the one that is remembered.

        Raises:
            WrongAnswerError: the same ETag had other bytes.
        """
        if len(self._sums) >= SUMS_MAX:
            self._sums.clear()
        if self._sums.setdefault((target, etag), checksum) != checksum:
            raise WrongAnswerError(f"other bytes than before under the same ETag {etag}")


class DataCheck(StatusCheck):
    """200 with every record of the query, each column as long as the others."""

    def __init__(
        self,
        query: Query,
        *,
        random: Random,
        sums: Sums,
        root: DataRoot | None = None,
        on_right: Callable[[Whole], list[Question]] = lambda _: [],
    ) -> None:
        super().__init__(200)
        self._query = query
        self._random = random
        self._sums = sums
        self._root = root
        self._on_right = on_right
        self._asked_s = time.time()

    def judge_head(self) -> None:
        """The validators and the fields that only data has."""
        self.need("content-type", "application/octet-stream")
        self.need("accept-ranges", "bytes")
        self._etag = self.need("etag")
        if not _STRONG.fullmatch(self._etag):
            raise WrongAnswerError(f"not a strong ETag: {self._etag}")
        if "no-transform" not in self.need("cache-control"):
            raise WrongAnswerError(f"Cache-Control {self.fields['cache-control']!r}")
        self._line = b""
        self._columns: list[dict[str, Any]] = []
        self._sum = 0

    def judge_piece(self, piece: memoryview) -> None:
        """Read the header line, then take samples."""
        self._sum = zlib.crc32(piece, self._sum)
        if self._columns:
            self._sampler.feed(self.nbytes, piece)
            return
        line, newline, _ = (self._line + piece).partition(b"\n")
        if not newline:
            self._line = line
            if len(line) > LINE_BYTES_MAX:
                raise WrongAnswerError(f"no header line in the first {len(line)} bytes")
            return
        begun, self._line = self._line + piece, line + newline
        self._read_line()
        self._sampler.feed(0, memoryview(begun))

    def _read_line(self) -> None:
        try:
            self._document = json.loads(self._line)
            columns = self._document["columns"]
            compact = json.dumps(self._document, separators=(",", ":"), ensure_ascii=False)
            if f"{compact}\n".encode() != self._line:
                raise WrongAnswerError(f"not one compact line: {self._line[:200]!r}")
            if any(list(column) != _KEYS for column in columns):
                raise WrongAnswerError(f"not the keys {_KEYS}: {self._line[:200]!r}")
            nbytes = [column["record_size"] * column["num_records"] for column in columns]
            names = tuple(column["name"] for column in columns)
            counts = {column["num_records"] for column in columns}
            lengths = [column["data_length"] for column in columns]
        except (ValueError, LookupError, TypeError) as error:
            raise WrongAnswerError(f"not a header line: {self._line[:200]!r}: {error}") from None
        if names != self._query.columns:
            raise WrongAnswerError(f"columns {names}, asked for {self._query.columns}")
        if len(counts) != 1:
            raise WrongAnswerError(f"columns of different length: {sorted(counts)}")
        if nbytes != lengths or len(self._line) + sum(lengths) != self._promised:
            raise WrongAnswerError(
                f"Content-Length {self._promised}, header line of {len(self._line)} bytes, "
                f"columns of {lengths} bytes, records of {nbytes}"
            )
        self._columns, self._records = columns, counts.pop()
        self._choose_samples()

    def _choose_samples(self) -> None:
        """The header line, and the same records of each column; a small body is kept whole."""
        chosen = (
            {self._random.randrange(self._records) for _ in range(RECORDS_SAMPLED)}
            if (self._records)
            else set()
        )
        edges = {0, self._records - 1} if self._records else set()
        self._chosen = sorted(chosen | edges)
        self._offsets = {}
        offset = len(self._line)
        parts = [range(offset)]
        for column in self._columns:
            self._offsets[column["name"]] = offset
            size = column["record_size"]
            parts += [
                range(offset + index * size, offset + (index + 1) * size) for index in self._chosen
            ]
            offset += column["data_length"]
        self._sampler = Sampler([range(offset)] if offset <= KEPT_BYTES_MAX else parts)

    @property
    def _promised(self) -> int:
        return int(self.fields["content-length"])

    def judge_end(self) -> list[Question]:
        """Everything that needs the whole; then what follows from it."""
        if not self._columns:
            raise WrongAnswerError("no header line")
        times = [int.from_bytes(self._record("time", index), "little") for index in self._chosen]
        if "time" in self._offsets:
            within = all(self._query.start <= at <= self._query.end for at in times)
            if not within or times != sorted(times):
                raise WrongAnswerError(
                    f"times {times} asked from {self._query.start} to {self._query.end}"
                )
        self._sums.compare(self._query.target, self._etag, self._sum)
        if self._root is not None:
            self._compare_files(self._root)
        samples = self._sampler.samples
        return self._on_right(Whole(self._query.target, self._etag, self._promised, samples))

    def _record(self, name: str, index: int) -> bytes:
        if name not in self._offsets:
            return b""
        size = next(column["record_size"] for column in self._columns if column["name"] == name)
        return self._sampler.at(self._offsets[name] + index * size, size)

    def _compare_files(self, root: DataRoot) -> None:
        sizes = {column["name"]: column["record_size"] for column in self._columns}
        expected = root.expect(self._query, sizes, self._asked_s)
        records, skipped = expected.num_records, self._document.get("skipped", [])
        if self._records > records or (expected.is_settled and self._records != records):
            raise WrongAnswerError(f"{self._records} records, the files hold {records}")
        if expected.is_settled and skipped != expected.skipped:
            raise WrongAnswerError(f"skipped {skipped}, by the files {expected.skipped}")
        for name, size in sizes.items():
            if self._promised <= KEPT_BYTES_MAX:
                nbytes = self._records * size
                whole = expected.column(name, size)[:nbytes]
                if whole != self._sampler.at(self._offsets[name], nbytes):
                    raise WrongAnswerError(f"column {name} is not that of the files")
                continue
            for index in self._chosen:
                if self._record(name, index) != expected.record(name, size, index):
                    raise WrongAnswerError(f"record {index} of {name} is not that of the file")
