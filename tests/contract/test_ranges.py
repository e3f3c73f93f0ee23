"""Ranges over the composed body: header line and all columns as one representation."""

from __future__ import annotations

import os
import random
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, data_target
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    OPEN_DAY,
    OPEN_START_S,
    age,
    append,
    folder,
    marks,
    path_of,
    put,
    replace,
    start_of,
    u32,
)
from tests.table import each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server import Answer
    from zerocopy.storage.tree import Series

SMALL, LARGE = 5, 9_000


@pytest.fixture(params=[SMALL, LARGE])
def filled(site: Site, series: Series, request: pytest.FixtureRequest) -> Series:
    """Two days of five records, which are sent from memory, or of 9,000, sent from files."""
    count = request.param
    for number in range(2):
        day = DAY + timedelta(days=number)
        times = u32(*(start_of(day) + second // 2 for second in range(count)))
        columns = {"time": times, "price": marks(count, base=number << 20)}
        for path in put(site.root, columns, day, series).values():
            os.utime(path, (DAY_START_S, DAY_START_S))
    return series


def ask(site: Site, series: Series, wanted: str, **fields: str) -> Answer:
    """A data request with a Range field, and others."""
    named = [(name.replace("_", "-"), value) for name, value in fields.items()]
    return site.ask(data_target(series), fields=[("Range", wanted), *named])


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part, read by the letter of RFC 2046 section 5.1.1."""
    boundary = answer.fields["content-type"].removeprefix("multipart/byteranges; boundary=")
    assert re.fullmatch(r"[0-9A-Za-z'()+_,./:=?-]{1,70}", boundary)
    sections = answer.content.split(b"--" + boundary.encode())
    assert sections[0] == b""
    assert sections[-1] == b"--\r\n"
    parts = []
    for section in sections[1:-1]:
        head, _, content = section.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert lines.keys() == {"Content-Type", "Content-Range"}
        assert lines["Content-Type"] == "application/octet-stream"
        assert content.endswith(b"\r\n")
        parts.append((lines["Content-Range"], content[:-2]))
    return parts


def test_one_range_is_that_part_of_the_body(site: Site, filled: Series) -> None:
    """At both ends, in the header line, across columns and days, all of it."""
    body = site.expected(filled)
    line, size = body.index(b"\n") + 1, len(body)
    cuts = [0, 1, line - 1, line, line + 1, size // 2, size // 4 * 3, size - 1]
    pairs = [(first, last) for first in cuts for last in cuts if first <= last]
    with site.session() as session:
        for first, last in pairs:
            fields = [("Range", f"bytes={first}-{last}")]
            answer = session.request(data_target(filled), fields=fields)
            assert answer.status == 206
            assert answer.fields["content-range"] == f"bytes {first}-{last}/{size}"
            assert answer.content == body[first : last + 1]


def test_open_and_suffix_ranges(site: Site, filled: Series) -> None:
    """From a byte on, the last bytes, and more than there are."""
    body = site.expected(filled)
    size = len(body)
    for wanted, first in [("5-", 5), ("-7", size - 7), (f"-{size + 9}", 0), (f"9-{size * 9}", 9)]:
        answer = ask(site, filled, f"bytes={wanted}")
        assert answer.content == body[first:]
        assert answer.fields["content-range"] == f"bytes {first}-{size - 1}/{size}"


def test_part_has_the_fields_of_the_whole(site: Site, filled: Series) -> None:
    """RFC 9110 section 15.3.7: what a 200 would have had, and Accept-Ranges on all of them."""
    whole, part = site.data(filled), ask(site, filled, "bytes=1-2")
    for name in ("etag", "last-modified", "cache-control", "content-type"):
        assert whole.fields[name] == part.fields[name]
    for answer in (whole, part, site.ask(data_target(filled), method="HEAD")):
        assert answer.fields["accept-ranges"] == "bytes"
    assert "content-range" not in whole.fields


def test_several_ranges_are_parts_in_the_order_asked_for(site: Site, filled: Series) -> None:
    """multipart/byteranges, each part exact; one that cannot be had is left out."""
    body = site.expected(filled)
    size = len(body)
    wanted = [(3, 70), (100, 150), (size - 3, size + 5), (0, 0), (80, 81)]
    spelled = ", ".join(f"{first}-{last}" for first, last in wanted) + f",{size}-"
    answer = ask(site, filled, f"bytes={spelled}")
    assert answer.status == 206
    assert "content-range" not in answer.fields
    expected = []
    for first, last in wanted:
        content = body[first : last + 1]
        expected.append((f"bytes {first}-{first + len(content) - 1}/{size}", content))
    assert parts_of(answer) == expected


@pytest.mark.parametrize("seed", range(3))
def test_sixteen_random_ranges(site: Site, filled: Series, seed: int) -> None:
    """As many as are allowed, apart from each other, anywhere in the body, on one connection."""
    body = site.expected(filled)
    size, chance = len(body), random.Random(seed)
    with site.session() as session:
        for _ in range(5):
            ends = sorted(chance.sample(range(size), min(32, size // 4 * 2)))
            pairs = list(zip(ends[::2], ends[1::2], strict=True))
            chance.shuffle(pairs)
            spelled = "bytes=" + ",".join(f"{first}-{last}" for first, last in pairs)
            answer = session.request(data_target(filled), fields=[("Range", spelled)])
            assert [content for _, content in parts_of(answer)] == [
                body[first : last + 1] for first, last in pairs
            ]


def test_overlapping_ranges_are_sent_once(site: Site, filled: Series) -> None:
    """However often the whole is asked for, it comes once: no amplification."""
    body = site.expected(filled)
    for wanted in ("0-," * 16, "0-,-5,3-9", f"0-{len(body) // 2},1-"):
        answer = ask(site, filled, "bytes=" + wanted)
        assert (answer.status, answer.content) == (206, body)


def test_too_many_ranges_are_refused(site: Site, filled: Series) -> None:
    """The seventeenth is one too many: 416, which says so and how long the body is."""
    assert ask(site, filled, "bytes=" + "0-0," * 16).status == 206
    answer = ask(site, filled, "bytes=" + "0-0," * 17)
    assert answer.status == 416
    assert answer.fields["content-range"] == f"bytes */{len(site.expected(filled))}"
    assert b"at most 16 ranges" in answer.content


@pytest.mark.parametrize("beyond", [0, 1, 10**30])
def test_range_beyond_the_end_is_not_satisfiable(site: Site, filled: Series, beyond: int) -> None:
    """416 with the length, so that a client can ask again."""
    size = len(site.expected(filled))
    answer = ask(site, filled, f"bytes={size + beyond}-")
    assert (answer.status, answer.fields["content-range"]) == (416, f"bytes */{size}")
    assert answer.fields["content-type"] == "application/problem+json"
    assert ask(site, filled, "bytes=-0").status == 416


@pytest.mark.parametrize("wanted", ["records=0-1", "bytes=2-1", "bytes=x", "bytes", "bytes=0-1,-"])
def test_what_is_no_byte_range_is_ignored(site: Site, filled: Series, wanted: str) -> None:
    """The whole, as if the field were not there: RFC 9110 section 14.2."""
    answer = ask(site, filled, wanted)
    assert (answer.status, answer.content) == (200, site.expected(filled))


def test_two_range_fields_are_none(site: Site, filled: Series) -> None:
    """Joined by a comma they spell no set of ranges: RFC 9110 section 5.3."""
    fields = [("Range", "bytes=0-1"), ("Range", "bytes=2-3")]
    assert site.ask(data_target(filled), fields=fields).status == 200


def test_range_is_for_get_only(site: Site, filled: Series) -> None:
    """HEAD describes the whole: RFC 9110 section 14.2."""
    answer = site.ask(data_target(filled), method="HEAD", fields=[("Range", "bytes=0-1")])
    assert answer.status == 200
    assert int(answer.fields["content-length"]) == len(site.expected(filled))


@each("target", ["/healthz", "/readyz", "/api/symbols", "/openapi.json"])
def test_other_resources_have_no_ranges(site: Site, target: str) -> None:
    """Only data says Accept-Ranges, and only data has parts."""
    answer = site.ask(target, fields=[("Range", "bytes=0-1")])
    assert answer.status == 200
    assert "accept-ranges" not in answer.fields


def test_if_range_with_the_tag_of_now_is_a_part(site: Site, filled: Series) -> None:
    """And it leaves out what the client has from the 200 already."""
    etag = site.data(filled).fields["etag"]
    answer = ask(site, filled, "bytes=0-9", If_Range=etag)
    assert (answer.status, answer.content) == (206, site.expected(filled)[:10])
    assert "last-modified" not in answer.fields
    assert answer.fields["etag"] == etag


def test_if_range_with_anything_else_is_the_whole(site: Site, filled: Series) -> None:
    """Another tag, a weak one, a date: all bytes of one state rather than parts of two."""
    whole = site.data(filled)
    etag = whole.fields["etag"]
    for condition in ('"x"', f"W/{etag}", whole.fields["last-modified"], "*"):
        answer = ask(site, filled, "bytes=0-9", If_Range=condition)
        assert (answer.status, answer.content) == (200, whole.content)


@pytest.mark.parametrize("change", ["append", "replace"])
def test_download_that_is_resumed_never_mixes_two_states(
    site: Site, filled: Series, change: str
) -> None:
    """With If-Range a client that lost its connection gets the rest, or all there is now."""
    whole = site.data(filled)
    half = len(whole.content) // 2
    resumed = ask(site, filled, f"bytes={half}-", If_Range=whole.fields["etag"])
    assert whole.content[:half] + resumed.content == whole.content
    paths = [path_of(site.root, column, DAY, filled) for column in ("time", "price")]
    if change == "append":
        for path in paths:
            append(path, u32(DAY_START_S + 80_000))
    else:
        replace(paths[1], marks(os.path.getsize(paths[1]) // 4, base=7 << 20))
    resumed = ask(site, filled, f"bytes={half}-", If_Range=whole.fields["etag"])
    assert (resumed.status, resumed.content) == (200, site.expected(filled))


def test_ranges_of_a_plan_that_is_used_again(site: Site, filled: Series) -> None:
    """Whole, parts and 304 of one proved plan, in any order, on one connection."""
    paths = [
        path_of(site.root, column, DAY + timedelta(days=number), filled)
        for column in ("time", "price")
        for number in range(2)
    ]
    age(*paths, folder(site.root, filled))
    body, target = site.expected(filled), data_target(filled)
    etag = site.data(filled).fields["etag"]
    asked: Sequence[tuple[str, str, int, bytes]] = [
        ("Accept", "*/*", 200, body),
        ("Range", "bytes=3-70", 206, body[3:71]),
        ("If-None-Match", etag, 304, b""),
        ("If-Match", '"x"', 412, b""),
        ("Range", "bytes=-9", 206, body[-9:]),
    ]
    chance = random.Random(1)
    with site.session() as session:
        for name, value, status, content in chance.choices(asked, k=60):
            answer = session.request(target, fields=[(name, value)])
            assert answer.status == status
            assert answer.content == content or status == 412


def test_part_of_a_day_that_is_written(site: Site, series: Series) -> None:
    """Its bytes by range, then more of them after an append, each as of its request."""
    paths = put(site.root, {"time": u32(OPEN_START_S), "price": marks(1)}, OPEN_DAY, series)
    with site.session() as session:
        for number in range(1, 20):
            body = site.expected(series)
            fields = [("Range", "bytes=-8")]
            answer = session.request(data_target(series), fields=fields)
            assert (answer.status, answer.content) == (206, body[-8:])
            assert answer.fields["content-range"].endswith(f"/{len(body)}")
            append(paths["price"], marks(1, base=number))
            append(paths["time"], u32(OPEN_START_S + number))
