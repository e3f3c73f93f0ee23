"""Content codings: every format in every coding is the format once it is decoded."""

from __future__ import annotations

import gzip
import random
from typing import TYPE_CHECKING

import pytest
import zstandard

from tests.formats.plans import F4, S16, U4, U8, day_records, plan_of
from zerocopy.core.codings import CODINGS, GZIP, ZSTD
from zerocopy.formats import arrow, coded, columns, json

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.plan import DayRecords, Encode, Plan, Represent

WINDOW_BYTES_MAX = 8 * 1_048_576
"""RFC 9659 section 3: the largest window of zstd that a client must have."""

COLUMNS = {"time": U4, "price": F4, "id": U8, "order": S16}
PLANS = {
    "no day": plan_of(COLUMNS, []),
    "a day without records": plan_of(COLUMNS, [day_records(1, 3, 3, "tpio")]),
    "a part of a day": plan_of(COLUMNS, [day_records(1, 7, 5_007, "tpio")]),
    "days": plan_of(COLUMNS, [day_records(day, 0, 40_000, "tpio") for day in (1, 2, 4)]),
    "one column": plan_of({"order": S16}, [day_records(9, 1, 4, "o")]),
}


def decoded(coding: bytes, content: bytes) -> bytes:
    """What a client makes of it: one frame, all of it, its checksum right."""
    if coding == GZIP:
        return gzip.decompress(content)
    stream = zstandard.ZstdDecompressor().decompressobj()
    found = stream.decompress(content)
    assert (stream.eof, stream.unused_data) == (True, b"")
    return found


def written(encode: Encode, plan: Plan) -> bytes:
    """All that an encoder writes; records are read as a service reads them."""
    parts: list[bytes] = []

    def read(day: DayRecords, position: int, first: int, count: int) -> bytes:
        assert first >= day.records.first
        assert 0 < count <= day.records.stop - first
        size = plan.columns[position].dtype.nbytes
        return day.sources[position].read(first * size, count * size)

    encode(plan, read, parts.append)
    return b"".join(parts)


def whole(represent: Represent, plan: Plan) -> bytes:
    """All bytes of a format."""
    found = represent(plan)
    pieces = (piece.source.read(piece.offset, piece.count) for piece in found.segments)
    return b"".join((found.content, *pieces))


@pytest.mark.parametrize(
    "represent", [columns.represent, arrow.represent], ids=["columns", "arrow"]
)
@pytest.mark.parametrize("piece_bytes", [1, 1_000, coded.PIECE_BYTES])
def test_format_of_the_files_is_written_as_it_would_leave(
    represent: Represent, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Header, records and what stands between them, whatever is read at a time."""
    monkeypatch.setattr(coded, "PIECE_BYTES", piece_bytes)
    for name, plan in PLANS.items():
        if piece_bytes == 1 and plan.num_records > 10_000:
            continue
        assert written(coded.encode_as(represent), plan) == whole(represent, plan), name


@pytest.mark.parametrize("coding", CODINGS)
def test_any_format_is_itself_once_it_is_decoded(coding: bytes) -> None:
    """Of the files or computed, and the same bytes whenever it is coded again."""
    for encode in (
        coded.encode_as(columns.represent),
        coded.encode_as(arrow.represent),
        json.encode,
    ):
        for name, plan in PLANS.items():
            content = written(coded.encode_coded(encode, coding), plan)
            assert decoded(coding, content) == written(encode, plan), name
            assert written(coded.encode_coded(encode, coding), plan) == content


def make_text(rng: random.Random) -> bytes:
    """Some megabytes of lines as in csv: longer than any window of level 1."""
    return b"".join(b"%d,%.2f\n" % (1_735_689_600 + at, rng.random()) for at in range(150_000))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(
    "make", [make_text, lambda rng: rng.randbytes(1_500_000)], ids=["text", "noise"]
)
def test_coded_bytes_do_not_depend_on_the_pieces(
    coding: bytes, make: Callable[[random.Random], bytes]
) -> None:
    """A strong tag names content, level and version; so these alone may decide what leaves."""
    rng = random.Random(7)
    content = make(rng)
    once = coded.compressed(coding, content)
    assert decoded(coding, once) == content
    for most in (1_000, 70_000, 2_000_000):
        stream, parts, at = coded.compressor(coding), [], 0
        while at < len(content):
            count = rng.randint(1, most)
            parts.append(stream.compress(content[at : at + count]))
            at += count
        assert b"".join((*parts, stream.flush())) == once


def test_frame_is_what_every_client_can_read() -> None:
    """A window of at most 8 MiB (RFC 9659), no dictionary, a checksum; no time in gzip."""
    found = zstandard.get_frame_parameters(coded.compressed(ZSTD, make_text(random.Random(1))))
    assert found.window_size <= WINDOW_BYTES_MAX
    assert found.dict_id == 0
    assert found.has_checksum
    assert coded.compressed(GZIP, b"x")[4:8] == bytes(4)


def test_versions_tell_library_and_level() -> None:
    """Another of either may give other bytes."""
    assert coded.VERSIONS.keys() == set(CODINGS)
    assert zstandard.backend == "cext"
    assert coded.VERSIONS[ZSTD].split()[1] == ".".join(map(str, zstandard.ZSTD_VERSION))
