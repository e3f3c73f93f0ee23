"""Content codings over the wire: negotiated for text, asked for by the query for columns."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from tests.contract.site import Site, data_of, data_target
from tests.contract.test_statuses import assert_problem
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    age,
    append,
    marks,
    path_of,
    put,
    u32,
)
from tests.table import case, each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server import Answer
    from zerocopy.storage.tree import Series

FEW, MANY = 9, 30_000
COLUMNS = ("time", "price")
CODINGS = ("zstd", "gzip")
NOT_IN_304 = {"content-encoding", "content-length", "content-type", "accept-ranges"}


def decoded(answer: Answer) -> bytes:
    """The content as a client has it in the end."""
    coding = answer.fields.get("content-encoding")
    if coding == "gzip":
        return gzip.decompress(answer.content)
    if coding == "zstd":
        stream = zstandard.ZstdDecompressor().decompressobj()
        content = stream.decompress(answer.content)
        assert (stream.eof, stream.unused_data) == (True, b"")
        return content
    assert coding is None
    return answer.content


def ask(
    site: Site, target: str, accept: str | None, *fields: tuple[str, str], method: str = "GET"
) -> Answer:
    """One request with this Accept-Encoding; None leaves it out."""
    own = [] if accept is None else [("Accept-Encoding", accept)]
    return site.ask(target, method=method, fields=[*own, *fields])


def bars_target(series: Series, **others: Any) -> str:
    """Bars of everything."""
    return data_target(series, columns=("price:ohlc",), **others).replace("/data", "/bars", 1)


def targets_of(series: Series) -> dict[str, Sequence[str]]:
    """Targets whose answer has several codings, with the codings that each may have."""
    asked: Any = {"compress": "zstd"}
    return {
        "/": CODINGS,
        "/ui/zerocopy.js": CODINGS,
        "/openapi.json": CODINGS,
        f"/api/catalog?symbol={series.symbol}": CODINGS,
        data_target(series, format="json"): CODINGS,
        data_target(series, format="csv"): CODINGS,
        bars_target(series, format="json"): CODINGS,
        bars_target(series, format="csv"): CODINGS,
        data_target(series, **asked): ("zstd",),
        data_target(series, format="arrow", **asked): ("zstd",),
        bars_target(series, **asked): ("zstd",),
        bars_target(series, format="arrow", **asked): ("zstd",),
    }


def fill(site: Site, series: Series, count: int) -> None:
    """A day of so many records that nobody has written to for long."""
    times = u32(*(DAY_START_S + at for at in range(count)))
    paths = put(site.root, {"time": times, "price": marks(count)}, DAY, series).values()
    for path in paths:
        os.utime(path, (DAY_START_S, DAY_START_S))
    age(*paths)


@pytest.fixture(params=[FEW, MANY], ids=["few", "many"])
def filled(site: Site, series: Series, request: pytest.FixtureRequest) -> Series:
    """What is answered from memory, or from the spool."""
    fill(site, series, request.param)
    return series


@pytest.fixture
def few(site: Site, series: Series) -> Series:
    """What is answered from memory alone."""
    fill(site, series, FEW)
    return series


@pytest.fixture
def many(site: Site, series: Series) -> Series:
    """So much that it lies in the spool in any coding."""
    fill(site, series, MANY)
    return series


def test_each_client_gets_the_coding_it_likes(site: Site, filled: Series) -> None:
    """Decoded it is the same; tag and length are those of what leaves; HEAD says so, too."""
    for target, codings in targets_of(filled).items():
        plain = ask(site, target, "identity")
        tags = {plain.fields["etag"]}
        assert "content-encoding" not in plain.fields
        assert plain.fields["vary"] == "Accept-Encoding"
        for coding in codings:
            with case(coding, target):
                answer = ask(site, target, f"{coding}, identity;q=0.1")
                head = ask(site, target, f"{coding}, identity;q=0.1", method="HEAD")
                assert answer.status == 200
                assert answer.fields["content-encoding"] == coding
                assert answer.fields["vary"] == "Accept-Encoding"
                assert decoded(answer) == plain.content
                assert answer.fields["content-length"] == str(len(answer.content))
                for name in ("content-type", "cache-control", "last-modified", "accept-ranges"):
                    assert answer.fields.get(name) == plain.fields.get(name)
                assert head.content == b""
                for name in answer.fields.keys() - {"date", "connection"}:
                    assert head.fields[name] == answer.fields[name]
                tags.add(answer.fields["etag"])
        assert len(tags) == 1 + len(codings)


def test_tags_are_those_of_one_coding(site: Site, filled: Series) -> None:
    """304 and 412 compare with what this client would get; a 304 says what it varies by."""
    for target, codings in targets_of(filled).items():
        tags = {name: ask(site, target, name).fields["etag"] for name in ("identity", *codings)}
        assert all(re.fullmatch('"[0-9a-f]+"', tag) for tag in tags.values())
        for (had, tag), wanted in itertools.product(tags.items(), tags):
            with case(had, wanted, target):
                same = had == wanted
                answer = ask(site, target, wanted, ("If-None-Match", tag))
                assert answer.status == (304 if same else 200)
                assert answer.fields["etag"] == tags[wanted]
                assert answer.fields["vary"] == "Accept-Encoding"
                assert not same or not answer.fields.keys() & NOT_IN_304
                assert ask(site, target, wanted, ("If-Match", tag)).status == (200 if same else 412)


@each("name", ["json", "csv", "columns", "arrow"])
@each("coding", CODINGS)
def test_parts_are_those_of_the_coded_form(
    site: Site, many: Series, name: str, coding: str
) -> None:
    """One range, several, none that is there; If-Range resumes it, and not another coding of it."""
    asked: Any = {} if name in {"json", "csv"} else {"compress": "zstd"}
    if asked and coding == "gzip":
        return
    target = data_target(many, format=name, **asked)
    whole, plain = ask(site, target, coding), ask(site, target, "identity")
    body, size, etag = whole.content, len(whole.content), whole.fields["etag"]
    assert size > 66_000, "more than stays in memory"
    for first, last in ((0, 0), (5, size // 2), (65_530, 65_540), (size - 9, size - 1)):
        part = ask(site, target, coding, ("Range", f"bytes={first}-{last}"))
        assert part.status == 206
        assert part.content == body[first : last + 1]
        assert part.fields["content-range"] == f"bytes {first}-{last}/{size}"
        assert part.fields["content-encoding"] == coding
        assert (part.fields["etag"], part.fields["vary"]) == (etag, "Accept-Encoding")
    rest = ask(site, target, coding, ("Range", "bytes=1000-"), ("If-Range", etag))
    assert (rest.status, body[:1_000] + rest.content) == (206, body)
    assert "content-encoding" not in rest.fields, "the client has it, as the rest of its metadata"
    other = ask(site, target, coding, ("Range", "bytes=1000-"), ("If-Range", plain.fields["etag"]))
    assert (other.status, other.content) == (200, body)
    several = ask(site, target, coding, ("Range", "bytes=0-7,70000-70003"))
    assert several.status == 206
    assert several.fields["content-type"].startswith("multipart/byteranges")
    assert "content-encoding" not in several.fields, (
        "the parts are in a coding, not what holds them"
    )
    assert several.content.count(f"Content-Encoding: {coding}\r\n".encode()) == 2
    assert body[:8] in several.content
    beyond = ask(site, target, coding, ("Range", f"bytes={size}-"))
    assert (beyond.status, beyond.fields["content-range"]) == (416, f"bytes */{size}")


def test_what_is_not_text_leaves_as_it_is(site: Site, few: Series) -> None:
    """Columns and Arrow unless asked for, Parquet, health, problems; and none of them varies."""
    for target in (
        data_target(few),
        data_target(few, format="columns"),
        data_target(few, format="arrow"),
        data_target(few, format="parquet"),
        data_target(few, format="parquet", compress="zstd"),
        bars_target(few),
        bars_target(few, format="arrow"),
        "/healthz",
        "/readyz",
        data_target(few, format="yaml"),
        "/nowhere.json",
    ):
        with case(target):
            answer = ask(site, target, "zstd, gzip, identity;q=0")
            assert not {"content-encoding", "vary"} & answer.fields.keys()
            assert answer.content == ask(site, target, None).content
    assert data_of(ask(site, data_target(few), "zstd")) == data_of(site.data(few))


def test_columns_are_compressed_for_those_who_ask_and_can_read_it(site: Site, few: Series) -> None:
    """The query asks, Accept-Encoding takes it or is left out; else the files leave as they are."""
    for target in (data_target(few, compress="zstd"), bars_target(few, compress="zstd")):
        plain = site.ask(target.replace("compress=zstd", "x=y"))
        for accept, coding in (
            (None, "zstd"),
            ("zstd", "zstd"),
            ("gzip, zstd;q=0.1", "zstd"),
            ("*", "zstd"),
            ("gzip", None),
            ("identity", None),
            ("", None),
            ("zstd;q=0, *", None),
        ):
            with case(accept, target):
                answer = ask(site, target, accept)
                assert answer.fields.get("content-encoding") == coding
                assert answer.fields["vary"] == "Accept-Encoding"
                assert decoded(answer) == plain.content
                assert coding or answer.fields["etag"] == plain.fields["etag"]


def test_compress_wins_over_what_text_would_have_got(site: Site, few: Series) -> None:
    """Though gzip is liked better; without Accept-Encoding text is coded, too."""
    target = data_target(few, format="json", compress="zstd")
    plain = ask(site, data_target(few, format="json"), None)
    assert "content-encoding" not in plain.fields
    for accept, coding in (("gzip, zstd;q=0.1", "zstd"), (None, "zstd"), ("gzip", "gzip")):
        answer = ask(site, target, accept)
        assert answer.fields["content-encoding"] == coding
        assert decoded(answer) == plain.content


def test_wrong_compress_is_told(site: Site, few: Series) -> None:
    """Another coding, none, or two."""
    wrong: list[Any] = [{"compress": "gzip"}, {"compress": ""}, {"compress": "ZSTD"}]
    for more in wrong:
        assert_problem(site, site.ask(data_target(few, **more)), 400, "compress: must be zstd")
        assert_problem(site, site.ask(bars_target(few, **more)), 400, "compress: must be zstd")
    twice = site.ask(data_target(few, compress="zstd") + "&compress=zstd")
    assert_problem(site, twice, 400, "compress: given more than once")


def test_coded_answers_hold_what_was_appended(site: Site, series: Series) -> None:
    """The next request, in each coding; symbols and catalog as well."""
    fill(site, series, FEW)
    for number in range(3):
        append(path_of(site.root, "time", DAY, series), u32(DAY_START_S + 100 + number))
        append(path_of(site.root, "price", DAY, series), marks(1))
        for coding in CODINGS:
            data = ask(site, data_target(series, format="json"), coding)
            assert json.loads(decoded(data))["num_records"] == FEW + 1 + number
            raw = ask(site, data_target(series, compress="zstd"), "zstd")
            assert decoded(raw) == site.expected(series)
            catalog = json.loads(decoded(ask(site, f"/api/catalog?symbol={series.symbol}", coding)))
            assert catalog["types"]["MD"]["last_time"] == DAY_START_S + 100 + number
            symbols = ask(site, "/api/symbols", coding)
            assert symbols.fields["content-encoding"] == coding
            assert json.loads(decoded(symbols)) == site.expected_symbols()


def test_equal_queries_are_kept_in_each_coding(site: Site, many: Series) -> None:
    """The second answer in a coding is that of the spool; the other coding is computed once."""
    target = data_target(many, format="csv")

    def computed() -> float:
        return site.server.metric("zerocopy_answers_computed_total")

    for coding in CODINGS:
        for _ in range(1_000):  # a file that changed within the last 100 ms proves nothing
            ask(site, target, coding)
            begun = computed()
            ask(site, target, coding)
            if computed() == begun:
                break
        else:
            pytest.fail("nothing is kept")
    for coding in CODINGS:
        ask(site, target, coding)
    assert computed() == begun


def test_nothing_of_a_request_is_in_what_is_compressed(site: Site, few: Series) -> None:
    """Secrets in its fields do not change a byte, so no length tells of them (BREACH)."""
    secrets = (("Cookie", "session=6f1c"), ("Authorization", "Bearer 6f1c"), ("X-Secret", "6f1c"))
    for target, codings in targets_of(few).items():
        answer = ask(site, target, codings[0])
        assert ask(site, target, codings[0], *secrets).content == answer.content
