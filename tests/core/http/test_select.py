"""What conditional fields make of an answer: the order of RFC 9110 section 13.2.2, and parts."""

from __future__ import annotations

from email.utils import formatdate
from itertools import product
from typing import TYPE_CHECKING

import pytest

from zerocopy.core.errors import PreconditionFailedError, RangeError
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.http.semantics import select
from zerocopy.core.http.validators import Validators, document_validators
from zerocopy.core.plan import in_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

NS = 1_000_000_000
NOW_S = 1_800_000_000.0
MODIFIED_S = 1_738_281_600
ETAG, OTHER, WEAK = b'"now"', b'"other"', b'W/"now"'
BEFORE, SAME, AFTER = (formatdate(MODIFIED_S + d, usegmt=True).encode() for d in (-1, 0, 1))
FIELDS = (
    (b"Content-Type", b"a/b"),
    (b"Cache-Control", b"no-cache"),
    (b"ETag", ETAG),
    (b"Accept-Ranges", b"bytes"),
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Last-Modified", SAME),
)
METADATA = {b"Content-Type", b"Accept-Ranges", b"Last-Modified"}


def whole(*, modified_ns: int = MODIFIED_S * NS + NS // 2, has_validators: bool = True) -> Response:
    """Ten bytes: four of content, six of a segment."""
    validators = Validators(ETAG, modified_ns) if has_validators else None
    return Response(200, FIELDS, b"0123", (in_memory(b"456789"),), validators=validators)


def ask(answer: Response, method: bytes = b"GET", **fields: bytes | list[bytes]) -> Response:
    """What a request with these fields gets of `answer`; underscores stand for hyphens."""
    lines = [
        (name.replace("_", "-").encode(), value)
        for name, values in fields.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    request = Request(method, b"/", tuple(lines))
    return select(request, answer, now_s=NOW_S, boundary=b"bnd")


def status_of(answer: Response, method: bytes = b"GET", **fields: bytes | list[bytes]) -> int:
    """The status alone, of an answer or of the error that becomes one."""
    try:
        return ask(answer, method, **fields).status
    except (PreconditionFailedError, RangeError) as error:
        return error.status


def body_of(response: Response) -> bytes:
    """What would be sent."""
    views = [s.source.view(s.offset, s.count) for s in response.segments]
    return response.content + b"".join(views)


# Each with the value of its condition; None where the field is as good as not there.
MATCHES = {
    ETAG: True, b"*": True, OTHER + b", " + ETAG: True, OTHER: False, WEAK: False, b"now": False,
    b"": False,
}  # fmt: skip
NONE_MATCHES = {
    ETAG: False, b"*": False, WEAK: False, OTHER + b"," + WEAK: False, OTHER: True, b"now": True,
}  # fmt: skip
UNMODIFIED = {AFTER: True, SAME: True, BEFORE: False, b"yesterday": None}
MODIFIED = {BEFORE: True, SAME: False, AFTER: False, b"yesterday": None}


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_preconditions_are_evaluated_in_order(method: bytes) -> None:
    """Every combination of the four fields against section 13.2.2, step by step."""
    answer = whole()
    names = ("if_match", "if_unmodified_since", "if_none_match", "if_modified_since")
    tables: tuple[Mapping[bytes, bool | None], ...] = (MATCHES, UNMODIFIED, NONE_MATCHES, MODIFIED)
    for values in product(*([None, *table] for table in tables)):
        fields = {n: v for n, v in zip(names, values, strict=True) if v is not None}
        holds = [None if v is None else t[v] for t, v in zip(tables, values, strict=True)]
        match, unmodified, none_match, modified = holds
        expected = 200
        if match is False or (values[0] is None and unmodified is False):
            expected = 412
        elif none_match is False or (values[2] is None and modified is False):
            expected = 304
        assert status_of(answer, method, **fields) == expected, fields


def test_fields_of_several_lines() -> None:
    """Tags are a list over all lines; a date that is there twice is none."""
    assert status_of(whole(), if_none_match=[OTHER, ETAG]) == 304
    assert status_of(whole(), if_match=[OTHER, ETAG]) == 200
    assert status_of(whole(), if_modified_since=[AFTER, AFTER]) == 200
    assert status_of(whole(), if_unmodified_since=[BEFORE, BEFORE]) == 200


def test_dates_may_be_of_the_obsolete_form() -> None:
    """Two digits of a year need the clock: here 2025, and 1997."""
    same, long_ago = b"Friday, 31-Jan-25 00:00:00 GMT", b"Sunday, 06-Nov-97 08:49:37 GMT"
    assert status_of(whole(), if_modified_since=same) == 304
    assert status_of(whole(), if_modified_since=long_ago) == 200
    assert status_of(whole(), if_unmodified_since=same) == 200
    assert status_of(whole(), if_unmodified_since=long_ago) == 412


def test_412_says_which_condition_failed() -> None:
    """In a sentence for the client."""
    with pytest.raises(PreconditionFailedError) as caught:
        ask(whole(), if_match=OTHER)
    assert caught.value.detail == "the entity tag is not among those of If-Match"
    with pytest.raises(PreconditionFailedError) as caught:
        ask(whole(), if_unmodified_since=BEFORE)
    assert caught.value.detail == "the data changed after the date of If-Unmodified-Since"


def test_dates_say_nothing_of_an_answer_without_files() -> None:
    """Sections 13.1.3 and 13.1.4: without a modification date the fields are ignored."""
    assert status_of(whole(modified_ns=0), if_modified_since=AFTER) == 200
    assert status_of(whole(modified_ns=0), if_unmodified_since=BEFORE) == 200


def test_answer_without_validators_knows_only_the_asterisk() -> None:
    """It exists, and has no tag that could match, no date, no parts."""
    answer = whole(has_validators=False)
    assert status_of(answer, if_none_match=b"*") == 304
    assert status_of(answer, if_none_match=ETAG) == 200
    assert status_of(answer, if_match=b"*") == 200
    assert status_of(answer, if_match=ETAG) == 412
    assert status_of(answer, if_modified_since=AFTER) == 200
    assert status_of(answer, range=b"bytes=0-1") == 200


def test_document_has_the_tag_of_its_bytes_no_date_and_no_parts() -> None:
    """Equal bytes, equal tag; a Range is ignored where the answer does not offer any."""
    validators = document_validators(b"{}")
    assert validators == document_validators(bytes(bytearray(b"{}")))
    assert validators.etag != document_validators(b"[]").etag
    fields = (*FIELDS[:2], (b"ETag", validators.etag))
    answer = Response(200, fields, b"{}", validators=validators)
    assert status_of(answer, if_none_match=validators.etag) == 304
    assert status_of(answer, if_none_match=ETAG) == 200
    assert status_of(answer, if_match=validators.etag) == 200
    assert status_of(answer, if_match=ETAG) == 412
    assert status_of(answer, if_modified_since=AFTER) == 200
    assert status_of(answer, if_unmodified_since=BEFORE) == 200
    assert status_of(answer, range=b"bytes=0-0") == 200


def test_304_has_what_a_cache_updates_and_nothing_else() -> None:
    """Section 15.4.5; made once for an answer, so that a transport renders it once."""
    answer = whole()
    unchanged = ask(answer, if_none_match=ETAG)
    assert unchanged.fields == tuple(field for field in FIELDS if field[0] not in METADATA)
    assert (unchanged.content, unchanged.segments, unchanged.nbytes) == (b"", (), 0)
    assert ask(answer, if_modified_since=AFTER) is unchanged


def test_answer_without_conditions_is_the_answer() -> None:
    """The very object, with all that was rendered of it."""
    answer = whole()
    assert ask(answer) is answer
    assert ask(answer, if_range=ETAG) is answer
    assert ask(answer, range=b"records=1-2") is answer
    assert ask(answer, range=b"bytes=2-1") is answer
    assert ask(answer, range=[b"bytes=0-1", b"bytes=2-3"]) is answer
    assert ask(answer, b"HEAD", range=b"bytes=0-1") is answer


def test_one_range_is_a_part() -> None:
    """206 with the fields of the whole and its Content-Range: section 15.3.7.1."""
    part = ask(whole(), range=b"bytes=2-7")
    assert part.status == 206
    assert part.fields == (*FIELDS, (b"Content-Range", b"bytes 2-7/10"))
    assert (body_of(part), part.nbytes) == (b"234567", 6)


def test_all_of_it_is_still_a_part() -> None:
    """A range that happens to be everything was asked for as a range."""
    part = ask(whole(), range=b"bytes=0-")
    assert (part.status, body_of(part)) == (206, b"0123456789")
    assert part.fields[-1] == (b"Content-Range", b"bytes 0-9/10")


def test_several_ranges_are_a_multipart() -> None:
    """Content-Type names the boundary, each part its own type and place; section 15.3.7.2."""
    part = ask(whole(), range=b"bytes=8-, 0-1")
    body = (
        b"--bnd\r\nContent-Type: a/b\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n"
        b"--bnd\r\nContent-Type: a/b\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n--bnd--\r\n"
    )
    assert part.fields[0] == (b"Content-Type", b"multipart/byteranges; boundary=bnd")
    assert part.fields[1:] == FIELDS[1:]
    assert (part.status, body_of(part), part.nbytes) == (206, body, len(body))


def test_several_ranges_of_which_one_is_left_are_a_single_part() -> None:
    """Joined, or the only one there is: no multipart is needed."""
    for wanted in (b"bytes=0-3,2-5", b"bytes=0-5,10-", b"bytes=99-,0-5,-0"):
        part = ask(whole(), range=wanted)
        assert part.fields[-1] == (b"Content-Range", b"bytes 0-5/10")
        assert body_of(part) == b"012345"


@pytest.mark.parametrize("wanted", [b"bytes=10-", b"bytes=-0", b"bytes=" + b"0-0," * 17])
def test_ranges_that_cannot_be_had(wanted: bytes) -> None:
    """416, unless a precondition says something first."""
    assert status_of(whole(), range=wanted) == 416
    assert status_of(whole(), range=wanted, if_none_match=ETAG) == 304
    assert status_of(whole(), range=wanted, if_match=OTHER) == 412
    assert status_of(whole(), range=wanted, if_range=OTHER) == 200


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        (ETAG, 206),
        (OTHER, 200),
        (WEAK, 200),  # strong comparison, section 13.1.5
        (SAME, 200),  # no date is a strong validator of a tree of files
        (AFTER, 200),
        (b"*", 200),
        (b"", 200),
        (ETAG + b", " + ETAG, 200),
        ([ETAG, ETAG], 200),
    ],
)
def test_range_only_of_what_the_client_has(condition: bytes | list[bytes], status: int) -> None:
    """If-Range compares strongly, and a part then leaves out what the client has already."""
    part = ask(whole(), range=b"bytes=0-1", if_range=condition)
    assert part.status == status
    if status == 206:
        kept = tuple(field for field in FIELDS if field[0] not in METADATA)
        assert part.fields == (*kept, (b"Content-Range", b"bytes 0-1/10"))


