"""Requests and responses as values."""

from __future__ import annotations

import dataclasses

import pytest

from tests.sources import Scatters
from zerocopy.core.http.messages import AnswerKey, Request, Response
from zerocopy.core.plan import Segment

FIELDS = ((b"host", b"a"), (b"accept", b"x"), (b"accept", b"y"), (b"x-accept", b"z"))


class NoSource(Scatters):
    """A source that nobody reads."""

    def fileno(self) -> int:
        """Fail: no test here sends anything."""
        raise NotImplementedError

    def read(self, offset: int, count: int) -> bytes:
        """Fail: no test here sends anything."""
        raise NotImplementedError

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:
        """Fail: no test here sends anything."""
        raise NotImplementedError

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """Fail: no test here sends anything."""
        raise NotImplementedError


SEGMENT = Segment(NoSource(), 4, 12)


@pytest.mark.parametrize(
    ("name", "values"),
    [(b"host", [b"a"]), (b"accept", [b"x", b"y"]), (b"cookie", []), (b"Accept", [])],
)
def test_request_values_are_all_of_that_name_in_order(name: bytes, values: list[bytes]) -> None:
    """Whole names only; names are lower-case by agreement and are not folded again."""
    assert Request(b"GET", b"/", FIELDS).values(name) == values


def test_request_is_a_value() -> None:
    """Equal by content, usable as a key, never changed."""
    request = Request(b"GET", b"/", FIELDS)
    assert request == Request(b"GET", b"/", FIELDS)
    assert len({request, Request(b"GET", b"/", FIELDS), Request(b"HEAD", b"/", FIELDS)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.method = b"HEAD"  # type: ignore[misc]


def test_response_counts_content_and_segments() -> None:
    """`nbytes` is the Content-Length: the header line and all data."""
    response = Response(200, FIELDS, b"header\n", (SEGMENT, SEGMENT))
    assert response.nbytes == 7 + 24
    assert response.segments == (SEGMENT, SEGMENT)
    assert (response.status, response.fields, response.content) == (200, FIELDS, b"header\n")


def test_response_may_be_empty_and_is_rendered_by_its_transport_later() -> None:
    """204 has neither content nor segments; `head_h1` begins unset and can be kept."""
    response = Response(204, ())
    assert (response.nbytes, response.content, response.segments) == (0, b"", ())
    assert response.head_h1 is None
    response.head_h1 = b"HTTP/1.1 204 No Content\r\n"
    assert not hasattr(response, "__dict__")


@pytest.mark.parametrize(("segments", "ends"), [((SEGMENT,), ()), ((), (12,))])
def test_response_with_a_count_that_cannot_be_right_is_a_programmers_error(
    segments: tuple[Segment, ...], ends: tuple[int, ...]
) -> None:
    """Segments without ends, or ends without segments, would break the framing."""
    with pytest.raises(AssertionError, match="an end for each"):
        Response(200, (), b"", segments, ends=ends)


@pytest.mark.parametrize(
    "name",
    [b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"range"],
)
def test_request_knows_that_its_fields_may_change_the_answer(name: bytes) -> None:
    """The fields of RFC 9110 sections 13 and 14.2, wherever they stand."""
    assert Request(b"GET", b"/", ((b"host", b"a"), (name, b"x"))).is_conditional


@pytest.mark.parametrize("name", [b"if-range", b"accept", b"ranges"])
def test_request_knows_that_its_fields_change_nothing(name: bytes) -> None:
    """If-Range alone asks for nothing, RFC 9110 section 13.1.5."""
    assert not Request(b"GET", b"/", ((b"host", b"a"), (name, b"range"))).is_conditional


@pytest.mark.parametrize(
    ("method", "is_head"), [(b"HEAD", True), (b"GET", False), (b"head", False)]
)
def test_request_knows_whether_its_response_has_content(method: bytes, *, is_head: bool) -> None:
    """RFC 9110 section 9.3.2; methods are case-sensitive."""
    assert Request(method, b"/", ()).is_head is is_head


def test_codings_choose_an_answer_only_where_it_has_several_forms() -> None:
    """Nor does a key ever mean that of another target, whatever stands in one."""

    def key(target: bytes, *fields: tuple[bytes, bytes]) -> AnswerKey:
        return Request(b"GET", target, fields).answer_key

    gzip, zstd = ((b"accept-encoding", coding) for coding in (b"gzip", b"zstd"))
    assert key(b"/api/data?symbol=A", gzip) == key(b"/api/data?symbol=A") == b"/api/data?symbol=A"
    text = b"/api/data?symbol=A&format=csv"
    keys = {key(text), key(text, gzip), key(text, zstd), key(text + b" gzip"), key(b"/", gzip)}
    assert len(keys) == 5
    assert key(text, gzip) == key(text, gzip, (b"range", b"bytes=0-1"))


def test_requests_of_two_networks_are_two() -> None:
    """Transports keep one object for equal requests of all connections."""
    first, again, other = (
        Request(b"GET", b"/api/data?symbol=A", (), network=network)
        for network in (b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x02")
    )
    assert first == again
    assert first != other
    assert other.unconditional().network == other.network
