"""Preconditions over the wire: what a client has already, and what it does not want."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, data_target
from tests.storage.trees import DAY, DAY_START_S, age, append, folder, marks, path_of, put, u32
from tests.table import each

if TYPE_CHECKING:
    from tests.server import Answer
    from zerocopy.storage.tree import Series

LARGE = 9_000
NOT_IN_304 = {"content-type", "content-length", "last-modified", "accept-ranges", "content-range"}


@pytest.fixture(params=[3, LARGE])
def filled(site: Site, series: Series, request: pytest.FixtureRequest) -> Series:
    """A day that is sent from memory, or from files."""
    times = u32(*(DAY_START_S + number for number in range(request.param)))
    paths = put(site.root, {"time": times, "price": marks(request.param)}, DAY, series)
    for path in paths.values():
        os.utime(path, (DAY_START_S, DAY_START_S))
    return series


def ask(site: Site, series: Series, method: str = "GET", **fields: str) -> Answer:
    """A data request with these fields; underscores stand for hyphens."""
    named = [(name.replace("_", "-"), value) for name, value in fields.items()]
    return site.ask(data_target(series), method=method, fields=named)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_the_client_has_is_not_sent_again(site: Site, filled: Series, method: str) -> None:
    """304 for its tag, weak or among others, and for the date it was given; no content follows."""
    whole = site.data(filled)
    etag, date = whole.fields["etag"], whole.fields["last-modified"]
    for fields in (
        {"If_None_Match": etag},
        {"If_None_Match": f'"x", W/{etag}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": date},
        {"If_None_Match": etag, "If_Modified_Since": formatdate(0, usegmt=True)},
        {"If_None_Match": etag, "Range": "bytes=0-1"},
    ):
        answer = ask(site, filled, method, **fields)
        assert (answer.status, answer.content) == (304, b"")
        assert answer.fields["etag"] == etag
        assert answer.fields["cache-control"] == whole.fields["cache-control"]
        assert answer.fields["access-control-allow-origin"] == "*"
        assert not answer.fields.keys() & NOT_IN_304


def test_what_the_client_has_not_is_sent(site: Site, filled: Series) -> None:
    """200 for another tag, an older date, and for fields that are to be ignored."""
    body, date = site.expected(filled), site.data(filled).fields["last-modified"]
    before = formatdate(parsedate_to_datetime(date).timestamp() - 1, usegmt=True)
    for fields in (
        {"If_None_Match": '"x"'},
        {"If_None_Match": '"x"', "If_Modified_Since": date},
        {"If_Modified_Since": before},
        {"If_Modified_Since": "yesterday"},
        {"If_Unmodified_Since": date},
        {"If_Unmodified_Since": "yesterday"},
        {"If_Match": "*"},
        {"If_Match": "*", "If_Unmodified_Since": before},
    ):
        answer = ask(site, filled, **fields)
        assert (answer.status, answer.content) == (200, body), fields


def test_what_the_client_does_not_want_is_refused(site: Site, filled: Series) -> None:
    """412 as a problem document, before a range is looked at."""
    whole = site.data(filled)
    etag, date = whole.fields["etag"], whole.fields["last-modified"]
    before = formatdate(parsedate_to_datetime(date).timestamp() - 1, usegmt=True)
    for fields in (
        {"If_Match": '"x"'},
        {"If_Match": f"W/{etag}"},
        {"If_Match": '"x"', "If_None_Match": etag},
        {"If_Match": '"x"', "Range": "bytes=0-1"},
        {"If_Unmodified_Since": before},
        {"If_Unmodified_Since": before, "If_None_Match": etag},
    ):
        answer = ask(site, filled, **fields)
        assert answer.status == 412, fields
        assert answer.fields["content-type"] == "application/problem+json"


def test_tag_of_a_grown_day_no_longer_matches(site: Site, filled: Series) -> None:
    """A client that polls with its tag sees every append, plan used again or not."""
    paths = [path_of(site.root, column, DAY, filled) for column in ("time", "price")]
    target = data_target(filled)
    with site.session() as session:
        for number in range(3):
            age(*paths, folder(site.root, filled))
            whole = session.request(target)
            fields = [("If-None-Match", whole.fields["etag"])]
            for _ in range(4):
                assert session.request(target, fields=fields).status == 304
            append(paths[1], marks(1))
            append(paths[0], u32(DAY_START_S + 80_000 + number))
            answer = session.request(target, fields=fields)
            assert (answer.status, answer.content) == (200, site.expected(filled))


def test_preconditions_of_what_is_no_200_are_ignored(site: Site, filled: Series) -> None:
    """RFC 9110 section 13.2.1: 404, 400, 405 and 204 stay what they are."""
    fields = [("If-None-Match", "*"), ("If-Match", '"x"'), ("Range", "bytes=0-1")]
    missing = data_target(filled, columns=("none",))
    assert site.ask(missing, fields=fields).status == 404
    assert site.ask("/api/data", fields=fields).status == 400
    assert site.ask("/nowhere", fields=fields).status == 404
    assert site.ask(data_target(filled), method="POST", fields=fields).status == 405
    assert site.ask(data_target(filled), method="OPTIONS", fields=fields).status == 204


@each("target", ["/healthz", "/readyz", "/api/symbols", "/openapi.json"])
@each("method", ["GET", "HEAD"])
def test_documents_have_a_tag_of_their_content_and_no_date(
    site: Site, target: str, method: str
) -> None:
    """Who has one gets 304 for its tag, on a kept connection as on a new one; no date matches."""
    whole = site.ask(target)
    etag = whole.fields["etag"]
    assert etag[0] == etag[-1] == '"'
    with site.session() as session:
        for asked in ("*", etag, f'"x", W/{etag}'):
            for _ in range(3):
                known = [("If-None-Match", asked)]
                answer = session.request(target, method=method, fields=known)
                assert (answer.status, answer.content) == (304, b"")
                assert answer.fields["etag"] == etag
                assert not answer.fields.keys() & NOT_IN_304
        date = formatdate(4e9, usegmt=True)
        for field in (("If-None-Match", '"x"'), ("If-Match", etag), ("If-Modified-Since", date)):
            answer = session.request(target, method=method, fields=[field])
            assert (answer.status, answer.fields["etag"]) == (200, etag)
            assert answer.content == (whole.content if method == "GET" else b"")
    assert site.ask(target, method=method, fields=[("If-Match", '"x"')]).status == 412


def test_tag_of_the_symbols_follows_the_files(site: Site, filled: Series) -> None:
    """Asking with the tag costs no content until a file changes, and then shows the change."""
    for target in ("/api/symbols", "/api/symbols?exchange=coinbase"):
        etag = site.ask(target).fields["etag"]
        assert site.ask(target, fields=[("If-None-Match", etag)]).status == 304
        second = int(os.stat(path_of(site.root, "price", DAY, filled)).st_mtime) + 1
        os.utime(path_of(site.root, "price", DAY, filled), (second, second))
        answer = site.ask(target, fields=[("If-None-Match", etag)])
        assert (answer.status, answer.fields["etag"] == etag) == (200, False)
        assert json.loads(answer.content) == site.expected_symbols(
            "coinbase" if "=" in target else None
        )


def test_empty_answer_has_a_tag_and_no_date(site: Site, filled: Series) -> None:
    """A range of days without files: If-None-Match works, dates are ignored."""
    target = data_target(filled, 0, 86_399)
    whole = site.ask(target)
    assert "last-modified" not in whole.fields
    fields = [("If-None-Match", whole.fields["etag"])]
    assert site.ask(target, fields=fields).status == 304
    fields = [("If-Modified-Since", formatdate(4e9, usegmt=True))]
    assert site.ask(target, fields=fields).status == 200
    assert site.ask(target, fields=[("Range", "bytes=0-1")]).content == whole.content[:2]


def test_date_in_the_second_of_a_change_is_no_excuse(site: Site, series: Series) -> None:
    """A file changed twice within a second: the date that was sent for the first is not enough."""
    paths = put(site.root, {"time": u32(DAY_START_S), "price": marks(1)}, DAY, series)
    for number in range(20):
        date = site.data(series).fields["last-modified"]
        append(paths["price"], marks(1))
        append(paths["time"], u32(DAY_START_S + number))
        answer = ask(site, series, If_Modified_Since=date)
        assert (answer.status, answer.content) == (200, site.expected(series))


def test_removed_day_changes_the_tag(site: Site, filled: Series) -> None:
    """The newest file may stay the same: no date tells, the tag does."""
    day = DAY + timedelta(days=1)
    others = put(site.root, {"time": u32(DAY_START_S + 86_400), "price": marks(1)}, day, filled)
    etag = site.data(filled).fields["etag"]
    for path in others.values():
        os.unlink(path)
    answer = ask(site, filled, If_None_Match=etag)
    assert (answer.status, answer.content) == (200, site.expected(filled))