def test_coding_is_that_of_parts_and_not_of_what_holds_them() -> None:
    """One part says it; several say it each, for the multipart is in no coding; 304 does not."""
    coded = whole()
    coded.fields = (*FIELDS, (b"Content-Encoding", b"zstd"), (b"Vary", b"Accept-Encoding"))
    assert (b"Content-Encoding", b"zstd") in ask(coded, range=b"bytes=0-1").fields
    several = ask(coded, range=b"bytes=0-1,8-9")
    assert body_of(several).count(b"\r\nContent-Encoding: zstd\r\nContent-Range: ") == 2
    for part in (
        several,
        ask(coded, range=b"bytes=0-1", if_range=ETAG),
        ask(coded, range=b"bytes=0-1,8-9", if_range=ETAG),
        ask(coded, if_none_match=ETAG),
    ):
        assert b"Content-Encoding" not in dict(part.fields)
        assert dict(part.fields)[b"Vary"] == b"Accept-Encoding"


def test_multipart_with_if_range_keeps_its_own_type() -> None:
    """Its Content-Type is no metadata of the whole: it holds the boundary."""
    part = ask(whole(), range=b"bytes=0-1,4-5", if_range=ETAG)
    assert part.fields[0] == (b"Content-Type", b"multipart/byteranges; boundary=bnd")
    assert b"Content-Type: a/b" in body_of(part)


def test_other_answers_are_given_as_they_are() -> None:
    """Section 13.2.1: asking for more than a 200 is a programmer's error."""
    with pytest.raises(AssertionError, match="other answers"):
        ask(Response(404, ()), if_none_match=b"*")
