"""Content codings: what each level makes of data, and what a first answer in each coding costs.

Owns the two tables. There is no peer: the question is what a coding costs against none. Answers are
decoded and compared; each is asked for once, because the next one comes from what is kept.
"""

from __future__ import annotations

import gzip
import http.client
import time
import zlib
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from bench.fetch import fetch
from bench.meter import cpu_seconds_fine
from bench.rounds import progress
from bench.section import Table, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.peers import Endpoint
    from bench.rounds import Options
    from bench.servers import Servers
    from zerocopy.formats.coded import Compressor

RECORDS, SMOKE_RECORDS = 1_000_000, 10_000
"""Of a first answer."""

PIECE_BYTES = 1 << 20
TIMEOUT_S = 120
GZIP_WINDOW = 31

LEVELS: Sequence[tuple[str, int]] = (
    *(("zstd", level) for level in (-1, 1, 3, 5, 6, 9, 19)),
    *(("gzip", level) for level in (1, 2, 4, 6, 9)),
)
FORMATS = ("columns", "json", "csv")
WAYS = (
    ("csv", ""), ("csv", "zstd"), ("csv", "gzip"),
    ("json", ""), ("json", "zstd"), ("json", "gzip"),
    ("columns", ""), ("columns", "zstd"), ("arrow", "zstd"),
)  # fmt: skip


class _Answer(NamedTuple):
    """One answer: seconds to its first byte, processor seconds of the server, bytes that came."""

    first_s: float
    cpu_s: float
    nbytes: int


def measure_compression(options: Options, servers: Servers) -> Iterator[Table]:
    """Two tables: a row for each level, and one for each format in each coding."""
    yield _levels(options, servers.contest("plain", "1m").ours)
    yield _first_answers(options, servers.contest("plain", "48m").ours)


# ---- levels


def _levels(options: Options, ours: Endpoint) -> Table:
    table = Table(
        title="Compression: levels of zstd and gzip",
        client=(
            "a megabyte of columns in each format, pieces of 1 MiB, one thread: content divided "
            "by its coded form, and MB of content a processor second"
        ),
        head=("level", *FORMATS),
    )
    bodies = [fetch(replace(ours, target=f"{ours.target}&format={name}")) for name in FORMATS]
    for name, level in LEVELS:
        progress(f"compression: {name} {level}")
        cells = [_coded(name, level, body, options.rounds) for body in bodies]
        table.rows.append((f"{name} {level}", *cells))
    return table


def _coded(name: str, level: int, content: bytes, rounds: int) -> str:
    took_s, nbytes = [], 0
    for _ in range(rounds):
        begun_s = time.thread_time()
        stream: Compressor
        if name == "zstd":
            stream = zstandard.ZstdCompressor(level=level).compressobj()
        else:
            stream = zlib.compressobj(level, zlib.DEFLATED, GZIP_WINDOW)
        parts = [
            stream.compress(content[at : at + PIECE_BYTES])
            for at in range(0, len(content), PIECE_BYTES)
        ]
        nbytes = sum(map(len, (*parts, stream.flush())))
        took_s.append(time.thread_time() - begun_s)
    rate = len(content) / max(min(took_s), 1e-6) / 1e6
    return f"{len(content) / nbytes:.2f}, {rate:,.0f} MB/s"


# ---- first answers


def _first_answers(options: Options, ours: Endpoint) -> Table:
    records = SMOKE_RECORDS if options.smoke else RECORDS
    table = Table(
        title=f"Compression: the first answer of {records:,} records",
        client="one plain connection an answer; HTTP/1.1; each range is asked for once",
        head=(
            "format",
            "coding",
            "processor ms of the server (range)",
            "MB",
            "s to the first byte",
        ),
    )
    found: dict[tuple[str, str], list[_Answer]] = {way: [] for way in WAYS}
    asked = 0
    for number in range(options.rounds):
        for way in WAYS[:: 1 - number % 2 * 2]:
            progress(f"compression: round {number + 1}, {' '.join(way)}")
            asked += 1  # another range: it is not what was kept
            found[way].append(_ask(ours, *way, last=records - asked))
    _prove(ours, records)
    for (name, coding), answers in found.items():
        cpu_ms = [answer.cpu_s * 1e3 for answer in answers]
        nbytes = median(answer.nbytes for answer in answers)
        first_s = median(answer.first_s for answer in answers)
        cells = (spread(cpu_ms), f"{nbytes / 1e6:.1f}", f"{first_s:.2f}")
        table.rows.append((name, coding or "none", *cells))
    table.notes.append("All were the same once they were decoded.")
    return table


def _target(ours: Endpoint, name: str, coding: str, last: int) -> str:
    asked = "&compress=zstd" if coding and name in {"columns", "arrow"} else ""
    return f"{ours.target}&format={name}&last={last}{asked}"


def _ask(ours: Endpoint, name: str, coding: str, last: int) -> _Answer:
    cpu_before_s = sum(map(cpu_seconds_fine, ours.pids))
    begun = time.perf_counter()
    response = _response(ours, _target(ours, name, coding, last), coding)
    first_s = time.perf_counter() - begun
    nbytes = len(response.read())
    response.close()
    return _Answer(first_s, sum(map(cpu_seconds_fine, ours.pids)) - cpu_before_s, nbytes)


def _response(ours: Endpoint, target: str, coding: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=TIMEOUT_S)
    fields = {"Accept-Encoding": coding or "identity", "Connection": "close"}
    connection.request("GET", target, headers=fields)
    response = connection.getresponse()
    told = response.headers.get("Content-Encoding", "")
    if response.status != http.HTTPStatus.OK or told != coding:
        raise RuntimeError(f"compression: {target} was answered {response.status} in {told!r}")
    return response


def _prove(ours: Endpoint, records: int) -> None:
    """Each format is the same in every coding, once it is decoded."""
    decode: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "gzip": gzip.decompress,
        "zstd": lambda content: zstandard.ZstdDecompressor().decompressobj().decompress(content),
    }
    for name, coding in WAYS:
        bodies = []
        for each in {"", coding}:
            response = _response(ours, _target(ours, name, each, records), each)
            bodies.append(decode[each](response.read()))
            response.close()
        if len(set(bodies)) != 1:
            raise RuntimeError(f"compression: {name} in {coding} is another body")
